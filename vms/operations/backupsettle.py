"""After the death of a worker: what it left of a backup is ended, whatever it was doing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from vms.errors import MonitorError, OutcomeUnknown, VMError
from vms.host.paths import remove_socket
from vms.models import Storage
from vms.models.configuration import config_of
from vms.operations import backupread, backupstop, backupwrite
from vms.operations.base import Context, Guest
from vms.operations.drives import driver_of
from vms.operations.freeze import thaw_left
from vms.qemu import storagedaemon
from vms.qemu.fleecing import Filtered
from vms.storage import dump, fleece


async def settle_left(ctx: Context) -> bool:
    """End what is left; answers whether the archive was complete, which then stays.

    The guest is thawed and goes on, its graph is as it was, no file and no process of the backup remains.
    """
    noted: dict[str, Any] = ctx.vm.draft.get(backupread.NOTE, {})
    if noted.get("task") != ctx.task.pk:
        return False  # it died before it did anything
    await ctx.services.observe(ctx.vm.vmid)
    guest = ctx.services.guest(ctx.vm.vmid)
    if guest is not None and guest.monitor is not None:
        await _free_guest(ctx, guest, noted)
    await storagedaemon.stop(ctx.services.paths.vm(ctx.vm.vmid))
    if guest is None:
        await ctx.services.clean(ctx.vm.vmid)
    for folder in noted.get("folders", ()):
        await asyncio.to_thread(fleece.clear, Path(folder), ctx.vm.vmid)
    complete = await _archive(ctx, noted)
    try:
        await backupstop.back(ctx)
    except VMError as error:
        await ctx.warn(f"VM {ctx.vm.vmid} was shut down for its backup and could not be started: {error}")
    if complete:
        backupread.forget_at_end(ctx)
    else:
        await backupread.forget(ctx)
    return complete


async def _free_guest(ctx: Context, guest: Guest, noted: dict[str, Any]) -> None:
    drives = [Filtered(**one) for one in noted.get("drives", ())]
    for drive in drives:
        await asyncio.to_thread(remove_socket, backupread.socket_of(ctx, guest.vmid, drive.key))
    try:
        await backupread.take_out(ctx, guest, drives)
        if noted.get("holding") and await guest.monitor.query_status() == "paused":
            await guest.monitor.cont()
    except (MonitorError, OutcomeUnknown) as error:
        await ctx.warn(f"VM {ctx.vm.vmid} may still have filters of this backup: {error}")
    await thaw_left(ctx, guest, config_of(ctx.vm))
    await ctx.services.observe(ctx.vm.vmid)


async def _archive(ctx: Context, noted: dict[str, Any]) -> bool:
    """Whether the archive is whole; one that is not is removed."""
    storage = await ctx.db(Storage.objects.filter(name=noted.get("storage")).first)
    if storage is None:
        return False
    folder, name = driver_of(ctx, storage).dump_folder, str(noted["archive"])
    if not await asyncio.to_thread((folder / name).exists):
        await asyncio.to_thread(dump.abandon, folder, name)
        return False
    await backupwrite.settle(ctx, storage, name)
    await backupwrite.make_room(ctx, storage)
    return True
