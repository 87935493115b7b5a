"""Memory in a file: saved by one QEMU, read by others, refused when it is broken, given up when told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from smallest import minimal

from vms.errors import LaunchError, QemuError, StorageError
from vms.host.paths import RunPaths
from vms.qemu import process, statefile
from vms.qemu.process import Launched

Start = Callable[..., Awaitable[Launched]]


@pytest.fixture
async def start(runs: RunPaths) -> AsyncIterator[Start]:
    """``await start(101, "-incoming", …)``: the smallest QEMU with 64 MiB; it ends with the test."""
    async with AsyncExitStack() as ends:

        async def begin(vmid: int, *extra: str, pass_fds: tuple[int, ...] = ()) -> Launched:
            paths = runs.prepare(vmid)
            argv = minimal(paths, *extra)
            argv[argv.index("-m") + 1] = "64"
            launched = await process.launch(argv, qmp=paths.qmp, log=paths.log, pass_fds=pass_fds)
            ends.push_async_callback(process.terminate, launched.running, 0.5)
            ends.push_async_callback(launched.monitor.close)
            return launched

        yield begin


async def saved(launched: Launched, path: Path) -> None:
    path.touch(0o600)
    descriptor = statefile.opened(path, writing=True)
    try:
        await statefile.save(launched.monitor, descriptor)
        await statefile.settle(descriptor)
    finally:
        os.close(descriptor)


async def resumed(start: Start, path: Path, vmid: int) -> Launched:
    descriptor = statefile.opened(path)
    try:
        launched = await start(vmid, *statefile.incoming(descriptor), pass_fds=(descriptor,))
        await statefile.load(launched.monitor, descriptor, 30)
    finally:
        os.close(descriptor)
    return launched


async def test_several_guests_go_on_from_one_file(start: Start, short: Path) -> None:
    """The writer goes on too; a broken file ends in QEMU's own words."""
    first = await start(101)
    await saved(first, short / "state")
    assert await first.monitor.query_status() == "postmigrate"
    await first.monitor.cont()
    assert await first.monitor.query_status() == "running"
    both = await asyncio.gather(*(resumed(start, short / "state", vmid) for vmid in (102, 103)))
    for one in both:
        assert await one.monitor.query_status() in ("prelaunch", "paused")
        await one.monitor.cont()
    size = (short / "state").stat().st_size
    os.truncate(short / "state", size // 2)
    with pytest.raises((LaunchError, QemuError)):
        await resumed(start, short / "state", 104)


async def test_no_room_leaves_the_guest_as_it_was(start: Start) -> None:
    guest = await start(101)
    await guest.monitor.cont()
    await guest.monitor.stop()
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(QemuError, match="No space left"):
        await statefile.save(guest.monitor, full)
    os.close(full)
    await guest.monitor.cont()
    assert await guest.monitor.query_status() == "running"


async def test_cancelled_in_the_middle(start: Start, short: Path) -> None:
    """A reader that does not read: the save stands still until it is cancelled, then the guest goes on."""
    guest = await start(101)
    reader, writer = os.pipe()
    work = asyncio.create_task(statefile.save(guest.monitor, writer))
    try:
        async with asyncio.timeout(10):
            while (await guest.monitor.execute("query-migrate")).get("status") != "active":
                await asyncio.sleep(0)
        work.cancel()
        async with asyncio.timeout(10):  # reading before QEMU heard of it would let the save come to its end
            while (await guest.monitor.execute("query-migrate")).get("status") == "active":
                await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await drained(work, reader)
    finally:
        os.close(reader)
        os.close(writer)
    assert (await guest.monitor.execute("query-migrate"))["status"] == "cancelled"
    await guest.monitor.cont()


async def drained(work: asyncio.Task[None], reader: int) -> None:
    """QEMU notices a cancellation between two writes: let the one it is in end."""
    os.set_blocking(reader, False)
    while not work.done():
        try:
            os.read(reader, 1 << 16)
        except BlockingIOError:
            await asyncio.sleep(0)
    await work


async def test_only_plain_files(short: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened"):
        statefile.opened(short / "missing")
    (short / "link").symlink_to("/etc/passwd")
    with pytest.raises(StorageError, match="cannot be opened"):
        statefile.opened(short / "link")
    os.mkfifo(short / "fifo")
    with pytest.raises(StorageError, match="no plain file"):
        statefile.opened(short / "fifo")
