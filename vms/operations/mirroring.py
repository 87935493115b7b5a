"""A running guest's disk goes elsewhere: mirrored, held for a moment, switched, stored.

The guest stands still from the moment both sides are the same until the configuration says which one is the
disk. Nothing is written meanwhile, so whichever of them a crash leaves in the configuration is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from vms.config.vmconfig import parse_value
from vms.errors import MonitorError, OutcomeUnknown, QemuError, StateError
from vms.models import Storage, Volume
from vms.models.configuration import config_of
from vms.models.notes import note_work
from vms.operations.base import Context, Guest
from vms.operations.drives import (
    Drive,
    driver_of,
    put_volume,
    remove_new,
    running_context,
    with_volume,
)
from vms.operations.guests import answering_agent
from vms.operations.memory import to_the_end
from vms.operations.resize import BLOCK
from vms.operations.waiting import fresh_of_now
from vms.qemu import blockjob, blocknodes
from vms.qemu.monitor import Monitor
from vms.storage import base

STANDSTILL = 120
"""Seconds QEMU gets to stop the guest, which writes out what the node holds in its memory, and as many to
switch its disk: longer it shall not stand still."""
NOTE = "move"
"""In ``VM.draft`` while a disk moves: from where, and what lay on the target storage before."""
TRIMMING = 600
"""Seconds a guest gets to trim its file systems."""
RECONNECT = 10
"""Seconds a lost connection gets to become the end of the process, or another connection."""
HELD = "held"
"""In the note of a move: the guest ran and is held while its disk is switched."""


async def carry_out(ctx: Context, drive: Drive, storage: Storage, fmt: str, speed: int) -> None:
    """Copy the drive while its guest runs, let the guest use the copy, and store that.

    Raises what went wrong; the guest goes on with its old volume then and nothing else is left.
    """
    try:
        made = await _mirrored(ctx, drive, storage, fmt, speed)
        await to_the_end(_switch(ctx, drive, storage, made))
    except MonitorError as error:
        raise StateError(f"{drive.slot} was not moved: {error.description}") from error
    except OutcomeUnknown as error:
        raise StateError(f"{drive.slot} was not moved: {error}") from error


async def _mirrored(ctx: Context, drive: Drive, storage: Storage, fmt: str, speed: int) -> base.Volume:
    """The new volume, the same as the old one and kept so. All of it is registered to be undone."""
    monitor, slot = ctx.monitor, drive.slot
    nodes = await blocknodes.nodes_of(monitor, slot)
    if fmt == "raw" and nodes.size % BLOCK:
        raise StateError(
            f"{slot} does not end with a whole block of 4 KiB, as a raw disk has to.",
            hint="Resize it to a whole number of MiB first.",
        )
    home = driver_of(ctx, drive.volume.storage)
    source = await home.find(drive.volume.volid)
    if not home.opened_as(source.volid, nodes.filename):
        raise StateError(f"QEMU has '{nodes.filename}' open as {slot}, not '{source.path}'")
    made: base.Volume = await driver_of(ctx, storage).allocate(
        ctx.vm.vmid, nodes.size, fmt, room=min(source.used, nodes.size)
    )
    top = await blocknodes.free_top(monitor, slot)
    ctx.on_undo(f"volume {made.volid}", lambda: _take_back(ctx, drive, storage, made, top))
    ctx.step("target made")
    await blockjob.open_target(monitor, await _graph(ctx, slot, storage, made, top, nodes.size))
    ctx.step("target open")
    await ctx.log(f"{slot}: mirroring '{drive.volume.volid}' to '{made.volid}'")

    async def told(fraction: float) -> None:
        await ctx.progress(fraction, f"mirroring {slot}: {fraction:.0%}")

    await blockjob.mirror(monitor, slot, nodes.top, top, told, speed=speed)
    ctx.step("mirrored")
    return made


async def _graph(
    ctx: Context, slot: str, storage: Storage, made: base.Volume, top: str, size: int
) -> dict[str, Any]:
    """What a start would open behind the drive once the new volume is in it; ``size``: the disk's bytes."""
    vm = await ctx.db(fresh_of_now, ctx.vm)
    mapping = config_of(vm)
    mapping[slot] = with_volume(mapping[slot], made.volid, made.size)
    graph = blocknodes.drive_graph(mapping, running_context(ctx, storage), slot, top)
    return blocknodes.cut_to(graph, size) if size < made.size else graph


async def _switch(ctx: Context, drive: Drive, storage: Storage, made: base.Volume) -> None:
    """Hold the guest, let its device use the new volume, store that, let the guest go on."""
    monitor, guest = ctx.monitor, ctx.services.guest(ctx.vm.vmid)
    if guest is not None and await monitor.query_status() == "running":
        guest.held = True
        await ctx.db(note_work, ctx.vm, {NOTE: {**ctx.vm.draft[NOTE], HELD: True}})
        ctx.on_undo("the guest's standstill", lambda: _let_go(ctx))
        await monitor.execute("stop", timeout=STANDSTILL)
    ctx.step("guest held")
    try:
        async with asyncio.timeout(STANDSTILL):
            await blockjob.pivot(monitor, drive.slot)
    except TimeoutError:
        raise StateError(f"{drive.slot} was not switched within {STANDSTILL} s; it is where it was") from None
    ctx.step("switched")
    await _store(ctx, drive, storage, made)


