"""Full copies of a running VM's disks: QEMU mirrors each, the guest holds still while all are cut loose.

All copies show the same moment: with an agent the guest's file systems are frozen for it, without one the
guest stands still. Both take a fraction of a second, whatever the size of the disks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from vms.errors import ConfigError, MonitorError, OutcomeUnknown, StateError, StorageError
from vms.models import VM, Task
from vms.operations import freeze, newborn
from vms.operations.base import Context, Guest, told
from vms.operations.cloneplan import Piece, Plan
from vms.operations.drives import driver_of
from vms.operations.start import launch_context
from vms.operations.steps import undoable, whole
from vms.qemu import blockjob, blocknodes
from vms.storage import base as storage_base

KIB = 1024
_one_at_a_time: dict[int, asyncio.Lock] = {}
"""QEMU mirrors a drive once; further clones of the same running VM wait here."""
_lines: dict[int, list[Task]] = {}
"""Who copies the disks of a running VM, and behind it who waits to."""


def target_name(vmid: int, key: str) -> str:
    """The top node of the copy of drive ``key`` for the clone ``vmid``."""
    return f"clone-{vmid}-{key}"


def source_guest(ctx: Context, plan: Plan) -> Guest | None:
    """The process that writes the source's disks; none when they are copied as they lie there."""
    if plan.snapshot or plan.source.template:
        return None
    return ctx.services.guest(plan.source.vmid)


async def copy_live(
    ctx: Context, plan: Plan, copies: list[Piece], guest: Guest
) -> dict[str, storage_base.Volume]:
    """Copy the drives of a VM that runs; slot → volume. Raises :class:`VMError`."""
    async with in_turn(ctx, plan.source.vmid):
        made: dict[str, storage_base.Volume] = {}
        whole_size = sum(piece.there[0].size for piece in copies) or 1
        done = 0
        for number, piece in enumerate(copies, 1):
            share, begin = piece.there[0].size / whole_size, done / whole_size
            text = f"mirroring {piece.slot}, {number} of {len(copies)}"

            async def told(
                fraction: float, begin: float = begin, share: float = share, text: str = text
            ) -> None:
                await ctx.progress(begin + share * fraction, text)

            await told(0)
            made[piece.slot] = await begin_mirror(ctx, plan, piece, guest, told)
            ctx.step(f"{piece.slot} mirrored")
            done += piece.there[0].size
        await cut_loose(ctx, plan, [piece.slot for piece in copies], guest)
    return made


@asynccontextmanager
async def in_turn(ctx: Context, vmid: int) -> AsyncIterator[None]:
    """Be the one that mirrors that VM's disks; who waits says for whom."""
    line = _lines.setdefault(vmid, [])
    before = line[-1] if line else None
    line.append(ctx.task)
    try:
        if before is not None:
            await ctx.progress(None, f"waiting for {told(before)}: QEMU copies a disk once at a time")
        async with _one_at_a_time.setdefault(vmid, asyncio.Lock()):
            yield
    finally:
        line.remove(ctx.task)


async def begin_mirror(
    ctx: Context, plan: Plan, piece: Piece, guest: Guest, told: blockjob.Progress
) -> storage_base.Volume:
    """A new volume that is the same as the running drive and stays so. Raises :class:`ConfigError`."""
    _, storage = piece.there
    driver, monitor, slot = driver_of(ctx, storage), guest.monitor, piece.slot
    try:
        nodes = await blocknodes.nodes_of(monitor, slot)
        volume: storage_base.Volume = await undoable(
            ctx, driver.allocate(ctx.vm.vmid, nodes.size, piece.format),
            lambda made: f"volume {made.volid}", partial(newborn.discard, ctx, storage),
        )  # fmt: skip
        ctx.step(f"{slot} made")
        target = target_name(ctx.vm.vmid, slot)
        ctx.on_undo(f"mirror of {slot}", lambda: blockjob.abandon(monitor, slot, target))
        graph = graph_of(ctx, plan, piece, volume)
        if nodes.size < volume.size:
            graph = blocknodes.cut_to(graph, nodes.size)
        await whole(blockjob.open_target(monitor, graph))
        limit = (ctx.params.bwlimit or 0) * KIB
        await blockjob.mirror(monitor, slot, nodes.top, target, told, speed=limit)
    except (StorageError, MonitorError, OutcomeUnknown) as error:
        raise ConfigError(slot, str(error), hint=error.hint) from error
    await ctx.log(f"{slot}: '{volume.volid}' follows the running drive")
    return volume


