"""A backup's disks as they are read: of a VM that is off, or of one that runs on meanwhile."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from django.utils import timezone

from vms.backup.archive import Source
from vms.backup.intake import BLOCK
from vms.backup.nbd import Extent, NbdClient
from vms.errors import MonitorError, OutcomeUnknown, StateError, StorageError
from vms.models import VM
from vms.models.notes import note_work
from vms.operations.backupplan import Plan
from vms.operations.backupview import Memory, View
from vms.operations.base import Context, Guest
from vms.operations.drives import driver_of
from vms.operations.freeze import calm
from vms.operations.snapdisks import TPM, Held
from vms.operations.start import activate_volume, launch_context, storages_of
from vms.operations.steps import whole
from vms.operations.tpmcopy import settled
from vms.qemu import blocknodes, fleecing, storagedaemon
from vms.qemu.fleecing import Filtered
from vms.storage import fleece, image

NOTE = "backup"
"""In ``VM.draft`` while a backup is made: all that a worker needs to know that has to end it."""


@dataclass
class Reading:
    """Disks that stand still: ``sources`` by key. ``moment`` is when they were so, ``consistent`` whether the
    guest was off or its file systems whole then."""

    sources: dict[str, Source] = field(default_factory=dict)
    moment: datetime = field(default_factory=timezone.now)
    consistent: bool = True
    drives: list[Filtered] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    clients: list[NbdClient] = field(default_factory=list)


async def remember(ctx: Context, **more: Any) -> None:
    """Add to what is noted of this backup."""
    noted = {**ctx.vm.draft.get(NOTE, {}), **more}
    await ctx.db(note_work, ctx.vm, {NOTE: noted})


# ---- a VM that is off


async def open_off(ctx: Context, plan: Plan) -> Reading:
    """The disks of a VM without a process. Raises what went wrong."""
    reading = Reading()
    paths = await asyncio.to_thread(ctx.services.paths.prepare, plan.vm.vmid)
    ctx.on_undo("the reading of its disks", lambda: close(ctx, plan.vm, reading))
    graphs: dict[str, Mapping[str, Any]] = {}
    for held in plan.disks:
        if held.key == TPM:
            reading.sources[TPM] = await tpm_state(ctx, held)
        else:
            await activate_volume(ctx, held.key, held.volume)
            graphs[held.key] = graph_of(ctx, plan, held.key)["file"]
    if graphs:
        await storagedaemon.start(paths, graphs, user=ctx.services.user)
    ctx.step("disks open")
    for key in graphs:
        client = await NbdClient.connect(str(paths.backup), key)
        reading.clients.append(client)
        reading.sources[key] = client
    return reading


async def tpm_state(ctx: Context, held: Held) -> Memory:
    """The TPM's state; its guest stands still or is off."""
    content = await settled(driver_of(ctx, held.volume.storage).path(held.volume.volid))
    return Memory(content, held.volume.size)


def graph_of(ctx: Context, plan: Plan, key: str) -> dict[str, Any]:
    """What the machine opens behind the drive, on the machine that runs if there is one."""
    facts = replace(ctx.services.facts, storages=storages_of(plan.vm))
    context = launch_context(ctx, plan.vm, facts, {})
    if plan.vm.running:
        context = replace(context, machine=str(plan.vm.launch.get("machine", "")))
    return blocknodes.drive_graph(plan.mapping, context, key, "")


# ---- a VM that runs


async def open_live(ctx: Context, plan: Plan, guest: Guest, *, freeze: bool, go_on: bool) -> Reading:
    """The disks of a VM with a process, as they are at one moment. ``freeze``: with the agent's help;
    ``go_on``: the guest was only started for this and runs from then on."""
    monitor, reading = guest.monitor, Reading()
    guest.kept = True
    ctx.on_undo("the reading of its disks", lambda: close(ctx, plan.vm, reading))
    keys = [held.key for held in plan.disks if held.key != TPM]
    drives = [await fleecing.filtered(monitor, key, graph_of(ctx, plan, key)) for key in keys]
    check_same(ctx, plan, drives, await blocknodes.drives(monitor))
    folders = {held.key: fleece_folder(ctx, plan, held) for held in plan.disks}
    await remember(ctx, drives=[asdict(one) for one in drives], folders=sorted(map(str, folders.values())))
    reading.drives = drives
    for drive in drives:
        descriptor = await whole(fleece.make(folders[drive.key], plan.vm.vmid, drive.size))
        try:
            ctx.step(f"fleece for {drive.key}")
            await whole(fleecing.open_fleece(monitor, drive, descriptor))
        finally:
            os.close(descriptor)
    before = await allocations(ctx, plan)
    await remember(ctx, holding=True)
    if freeze:
        async with calm(ctx, guest, plan.mapping) as reading.consistent:
            if reading.consistent:
                ctx.step("frozen")
            await whole(_moment(ctx, plan, guest, reading, go_on))
    else:
        reading.consistent = go_on
        await whole(_moment(ctx, plan, guest, reading, go_on))
    await remember(ctx, holding=False)
    # What the guest gave up between the two looks would be missing in one of them.
    after = await allocations(ctx, plan)
    for drive in drives:
        path = socket_of(ctx, plan.vm.vmid, drive.key)
        view = View(ctx, guest, drive, path, joined(drive.size, before[drive.key], after[drive.key]))
        reading.views.append(view)
        reading.sources[drive.key] = view
    await ctx.services.observe(plan.vm.vmid)
    ctx.step("ready")
    return reading


