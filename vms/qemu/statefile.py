"""A guest's memory in a file: written by one QEMU, read by the next.

The file is opened by us and handed over as a descriptor, because QEMU's sandbox starts no programs and its
user need not reach the path. A QEMU that reads one must be given the machine and the processor of the one
that wrote it. A start only reads the file: several guests may begin from it at the same time, each with a
descriptor of its own.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

from vms.errors import MonitorError, OutcomeUnknown, QemuError, StorageError
from vms.qemu.monitor import Event, Monitor

FASTEST = 8 << 30
"""Bytes a second a state may be written with: no limit in practice."""
GLANCE = 0.5
"""Seconds between two looks at how far it is; the end is told by an event."""
NAME = "state"
BUSY = ("setup", "active", "device", "cancelling")
"""What ``query-migrate`` says while memory is being written."""

Progress = Callable[[float], Awaitable[None]]
"""Hears how far it is, 0 to 1."""


def opened(path: Path, *, writing: bool = False, keep: bool = False) -> int:
    """A descriptor of a state file that exists; close it after use. ``writing`` empties it unless it is to
    ``keep`` its place.

    Raises :class:`StorageError` for what is missing or no plain file.
    """
    flags = (os.O_WRONLY | (0 if keep else os.O_TRUNC)) if writing else os.O_RDONLY
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise StorageError(f"saved memory {path} cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StorageError(f"saved memory {path} is no plain file")
    return descriptor


async def save(monitor: Monitor, descriptor: int, progress: Progress | None = None) -> None:
    """Write the memory of a guest that stands still into ``descriptor``; :func:`settle` it afterwards.

    QEMU is left in run state ``postmigrate``: ``cont`` lets the guest go on, ``quit`` ends it. When it fails
    (:class:`QemuError` with QEMU's reason) or is cancelled, the guest stands still as before.
    """
    changed = asyncio.Event()

    def heard(event: Event) -> None:
        if event.name == "MIGRATION":
            changed.set()

    await monitor.execute(
        "migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]}
    )
    await monitor.execute("migrate-set-parameters", {"max-bandwidth": FASTEST})
    await monitor.send_fd(NAME, descriptor)
    stop_hearing = monitor.on_event(heard)
    try:
        await monitor.execute("migrate", {"uri": f"fd:{NAME}"})
        await _written(monitor, changed, progress)
    except BaseException:
        await abandon(monitor)
        raise
    finally:
        stop_hearing()


async def settle(descriptor: int) -> None:
    """Return when what was written is on the disk. Raises :class:`QemuError`."""
    try:
        await asyncio.to_thread(os.fsync, descriptor)
    except OSError as error:
        raise QemuError(f"the memory could not be saved: {error.strerror}") from error


async def _written(monitor: Monitor, changed: asyncio.Event, progress: Progress | None) -> None:
    while True:
        changed.clear()
        told = await monitor.execute("query-migrate")
        status = told.get("status")
        if status == "completed":
            # Told a moment before QEMU has tidied up; until then it refuses to let the guest go on.
            while await monitor.query_status() == "finish-migrate":  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            return
        if status in ("failed", "cancelled"):
            raise QemuError(f"the memory could not be saved: {told.get('error-desc') or status}")
        if progress is not None and told.get("ram", {}).get("total"):
            await progress(1 - told["ram"]["remaining"] / told["ram"]["total"])
        await _wait(changed)


async def _wait(changed: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(GLANCE):
            await changed.wait()
    except TimeoutError:
        pass


async def abandon(monitor: Monitor) -> None:
    """Stop what writes or wrote a guest's memory; returns when QEMU no longer does, or is no more."""
    try:
        await monitor.execute("migrate_cancel")
        while (await monitor.execute("query-migrate")).get("status") in BUSY:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    except (MonitorError, OutcomeUnknown):
        pass  # it never began, or QEMU has ended: then it writes no more either


def incoming(descriptor: int) -> list[str]:
    """The arguments that make a QEMU begin with the memory in ``descriptor``, standing still.

    The descriptor is passed to the process under its own number; QEMU moves its offset.
    """
    return ["-S", "-incoming", f"fd:{descriptor}"]


async def load(monitor: Monitor, descriptor: int, timeout: float, progress: Progress | None = None) -> None:
    """Wait until a QEMU started with :func:`incoming` has read its memory; the guest stands still.

    Raises :class:`MonitorError` or :class:`OutcomeUnknown` when QEMU ends over it (its log says why), or is
    not done within ``timeout`` seconds.
    """
    size = os.fstat(descriptor).st_size
    asked = asyncio.ensure_future(_arrived(monitor, timeout))
    try:
        while not asked.done():
            await asyncio.wait([asked], timeout=GLANCE)
            if progress is not None and size and not asked.done():
                await progress(os.lseek(descriptor, 0, os.SEEK_CUR) / size)
    finally:
        asked.cancel()
    await asked


async def _arrived(monitor: Monitor, timeout: float) -> None:
    """QEMU reads in one go and answers afterwards; some versions answer in between."""
    try:
        async with asyncio.timeout(timeout):
            while await _run_state(monitor, timeout) == "inmigrate":  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise OutcomeUnknown(f"the saved memory was not read within {timeout:g} seconds") from None


async def _run_state(monitor: Monitor, timeout: float) -> str:
    return str((await monitor.execute("query-status", timeout=timeout))["status"])
