"""Mode stop: the guest is shut down, started again standing still, and goes on as soon as it can be read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vms.config.vmconfig import VMConfig
from vms.errors import StateError
from vms.models import VM
from vms.models.configuration import config_of
from vms.operations import backupread
from vms.operations.backupplan import Plan, chosen
from vms.operations.backupread import Reading
from vms.operations.base import Context, Guest
from vms.operations.guests import live, power_down
from vms.operations.snapdisks import held_by
from vms.operations.start import bring_up, parts_of
from vms.operations.steps import Branch, whole

MINUTE = 60


async def restarted(ctx: Context, plan: Plan, guest: Guest) -> tuple[Reading, Plan]:
    """The disks of a guest that was shut down for it, and the plan as the machine is now.

    Whatever goes wrong, the VM is running afterwards, unless it cannot be started: the error says why then.
    """
    if guest.status != VM.Status.RUNNING:
        raise StateError(
            f"VM {plan.vm.vmid} is {guest.status} and cannot shut down.", hint="Choose another mode."
        )
    wait = ctx.params.stopwait
    seconds = MINUTE * (10 if wait is None else wait)
    await backupread.remember(ctx, off=True)
    ctx.on_undo("the shutdown", lambda: back(ctx))
    ctx.step("about to shut down")
    if not await power_down(ctx, seconds):
        raise StateError(
            f"The guest did not shut down within {seconds} s and goes on running; it was not backed up."
        )
    ctx.step("off")
    await whole(up(ctx))
    fresh = await ctx.db(parts_of, ctx.vm)
    plan = await ctx.db(_again, plan, fresh)
    go_on = not VMConfig.parse(plan.mapping).value("freeze")
    reading = await backupread.open_live(ctx, plan, live(ctx), freeze=False, go_on=go_on)
    await backupread.remember(ctx, off=False)
    reading.consistent = True
    return reading, plan


def _again(plan: Plan, fresh: VM) -> Plan:
    """The plan once what was pending has become the configuration."""
    mapping = config_of(fresh)
    wanted, left_out = chosen(mapping)
    return replace(plan, vm=fresh, mapping=mapping, disks=held_by(fresh, wanted), left_out=left_out)


async def up(ctx: Context) -> None:
    """Start the VM standing still; from here on it is running, whatever becomes of the backup."""
    branch = Branch(ctx, "the start")
    await bring_up(branch.ctx, halted=True)
    branch.keep()
    guest: Any = live(ctx)
    await ctx.db(guest.store)
    ctx.step("started")


async def back(ctx: Context) -> None:
    """The VM runs again, if it was shut down for this backup."""
    if not ctx.vm.draft.get(backupread.NOTE, {}).get("off"):
        return
    if ctx.services.guest(ctx.vm.vmid) is None:
        await up(ctx)
    guest = ctx.services.guest(ctx.vm.vmid)
    if guest is not None and await guest.monitor.query_status() == "prelaunch":
        await guest.monitor.cont()
        await ctx.services.observe(ctx.vm.vmid)
    await backupread.remember(ctx, off=False)
