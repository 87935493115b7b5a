"""The volumes of a clone: linked ones in a moment, full copies with progress over all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from vms.errors import ConfigError, StorageError
from vms.models import VM
from vms.operations import cloudinit, newborn
from vms.operations.base import Context
from vms.operations.clonelive import copy_live, source_guest
from vms.operations.cloneplan import Piece, Plan
from vms.operations.clonequick import at_once, copy_one, copy_still
from vms.operations.drives import driver_of
from vms.operations.steps import undoable
from vms.storage import base as storage_base
from vms.tasks.queue import ONLY_FOR

Made = dict[str, storage_base.Volume]
"""Drive → the clone's volume."""


async def remember(ctx: Context, plan: Plan) -> None:
    """Note what was there before, so that a clone that was cut short removes only its own."""
    before = await newborn.existing(ctx, plan.storages.values())
    notes = {"volumes_before": sorted(before), "storages": sorted(plan.storages)}
    ctx.vm.draft = {**ctx.vm.draft, ONLY_FOR: ctx.task.pk, **notes}
    await ctx.db(lambda: VM.everything.filter(pk=ctx.vm.pk).update(draft=ctx.vm.draft))


async def remove_left(ctx: Context) -> None:
    """Free what a worker that died has made for this clone."""
    draft = ctx.vm.draft
    await newborn.remove_left(ctx, draft.get("storages", []), draft.get("volumes_before", []))


# ---- making them


async def make(ctx: Context, plan: Plan) -> Made:
    """Every volume of the clone; slot → volume. Freed again unless the clone succeeds."""
    pieces = list(plan.made())
    copies = [piece for piece in pieces if piece.how == "copy"]
    slow = [piece for piece in copies if not await at_once(ctx, plan, piece)]
    await check_space(ctx, slow)
    made: Made = {}
    for piece in pieces:
        if piece.how != "copy":
            made[piece.slot] = await make_quickly(ctx, piece)
    guest = source_guest(ctx, plan)
    if guest is not None and copies and not slow:
        return made | await copy_still(ctx, plan, copies, guest)
    if guest is not None and copies:
        return made | await copy_live(ctx, plan, copies, guest)
    return made | await copy_all(ctx, plan, copies)


async def make_quickly(ctx: Context, piece: Piece) -> storage_base.Volume:
    """A linked clone of a base, or an empty cloud-init drive; moments either way."""
    volume, storage = piece.there
    driver = driver_of(ctx, storage)
    if piece.how == "link":
        work = driver.clone(ctx.vm.vmid, volume.volid)
    else:
        work = driver.allocate_seed(ctx.vm.vmid, cloudinit.blank(), piece.format)
    made = await kept(ctx, piece, work)
    how = "linked clone of" if piece.how == "link" else "new drive in the place of"
    await ctx.log(f"{piece.slot}: '{made.volid}' is a {how} '{volume.volid}'")
    ctx.step(f"{piece.slot} made")
    return made


async def kept(ctx: Context, piece: Piece, work: Any) -> storage_base.Volume:
    """Do what makes a volume, and register its end. Raises :class:`ConfigError` on the drive."""
    try:
        made: storage_base.Volume = await undoable(
            ctx, work, lambda made: f"volume {made.volid}", partial(newborn.discard, ctx, piece.there[1])
        )
    except StorageError as error:
        raise ConfigError(piece.slot, str(error), hint=error.hint) from error
    return made


async def check_space(ctx: Context, copies: Iterable[Piece]) -> None:
    """All copies together must fit, not only each of them; by what their sources take up now."""
    totals: dict[str, int] = defaultdict(int)
    for piece in copies:
        volume, storage = piece.there
        try:
            totals[storage.name] += (await driver_of(ctx, volume.storage).find(volume.volid)).used
            await driver_of(ctx, storage).check_space(totals[storage.name])
        except StorageError as error:
            raise ConfigError(piece.slot, str(error), hint=error.hint) from error


async def copy_all(ctx: Context, plan: Plan, copies: list[Piece]) -> Made:
    """Full copies of disks that nobody writes meanwhile, one after the other."""
    made: Made = {}
    whole = sum(piece.there[0].size for piece in copies) or 1
    done = 0
    for number, piece in enumerate(copies, 1):
        volume, storage = piece.there
        told = progress(
            ctx, done / whole, volume.size / whole, f"copying {piece.slot}, {number} of {len(copies)}"
        )
        await told(0)
        try:
            copied = await copy_one(ctx, plan, piece, told)
        except StorageError as error:
            raise ConfigError(piece.slot, str(error), hint=error.hint) from error
        made[piece.slot] = copied
        ctx.on_undo(f"volume {copied.volid}", partial(newborn.discard, ctx, storage, copied))
        await ctx.log(f"{piece.slot}: '{copied.volid}' is a full copy of '{volume.volid}'")
        ctx.step(f"{piece.slot} copied")
        done += volume.size
    return made


def progress(ctx: Context, begin: float, share: float, text: str) -> Callable[[float], Any]:
    """What one disk's copy tells becomes a part of the whole."""

    async def told(fraction: float) -> None:
        await ctx.progress(begin + share * fraction, text)

    return told