async def _store(ctx: Context, drive: Drive, storage: Storage, made: base.Volume) -> None:
    """Make the volume the device uses the drive's; the guest goes on."""
    await ctx.db(lambda: put_volume(ctx.vm, drive, storage, made, live=True))
    ctx.keep()
    ctx.step("stored")
    await _tidy(ctx, drive.slot, storage, made)
    await ctx.log(f"{drive.slot}: is '{made.volid}' now")


async def _tidy(ctx: Context, slot: str, storage: Storage, made: base.Volume) -> None:
    """After a switch: the guest goes on, the graph gets its own options, the old one is closed.

    Should QEMU refuse here, the disk has moved all the same.
    """
    await _let_go(ctx)
    try:
        nodes = await blocknodes.nodes_of(ctx.monitor, slot)
        graph = await _graph(ctx, slot, storage, made, nodes.top, nodes.size)
        await blockjob.settle(ctx.monitor, graph)
        await _close_others(ctx.monitor, slot, nodes.top)
    except (QemuError, StateError) as error:
        await ctx.warn(f"QEMU runs with the new volume, but: {error}")


async def trim(ctx: Context) -> None:
    """Ask the guest to hand back what it does not use, when its configuration says so (PVE)."""
    text = config_of(ctx.vm).get("agent")
    if text is None or not parse_value("agent", text).fstrim_cloned_disks:
        return
    agent = await answering_agent(ctx)
    try:
        if agent is not None:
            await ctx.log("asking the guest agent to trim its file systems")
            await agent.execute("guest-fstrim", timeout=TRIMMING)
    except (MonitorError, OutcomeUnknown) as error:
        await ctx.warn(f"the guest did not trim its file systems: {error}")


async def _close_others(monitor: Monitor, slot: str, top: str) -> None:
    """Close every graph of the drive that its device does not use."""
    for name in await blocknodes.graphs_of(monitor, f"drive-{slot}"):
        if name != top:
            await blocknodes.remove(monitor, name)


async def _let_go(ctx: Context) -> None:
    """Let the guest go on if it was held by us."""
    guest = await _live(ctx)
    held = ctx.vm.draft.get(NOTE, {}).get(HELD)
    if guest is None:
        return
    if held and await guest.monitor.query_status() == "paused":
        await guest.monitor.cont()
    guest.held = False
    await ctx.services.observe(ctx.vm.vmid)


async def _live(ctx: Context) -> Guest | None:
    """The VM's process once it is clear whether there is one: its connection may be what broke."""
    guest = ctx.services.guest(ctx.vm.vmid)
    if guest is not None and (guest.monitor is None or guest.monitor.closed):
        await ctx.services.gone(ctx.vm.vmid, RECONNECT)
        guest = ctx.services.guest(ctx.vm.vmid)
    return guest


async def _take_back(ctx: Context, drive: Drive, storage: Storage, made: base.Volume, top: str) -> None:
    """Undo a mirror. When the device was switched already, the move stands and is stored after all."""
    guest = await _live(ctx)
    if guest is not None:
        await blockjob.end(guest.monitor, blockjob.job_name(drive.slot))
        nodes = await blocknodes.nodes_of(guest.monitor, drive.slot)
        if driver_of(ctx, storage).opened_as(made.volid, nodes.filename):
            await _store(ctx, drive, storage, made)
            await ctx.warn(f"{drive.slot} had been switched to '{made.volid}' and stays there")
            return
        await blocknodes.remove(guest.monitor, top)
    await remove_new(ctx, storage, made.volid)


async def settle(ctx: Context, drive: Drive, source: Volume, storage: Storage, new: Iterable[str]) -> bool:
    """After the death of a worker: whether the disk has moved. What QEMU still does of it is ended.

    ``new`` are the volumes that came to be since; ``drive`` is what the configuration says now.
    """
    stored = drive.volume.pk != source.pk
    await ctx.services.observe(ctx.vm.vmid)
    guest = await _live(ctx)
    if guest is None or drive.is_unused:
        return stored
    await blockjob.end(guest.monitor, blockjob.job_name(drive.slot))
    nodes = await blocknodes.nodes_of(guest.monitor, drive.slot)
    driver = driver_of(ctx, storage)
    arrived = next((volid for volid in new if driver.opened_as(volid, nodes.filename)), "")
    if not stored and not arrived:
        await _let_go(ctx)
        await _close_others(guest.monitor, drive.slot, nodes.top)
        return False
    made = await driver.find(arrived or drive.volume.volid)
    if not stored:
        await _store(ctx, drive, storage, made)
    else:
        await _tidy(ctx, drive.slot, storage, made)
    return True
