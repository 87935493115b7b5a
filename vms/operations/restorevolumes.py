"""The disks of a restore: made new, written by the process that reads the archive, freed when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

from vms.backup.extraction import Extraction
from vms.errors import ConfigError, StateError, StorageError
from vms.hardware.volume import resolve
from vms.host.paths import make_folder
from vms.models import VM, Volume
from vms.models.notes import note_work
from vms.operations import cloudinit, newborn
from vms.operations.base import Context
from vms.operations.drives import driver_of
from vms.operations.restoreplan import Piece, Plan
from vms.operations.steps import undoable
from vms.qemu.diskserver import Export, disk_server, end_left
from vms.storage import base as storage_base
from vms.tasks.queue import ONLY_FOR

Made = dict[str, storage_base.Volume]
"""Drive → its new volume."""

BEFORE, STORAGES, GONE, SHOTS, DONE = "volumes_before", "storages", "gone", "shots", "restored"
"""What the VM's row remembers: the volumes that were there and where new ones are made; and, once the restore
is done, the old volumes and snapshots that are still to be freed and which task it was."""


def folder(ctx: Context) -> Path:
    """Where this task's socket lies."""
    return Path(ctx.services.paths.run_dir) / "nbd" / str(ctx.task.pk)


async def remember(ctx: Context, plan: Plan) -> None:
    """Note what was there before, so that a restore that was cut short removes only its own."""
    before = await newborn.existing(ctx, plan.storages.values())
    notes = {BEFORE: sorted(before), STORAGES: sorted(plan.storages)}

    def store() -> None:
        if ctx.vm.stage == VM.Stage.DRAFT:
            ctx.vm.draft = {**ctx.vm.draft, ONLY_FOR: ctx.task.pk, **notes}
            VM.everything.filter(pk=ctx.vm.pk).update(draft=ctx.vm.draft)
        else:
            note_work(ctx.vm, notes)

    await ctx.db(store)
    if ctx.vm.stage != VM.Stage.DRAFT:
        ctx.on_undo("its notes", lambda: ctx.db(note_work, ctx.vm, {}))


async def make(ctx: Context, plan: Plan, backup: Volume) -> Made:
    """A new volume for each piece; freed again unless the restore succeeds."""
    await check_space(ctx, plan, backup)
    made: Made = {}
    for piece in plan.pieces:
        made[piece.slot] = found = await _made(ctx, piece)
        await ctx.log(f"{piece.slot}: made '{found.volid}'")
        ctx.step(f"{piece.slot} made")
    return made


async def check_space(ctx: Context, plan: Plan, backup: Volume) -> None:
    """What is stored has to fit at the least; how much it becomes is known only when it is written."""
    for storage in plan.storages.values():
        await driver_of(ctx, storage).check_space(backup.size if len(plan.storages) == 1 else 0)


async def _made(ctx: Context, piece: Piece) -> storage_base.Volume:
    driver = driver_of(ctx, piece.storage)
    vmid = ctx.vm.vmid
    if piece.archived is None:
        work = driver.allocate_seed(vmid, cloudinit.blank(), piece.format)
    else:
        work = driver.allocate(vmid, piece.archived.size, piece.format, room=0)
    try:
        made: storage_base.Volume = await undoable(
            ctx, work, lambda made: f"volume {made.volid}", partial(newborn.discard, ctx, piece.storage)
        )
    except StorageError as error:
        raise ConfigError(piece.slot, str(error), hint=error.hint) from error
    return made


async def fill(ctx: Context, plan: Plan, made: Made, found: Extraction) -> None:
    """Write the archive's disks into the new volumes. Every byte is there and proved when this returns."""
    exports = []
    for piece in plan.pieces:
        if piece.archived is None:
            continue
        volume = await driver_of(ctx, piece.storage).activate(made[piece.slot].volid, piece.format)
        source = resolve(volume.volid, {piece.storage.name: piece.storage.facts()})
        name = piece.archived.member
        exports.append(Export(name=name, source=source, format=piece.format, writable=True))
    if not exports:
        await found.restore({}, partial(_progress, ctx))
        return
    async with serving(ctx, exports) as links:
        await found.restore(links, partial(_progress, ctx))
    for piece in plan.pieces:  # they take more room than a moment ago
        made[piece.slot] = await driver_of(ctx, piece.storage).find(made[piece.slot].volid)


@contextlib.asynccontextmanager
async def serving(ctx: Context, exports: list[Export]) -> AsyncIterator[dict[str, socket.socket]]:
    """A connected socket for each disk, by the name it is exported under."""
    place = folder(ctx)
    await asyncio.to_thread(make_folder, place.parent, os.geteuid(), os.getegid(), 0o711)
    links: dict[str, socket.socket] = {}
    async with disk_server(exports, place, user=ctx.services.user) as path:
        try:
            for export in exports:
                links[export.name] = link = socket.socket(socket.AF_UNIX)
                try:
                    await asyncio.to_thread(link.connect, str(path))
                except OSError as error:
                    raise StorageError(f"the new disks cannot be reached: {error.strerror}") from error
            yield links
        finally:
            for link in links.values():
                link.close()


async def _progress(ctx: Context, fraction: float, member: str) -> None:
    await ctx.progress(fraction, f"restoring {member}")


async def as_bases(ctx: Context, plan: Plan, made: Made) -> None:
    """A template's disks are read-only bases; its clones will lie on them."""
    for piece in plan.pieces:
        if piece.archived is None:
            continue
        driver = driver_of(ctx, piece.storage)
        work = driver.to_base(made[piece.slot].volid)
        made[piece.slot] = await undoable(
            ctx, work, lambda base: f"base {base.volid}", partial(_unbase, driver)
        )
        ctx.step(f"{piece.slot} is a base")


async def _unbase(driver: Any, base: storage_base.Volume) -> None:
    await driver.from_base(base.volid)


async def remove_left(ctx: Context) -> None:
    """End what a worker that died has left of this restore, and free what it made."""
    await end_left(folder(ctx))
    draft = ctx.vm.draft
    await newborn.remove_left(ctx, draft.get(STORAGES, []), draft.get(BEFORE, []))


async def free_old(ctx: Context, volids: list[str]) -> None:
    """Free the volumes the restore has replaced; what cannot be freed stays and is told."""
    for volid in volids:
        rows = await ctx.db(_unused_rows, ctx.vm, volid)
        for row in rows:
            try:
                await driver_of(ctx, row.storage).free(row.volid)
            except (StorageError, StateError) as error:
                await ctx.warn(f"the old volume '{volid}' was not removed: {error}")
                continue
            await ctx.db(row.delete)
            await ctx.log(f"removed the old volume '{volid}'")
            ctx.step("old volume freed")


def _unused_rows(vm: VM, volid: str) -> list[Volume]:
    """The rows of a volume nobody has in a drive."""
    storage, _, name = volid.partition(":")
    rows = Volume.objects.select_related("storage").filter(storage__name=storage, name=name, disks=None)
    return [row for row in rows if row.node_id in (None, vm.node_id) and row.vmid == vm.vmid]
