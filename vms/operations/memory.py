"""Saved memory: what it is, the machine it belongs to, and beginning a guest with it instead of booting."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vms.config.vmconfig import VMConfig
from vms.errors import LaunchError, MonitorError, OutcomeUnknown, StorageError
from vms.models import VM, Snapshot, Volume
from vms.models.configuration import config_of
from vms.operations.base import Context
from vms.qemu import process, statefile
from vms.qemu.process import Launched

T = TypeVar("T")

SLOWEST = 50 << 20
"""Bytes a second that saved memory is read with at the very least."""
PATIENCE = 300.0
"""Seconds a start with saved memory gets in any case, as in PVE."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """The memory a guest begins with. ``volume`` comes with its storage.

    ``machine`` is the versioned type (``pc-q35-7.2``) and ``cpu`` the whole value of ``-cpu`` it was saved
    under. ``spend`` is database work: it hears True at the last moment before the guest goes on, because then
    its disks change and the same memory no longer fits them, and False when it did not go on after all.
    """

    volume: Volume
    machine: str
    cpu: str
    spend: Callable[[bool], None] | None = None


def saved_in(holder: VM | Snapshot) -> Saved | None:
    """The memory a VM or a snapshot holds, if it holds one."""
    if holder.vmstate is None:
        return None
    keys = holder.saved if isinstance(holder, VM) else holder.running
    return Saved(
        volume=holder.vmstate, machine=str(keys.get("runningmachine", "")),
        cpu=str(keys.get("runningcpu", "")),
    )  # fmt: skip


def open_state(ctx: Context, state: Saved) -> int:
    """A descriptor of its own on the saved memory; close it. Raises :class:`StorageError`."""
    row = state.volume
    if not row.storage.enabled:
        raise StorageError(f"storage '{row.storage.name}', where the saved memory lies, is switched off")
    return statefile.opened(ctx.services.storage(row.storage.name, row.storage.facts()).path(row.volid))


def patience(descriptor: int) -> float:
    """Seconds QEMU gets to read the memory."""
    return max(PATIENCE, os.fstat(descriptor).st_size / SLOWEST)


async def read(ctx: Context, launched: Launched, argv: list[str], descriptor: int, log: Path) -> None:
    """Wait until QEMU has read its memory.

    Raises :class:`LaunchError` with QEMU's words when it ends over it.
    """

    async def told(fraction: float) -> None:
        await ctx.progress(fraction, "reading the saved memory")

    try:
        await statefile.load(launched.monitor, descriptor, patience(descriptor), told)
    except (MonitorError, OutcomeUnknown) as error:
        await process.terminate(launched.running, 1)
        words = process.tail(log, launched.began)
        raise LaunchError(argv, process.collect(launched.running.pid), words or str(error)) from error


async def set_clock(ctx: Context, vm: VM) -> None:
    """Tell a guest that goes on what time it is by now, if its agent is on and answers."""
    agent = VMConfig.parse(await ctx.db(config_of, vm)).get("agent")
    guest = ctx.services.guest(vm.vmid)
    if guest is None or agent is None or not agent.enabled or not await guest.agent.ping():
        return
    try:
        await guest.agent.execute("guest-set-time", {"time": time.time_ns()}, timeout=10)
    except (MonitorError, OutcomeUnknown) as error:
        await ctx.log(f"the guest's clock may be slow: {error}")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Do ``work`` whatever happens to the task meanwhile: a cancellation that comes now is too late."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
    return task.result()
