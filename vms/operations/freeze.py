"""A guest's file systems kept whole for a moment by its agent: frozen, and thawed whatever happens.

A freeze writes what the guest has in memory to its disks, and only a guest that runs answers. One that stands
still meanwhile, as QEMU makes it do when the storage of a disk is full, is waited for no longer: what it may
have frozen the worker thaws as soon as it runs again (``Agent.owed``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from vms.config.vmconfig import VMConfig
from vms.errors import MonitorError, OutcomeUnknown
from vms.models import VM
from vms.operations.base import Context, Guest
from vms.qemu.agent import SILENT

T = TypeVar("T")

GLANCE = 0.5
"""Seconds between two looks at whether a guest still runs whose agent is waited for."""
MOMENT = 3.0
"""Seconds a guest may stand still meanwhile, as other tasks make it do for a moment."""
FREEZE_TIMEOUT = 60
"""Seconds a freeze may take."""


def wanted(mapping: Mapping[str, str]) -> bool:
    """Whether the configuration lets the agent freeze the guest's file systems."""
    agent = VMConfig.parse(mapping).get("agent")
    return agent is not None and bool(agent.enabled) and agent.freeze_fs is not False


async def while_it_runs(guest: Guest, answer: Awaitable[T]) -> T:
    """What the guest's agent answers. Raises :class:`OutcomeUnknown` once the guest stands still."""
    asked = asyncio.ensure_future(answer)
    ran = time.monotonic()
    try:
        while not (await asyncio.wait([asked], timeout=GLANCE))[0]:
            state = await guest.monitor.query_status()
            if state == "running":
                ran = time.monotonic()
            elif state != "paused" or time.monotonic() - ran > MOMENT:
                raise OutcomeUnknown(f"the guest stands still ({state}), so its agent cannot answer")
        return asked.result()
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


async def thaw(guest: Guest) -> int:
    """Let the file systems go on; answers how many were frozen. Where nobody answers, it stays owed.

    Raises :class:`MonitorError` and :class:`OutcomeUnknown`.
    """
    try:
        count: int = await while_it_runs(guest, guest.agent.thaw())
    except MonitorError as error:
        guest.agent.owed = error.error_class == SILENT
        raise
    except OutcomeUnknown:
        guest.agent.owed = True
        raise
    guest.agent.owed = False
    return count


@asynccontextmanager
async def frozen(guest: Guest) -> AsyncIterator[int]:
    """Keep the guest's file systems still inside the block; thawed afterwards whatever happens.

    Yields how many were frozen. Raises :class:`MonitorError` and :class:`OutcomeUnknown`.
    """
    guest.agent.freezing += 1
    try:
        yield await while_it_runs(guest, guest.agent.freeze(FREEZE_TIMEOUT))
    finally:
        # Also when the freeze's outcome is unknown: a frozen guest hangs for ever.
        try:
            await thaw(guest)
        finally:
            guest.agent.freezing -= 1


@asynccontextmanager
async def calm(ctx: Context, guest: Guest | None, mapping: Mapping[str, str]) -> AsyncIterator[bool]:
    """Keep the guest's file systems whole inside the block, if its agent can; thawed whatever happens.

    Yields whether they stand still. ``mapping`` is the guest's configuration.
    """
    if guest is None or guest.status != VM.Status.RUNNING or not wanted(mapping):
        yield False
        return
    if not await guest.agent.ping():
        await ctx.log("the guest agent does not answer; the disks are taken as after a power cut")
        yield False
        return
    freezing = frozen(guest)
    try:
        count = await freezing.__aenter__()
    except (MonitorError, OutcomeUnknown) as error:
        await ctx.warn(f"the guest's file systems could not be frozen: {error}")
        yield False
        return
    began = time.monotonic()
    await ctx.log(f"{count} file systems frozen")
    try:
        yield True
    finally:
        try:
            await freezing.__aexit__(None, None, None)
        except (MonitorError, OutcomeUnknown) as error:
            later = "; that is done as soon as it answers" if guest.agent.owed else ""
            await ctx.warn(f"the guest's file systems could not be thawed: {error}{later}")
        else:
            await ctx.log(f"thawed after {time.monotonic() - began:.2f} s")


async def thaw_left(ctx: Context, guest: Guest, mapping: Mapping[str, str]) -> None:
    """End a freeze that a worker which died may have left; a guest that has none says so.

    To be called once the guest goes on again: one that stands still cannot thaw.
    """
    agent = VMConfig.parse(mapping).get("agent")
    if agent is None or not agent.enabled:
        return
    if not await guest.agent.ping():
        guest.agent.owed = True  # its agent may only be slow, or still have to come
        return
    try:
        if await guest.agent.still():
            await thaw(guest)
    except (MonitorError, OutcomeUnknown) as error:
        await ctx.warn(f"the guest's file systems may still be frozen: {error}")