def check_same(ctx: Context, plan: Plan, drives: list[Filtered], opened: list[blocknodes.BlockNodes]) -> None:
    """Raise :class:`StateError` unless QEMU has those volumes open that the configuration names."""
    by_top = {one.top: one.filename for one in opened}
    files = {drive.key: by_top.get(drive.top, "") for drive in drives}
    for held in plan.disks:
        driver = driver_of(ctx, held.volume.storage)
        if held.key in files and not driver.opened_as(held.volume.volid, files[held.key]):
            raise StateError(f"{held.key}: QEMU has '{files[held.key]}' open, not '{held.volume.volid}'")


def fleece_folder(ctx: Context, plan: Plan, held: Held) -> Path:
    """Where the fleece of a disk goes: the storage chosen for it, the disk's own, or the backup's."""
    for storage in (plan.fleece, held.volume.storage):
        if storage is not None and storage.path:
            return Path(storage.path) / "images"
    return Path(plan.storage.path) / "dump"


async def _moment(ctx: Context, plan: Plan, guest: Guest, reading: Reading, go_on: bool) -> None:
    """Let the guest stand still, put the filters in, let it go on."""
    began = time.monotonic()
    guest.held = True
    try:
        async with fleecing.standing(guest.monitor):
            ctx.step("standing still")
            for held in plan.disks:
                if held.key == TPM:
                    reading.sources[TPM] = await tpm_state(ctx, held)
            await fleecing.insert(guest.monitor, reading.drives)
            ctx.step("filters in")
            reading.moment = timezone.now()
        if go_on:
            await guest.monitor.cont()
    finally:
        guest.held = False
    await ctx.log(f"the guest stood still for {time.monotonic() - began:.2f} s")


def socket_of(ctx: Context, vmid: int, key: str) -> Path:
    """Where a drive of a running guest arrives."""
    return Path(ctx.services.paths.vm(vmid).folder) / f"backup-{key}.sock"


async def allocations(ctx: Context, plan: Plan) -> dict[str, list[Extent]]:
    """Where the disks have data, by their files: all of a disk where that cannot be told."""
    found: dict[str, list[Extent]] = {}
    for held in plan.disks:
        if held.key == TPM:
            continue
        try:
            volume = await driver_of(ctx, held.volume.storage).find(held.volume.volid)
            told = await image.allocation(volume.path, volume.format, user=ctx.services.user)
            found[held.key] = [Extent(offset, length) for offset, length in told]
        except StorageError as error:
            await ctx.log(f"{held.key}: read as a whole, for what it holds cannot be told ({error})")
            found[held.key] = [Extent(0, held.volume.size)]
    return found


def joined(size: int, *lists: list[Extent]) -> list[Extent]:
    """What is in any of the lists, in order, in whole blocks of the intake's within ``size`` bytes."""
    found: list[Extent] = []
    for one in sorted((one for extents in lists for one in extents), key=lambda one: one.offset):
        begin, end = one.offset // BLOCK * BLOCK, min(-(-one.end // BLOCK) * BLOCK, size)
        if found and begin <= found[-1].end:
            begin, end = found[-1].offset, max(end, found[-1].end)
            found.pop()
        if end > begin:
            found.append(Extent(begin, end - begin))
    return found


async def close(ctx: Context, vm: VM, reading: Reading) -> None:
    """End the reading; whatever was put into a running machine is taken out. Safe to do twice."""
    guest = ctx.services.guest(vm.vmid)
    try:
        if guest is not None and reading.drives:
            await remember(ctx, holding=guest.status == VM.Status.RUNNING)
            await take_out(ctx, guest, reading.drives)
            await remember(ctx, holding=False)
    finally:
        for client in reading.clients:
            await client.close()
        for view in reading.views:
            await view.close()
        reading.clients.clear()
        reading.views.clear()
        reading.drives = []
        if guest is not None:
            guest.kept = False
            await ctx.services.observe(vm.vmid)
    if guest is None:
        await storagedaemon.stop(ctx.services.paths.vm(vm.vmid))
        await ctx.services.clean(vm.vmid)


async def take_out(ctx: Context, guest: Guest, drives: list[Filtered]) -> None:
    """Take filters, views, exports and fleeces out of the machine. It may be about to end."""
    guest.held = True
    try:
        await whole(fleecing.withdraw(guest.monitor, drives))
    except (MonitorError, OutcomeUnknown):
        if not await ctx.services.gone(guest.vmid, 5):
            raise
    finally:
        guest.held = False


async def while_whole(ctx: Context, plan: Plan, reading: Reading, work: Awaitable[None]) -> None:
    """Do ``work`` as long as every disk can be read; raises at once why one no longer can."""
    tasks = [asyncio.ensure_future(work), *(asyncio.ensure_future(view.broken()) for view in reading.views)]
    if reading.views:
        tasks.append(asyncio.ensure_future(_ended(ctx, plan.vm.vmid)))
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ended(ctx: Context, vmid: int) -> None:
    """Wait for the end of the VM's process, which raises."""
    while not await ctx.services.gone(vmid, 3600):
        continue
    raise StorageError("NBD: QEMU has gone")


async def forget(ctx: Context) -> None:
    """Nothing of a backup has to be ended any more."""
    await ctx.db(note_work, ctx.vm, {})


def forget_at_end(ctx: Context) -> None:
    """Nothing of it has to be ended once its task has; until then the archive is known to be this task's."""
    ctx.on_undo("its notes", lambda: forget(ctx))
    ctx.at_end(lambda: note_work(ctx.vm, {}))