def graph_of(ctx: Context, plan: Plan, piece: Piece, volume: storage_base.Volume) -> Mapping[str, Any]:
    """How QEMU opens the copy: as its own drive would, without the limits of the source's."""
    _, storage = piece.there
    facts = replace(ctx.services.facts, storages={storage.name: storage.facts()})
    config = {**plan.mapping, piece.slot: piece.with_volume(volume.volid)}
    context = launch_context(ctx, plan.source, facts, {})
    graph = blocknodes.drive_graph(config, context, piece.slot, "")["file"]
    return {**graph, "node-name": target_name(ctx.vm.vmid, piece.slot)}


async def cut_loose(ctx: Context, plan: Plan, slots: list[str], guest: Guest) -> None:
    """End all mirrors at one moment and close the copies."""
    await ctx.progress(1, "holding the guest still")

    async def split() -> None:
        async with still(ctx, plan, guest):
            ctx.step("still")
            await asyncio.gather(*(blockjob.split(guest.monitor, slot) for slot in slots))

    try:
        await whole(split())
        for slot in slots:
            await whole(blocknodes.remove(guest.monitor, target_name(ctx.vm.vmid, slot)))
    except (MonitorError, OutcomeUnknown) as error:
        raise StateError(f"the copies could not be cut loose: {error}") from error
    ctx.step("cut loose")


@asynccontextmanager
async def still(ctx: Context, plan: Plan, guest: Guest) -> AsyncIterator[None]:
    """Keep the guest's disks unchanged inside the block, file systems whole where its agent helps."""
    if guest.status != VM.Status.RUNNING:
        yield
        return
    if freeze.wanted(plan.mapping):
        await note(ctx, "frozen")
    async with freeze.calm(ctx, guest, plan.mapping) as whole_files:
        if whole_files:
            yield
            return
    await note(ctx, "paused")
    await guest.monitor.stop()
    try:
        yield
    finally:
        await guest.monitor.cont()


async def note(ctx: Context, how: str) -> None:
    """Write down that the guest is about to hold still, for a worker that has to end it in our place."""
    ctx.vm.draft = {**ctx.vm.draft, "still": how}
    await ctx.db(lambda: VM.everything.filter(pk=ctx.vm.pk).update(draft=ctx.vm.draft))


async def let_go(ctx: Context, source: int) -> None:
    """Undo what a worker that died left in the source's QEMU: mirrors, open copies, a guest held still."""
    guest = ctx.services.guest(source)
    if guest is None or guest.monitor is None:
        return
    how = str(ctx.vm.draft.get("still", "")).split()
    try:
        if "paused" in how and await guest.monitor.query_status() == "paused":
            await guest.monitor.cont()
        if "frozen" in how:
            await freeze.thaw(guest)
        mark = target_name(ctx.vm.vmid, "")
        for top in sorted(name for name in await blocknodes.names(guest.monitor) if name.startswith(mark)):
            await blockjob.abandon(guest.monitor, top.removeprefix(mark), top)
            await ctx.log(f"ended the mirror of {top.removeprefix(mark)}, which was left behind")
    except (MonitorError, OutcomeUnknown) as error:
        await ctx.warn(f"VM {source} may still mirror its disks for this clone: {error}")
