"""The live guest of a task: found, asked to end, ended."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from vms.errors import MonitorError, OutcomeUnknown, StateError
from vms.models import VM
from vms.models.configuration import config_of
from vms.operations.base import Context, Guest
from vms.qemu import process
from vms.qemu.agent import Agent

STOP_TIMEOUT = 60
"""Seconds QEMU gets to obey ``quit`` before signals follow, as in PVE."""
SHUTDOWN_TIMEOUT = 60
"""Seconds a guest gets to shut down, unless told otherwise."""
MOMENT = 5.0
"""Seconds QEMU gets to stop the guest before it is told to end."""
TERM_GRACE = 10
"""Seconds between SIGTERM and SIGKILL."""


def must_run(vm: VM) -> None:
    """Raise :class:`StateError` unless a process of the VM was last seen."""
    if not vm.running:
        raise StateError(f"VM {vm.vmid} is not running.")


def live(ctx: Context) -> Guest:
    """The VM's process. Raises :class:`StateError` when there is none."""
    guest = ctx.services.guest(ctx.vm.vmid)
    if guest is None:
        raise StateError(f"VM {ctx.vm.vmid} is not running.")
    return guest


async def free(guest: Guest) -> None:
    """Wait until no task holds the guest any more: the moment of a backup, the switch of a disk."""
    while guest.held:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def end(ctx: Context, timeout: int) -> None:
    """End the VM's process: ``quit``, then SIGTERM, then SIGKILL. Fine when there is none.

    The guest is stopped first. QEMU 7.2 drains its disks before it stops the processors, and never ends when
    in between a guest asks for something of a disk that has an I/O thread.
    """
    vmid = ctx.vm.vmid
    guest = ctx.services.guest(vmid)
    if guest is None:
        await ctx.log(f"VM {vmid} is not running")
        return
    ctx.services.expect_end(vmid, f"stopped by {ctx.task.username}")
    guest.held = True  # no page tells of a pause
    try:
        if await _quits(ctx, guest, timeout):
            return
    finally:
        guest.held = False
    await ctx.warn("VM still running - terminating now with SIGTERM")
    how = await process.terminate(guest.running, TERM_GRACE)
    if how == "killed":
        await ctx.warn("VM still running - it took SIGKILL")
    if not await ctx.services.gone(vmid, 10):
        raise StateError(f"QEMU of VM {vmid} ended but what it left could not be removed yet.")


async def _quits(ctx: Context, guest: Guest, timeout: int) -> bool:
    """Ask QEMU to end; answers whether it did within ``timeout`` seconds."""
    try:
        if guest.monitor is None:
            raise StateError("nobody is connected to it")
        with suppress(OutcomeUnknown):
            await guest.monitor.execute("stop", timeout=MOMENT)
        await guest.monitor.quit()
    except (MonitorError, OutcomeUnknown, StateError) as error:
        await ctx.log(f"QEMU's monitor did not take it: {error}")
        timeout = 0
    gone: bool = await ctx.services.gone(guest.vmid, timeout)
    return gone


async def as_before(guest: Guest, was: str) -> None:
    """Let a guest that was stopped for a moment do again what it did: run, or stand still.

    A save leaves QEMU with its disks closed, and only ``cont`` opens them again; so a paused guest runs for
    an instant. One that QEMU has stopped over a disk meanwhile is left so: its disk is no better yet.
    """
    state = await guest.monitor.query_status()
    if was == VM.Status.RUNNING and state not in ("running", "io-error"):
        await guest.monitor.cont()
    elif was != VM.Status.RUNNING and state == "postmigrate":
        await guest.monitor.cont()
        await guest.monitor.stop()


async def stopped_by_disk(ctx: Context) -> str:
    """What to do about a guest that QEMU has stopped because a disk takes no more, in a sentence; else ""."""
    if await ctx.services.observe(ctx.vm.vmid) != VM.Status.IO_ERROR:
        return ""
    return f"VM {ctx.vm.vmid} was stopped by a disk error: make room where its disks are, then resume it."


async def power_down(ctx: Context, timeout: int) -> bool:
    """Ask the guest to shut down; answers whether it did within ``timeout`` seconds.

    By its agent when that is enabled and answers, else by the power button. The choice is made once.
    """
    guest = live(ctx)
    agent = await answering_agent(ctx)
    if agent is not None:
        await ctx.log("asking the guest agent to shut the guest down")
        await agent.shutdown()
    else:
        await ctx.log("pressing the power button (ACPI)")
        await guest.monitor.system_powerdown()
    return await ctx.services.gone(ctx.vm.vmid, timeout)


async def answering_agent(ctx: Context) -> Agent | None:
    """The guest's agent, if the configuration enables it and it answers within two seconds."""
    text = config_of(ctx.vm).get("agent", "")
    if text.split(",")[0].removeprefix("enabled=") not in ("1", "on", "yes", "true"):
        return None
    agent: Agent = live(ctx).agent
    if await agent.ping(timeout=2):
        return agent
    await ctx.log("the guest agent does not answer")
    return None
