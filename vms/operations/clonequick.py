"""Full copies that share their blocks with the source: a moment each, also while the source runs.

The guest holds still for that moment, as it does at the end of a mirror, so that all copies show the same one
and QEMU has written what it had in memory.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from vms.errors import ConfigError, StorageError
from vms.models import VM
from vms.operations import newborn
from vms.operations.base import Context, Guest
from vms.operations.clonelive import note, still
from vms.operations.cloneplan import Piece, Plan
from vms.operations.drives import driver_of
from vms.operations.steps import undoable
from vms.storage import base as storage_base


async def at_once(ctx: Context, plan: Plan, piece: Piece) -> bool:
    """Whether the piece's copy takes a moment and no room."""
    volume, storage = piece.there
    if plan.snapshot or (volume.storage.pk == storage.pk and not storage.spec.files):
        return False
    try:
        found = await driver_of(ctx, volume.storage).find(volume.volid)
        quick: bool = await driver_of(ctx, storage).copies_at_once(found, piece.format)
    except (StorageError, OSError):
        return False  # the copy itself says what is wrong
    return quick


class paused:
    """Inside the block QEMU writes nothing, whether the guest's file systems are frozen or not."""

    def __init__(self, ctx: Context, guest: Guest) -> None:
        self.ctx = ctx
        self.guest = guest
        self.stopped = False

    async def __aenter__(self) -> None:
        if await self.guest.monitor.query_status() == VM.Status.RUNNING:
            await note(self.ctx, f"{self.ctx.vm.draft.get('still', '')} paused")
            await self.guest.monitor.stop()
            self.stopped = True

    async def __aexit__(self, *error: object) -> None:
        if self.stopped:
            await self.guest.monitor.cont()


async def copy_still(
    ctx: Context, plan: Plan, copies: list[Piece], guest: Guest
) -> dict[str, storage_base.Volume]:
    """Copy the drives of a VM that runs; slot → volume. Raises :class:`ConfigError` on the drive."""
    made: dict[str, storage_base.Volume] = {}
    began = time.monotonic()
    async with still(ctx, plan, guest), paused(ctx, guest):
        ctx.step("still")
        for piece in copies:
            made[piece.slot] = await copied(ctx, plan, piece)
    took = time.monotonic() - began
    await ctx.log(f"{', '.join(made)}: copied by sharing blocks; the guest stood still for {took:.2f} s")
    return made


async def copied(ctx: Context, plan: Plan, piece: Piece) -> storage_base.Volume:
    """One copy, undone unless the clone succeeds."""
    try:
        made: storage_base.Volume = await undoable(
            ctx, copy_one(ctx, plan, piece, _nobody), lambda made: f"volume {made.volid}",
            partial(newborn.discard, ctx, piece.there[1]),
        )  # fmt: skip
    except StorageError as error:
        raise ConfigError(piece.slot, str(error), hint=error.hint) from error
    ctx.step(f"{piece.slot} copied")
    return made


async def _nobody(fraction: float) -> None:
    """It is over before anybody could read how far it is."""


async def copy_one(ctx: Context, plan: Plan, piece: Piece, told: Any) -> storage_base.Volume:
    """A full copy of one disk, as it is or was in the snapshot. The TPM's is a copy made then."""
    volume, storage = piece.there
    snapshot = "" if piece.slot == "tpmstate0" else plan.snapshot
    async with driver_of(ctx, volume.storage).reading(volume.volid, snapshot) as (source, inside):
        made: storage_base.Volume = await driver_of(ctx, storage).copy(
            ctx.vm.vmid, source, piece.format, told, snapshot=inside,
            speed=(ctx.params.bwlimit or 0) * 1024,
        )  # fmt: skip
    return made
