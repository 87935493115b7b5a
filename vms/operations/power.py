"""Start, stop, shut down, reboot, reset, pause, resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vms.errors import StateError
from vms.models import VM
from vms.operations.base import Context, Operation, Params, operation
from vms.operations.guests import (
    SHUTDOWN_TIMEOUT,
    STOP_TIMEOUT,
    TERM_GRACE,
    end,
    free,
    live,
    must_run,
    power_down,
)
from vms.operations.hibernate import SUSPENDED, hibernated, wake, woke
from vms.operations.start import bring_up, came_up
from vms.schema.option import opt


@dataclass(frozen=True, kw_only=True)
class StopParams(Params):
    """What Stop can be told."""

    timeout: int | None = opt(
        "Timeout", default=STOP_TIMEOUT, minimum=0, maximum=86400, unit="s",
        help="How long QEMU may take to end by itself before it is killed.",
    )  # fmt: skip
    overrule_shutdown: bool | None = opt(
        "Overrule shutdown", key="overrule-shutdown", default=False,
        help="End a shutdown of this VM that is under way, instead of waiting for it.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ShutdownParams(Params):
    """What Shutdown can be told."""

    timeout: int | None = opt(
        "Timeout", default=SHUTDOWN_TIMEOUT, minimum=0, maximum=86400, unit="s",
        help="How long the guest may take.",
    )  # fmt: skip
    forceStop: bool | None = opt(
        "Stop it then", default=False, help="Stop the VM when the guest did not shut down in time."
    )


@dataclass(frozen=True, kw_only=True)
class RebootParams(Params):
    """What Reboot can be told."""

    timeout: int | None = opt(
        "Timeout", default=SHUTDOWN_TIMEOUT, minimum=0, maximum=86400, unit="s",
        help="How long the guest may take to shut down.",
    )  # fmt: skip


@operation("qmstart", privilege="VM.PowerMgmt", label="Start")
class Start(Operation):
    """Start the VM. One that is hibernated goes on where it was."""

    accepts_locks = frozenset({SUSPENDED})
    fleeting = True

    def check(self, vm: VM, params: Any) -> None:
        if vm.stage != VM.Stage.DEFINED:
            raise StateError(f"VM {vm.vmid} is not created yet; finish its wizard first.")
        if vm.template:
            raise StateError("you can't start a vm if it's a template", hint="Clone it and start the clone.")
        if vm.running:
            raise StateError(f"VM {vm.vmid} already running")

    async def run(self, ctx: Context) -> None:
        if hibernated(ctx.vm):
            await wake(ctx)
        else:
            await bring_up(ctx, ctx.vm)

    async def resume(self, ctx: Context) -> None:
        """Well when the guest came up all the same; else nothing is left of it."""
        if hibernated(ctx.vm):
            await settle_wake(ctx)
            return
        status = await came_up(ctx)
        if status == VM.Status.STOPPED:
            await ctx.services.clean(ctx.vm.vmid)
            raise StateError(
                f"The worker was restarted during this start and VM {ctx.vm.vmid} did not come up. "
                "Start it again."
            )
        await ctx.log(f"the worker was restarted during this start; VM {ctx.vm.vmid} is {status}")


async def settle_wake(ctx: Context) -> None:
    """Well when the guest went on; raises with what is left of its memory otherwise."""
    vmid = ctx.vm.vmid
    if await woke(ctx):
        await ctx.log(f"the worker was restarted during this start; VM {vmid} goes on")
        return
    text = f"The worker was restarted during this start and VM {vmid} did not go on."
    if ctx.vm.vmstate_id is None:
        raise StateError(f"{text} Its process ended after the memory was used; the next start boots.")
    raise StateError(f"{text} Its saved memory is kept: start it again.")


@operation("qmstop", privilege="VM.PowerMgmt", label="Stop", params=StopParams)
class Stop(Operation):
    """Switch the VM off at once. A VM that is off already is no error. A backup of it ends, too."""

    accepts_locks = frozenset({"backup"})
    beside_clones = True

    def overrules(self, params: Any) -> frozenset[str]:
        return frozenset({"qmshutdown", "qmreboot"}) if params.overrule_shutdown else frozenset()

    async def run(self, ctx: Context) -> None:
        given = ctx.params.timeout
        await end(ctx, STOP_TIMEOUT if given is None else given)

    async def resume(self, ctx: Context) -> None:
        """Stopping twice is stopping."""
        await self.run(ctx)


@operation("qmshutdown", privilege="VM.PowerMgmt", label="Shutdown", params=ShutdownParams)
class Shutdown(Operation):
    """Ask the guest to shut down."""

    beside_clones = True

    def check(self, vm: VM, params: Any) -> None:
        must_run(vm)
        if vm.status == VM.Status.PAUSED and not params.forceStop:
            raise StateError("VM is paused - cannot shutdown", hint="Resume it first, or stop it.")

    async def run(self, ctx: Context) -> None:
        timeout = SHUTDOWN_TIMEOUT if ctx.params.timeout is None else ctx.params.timeout
        paused = live(ctx).status == VM.Status.PAUSED
        if not paused and await power_down(ctx, timeout):
            return
        if not ctx.params.forceStop:
            raise StateError(
                "VM quit/powerdown failed - got timeout",
                hint=f"The guest did not shut down within {timeout} s and goes on running.",
            )
        if not paused:
            await ctx.warn(f"the guest did not shut down within {timeout} s - stopping it")
        await end(ctx, TERM_GRACE)

    async def resume(self, ctx: Context) -> None:
        if ctx.services.guest(ctx.vm.vmid) is not None:
            await super().resume(ctx)
        await ctx.log("the guest ended while the worker was restarted")


@operation("qmreboot", privilege="VM.PowerMgmt", label="Reboot", params=RebootParams)
class Reboot(Operation):
    """Shut the guest down and start a new QEMU, which applies pending changes."""

    beside_clones = True

    def check(self, vm: VM, params: Any) -> None:
        must_run(vm)
        if vm.status == VM.Status.PAUSED:
            raise StateError("VM is paused - cannot shutdown", hint="Resume it first, or stop it.")

    async def run(self, ctx: Context) -> None:
        timeout = SHUTDOWN_TIMEOUT if ctx.params.timeout is None else ctx.params.timeout
        if not await power_down(ctx, timeout):
            raise StateError(
                "VM quit/powerdown failed - got timeout",
                hint=f"The guest did not shut down within {timeout} s and goes on running.",
            )
        await ctx.log("the guest has shut down; starting it again")
        await bring_up(ctx)

    async def resume(self, ctx: Context) -> None:
        """Finish what was begun: a guest that has shut down is started."""
        if ctx.services.guest(ctx.vm.vmid) is not None:
            await super().resume(ctx)
        await ctx.log("the guest shut down while the worker was restarted; starting it again")
        await bring_up(ctx)


@operation("qmreset", privilege="VM.PowerMgmt", label="Reset")
class Reset(Operation):
    """Press the reset button: a hard reset in the same process."""

    beside_clones = True

    def check(self, vm: VM, params: Any) -> None:
        must_run(vm)

    async def run(self, ctx: Context) -> None:
        await live(ctx).monitor.system_reset()
        await ctx.services.observe(ctx.vm.vmid)


@operation("qmpause", privilege="VM.PowerMgmt", label="Pause")
class Pause(Operation):
    """Halt the guest's processors; its memory stays."""

    accepts_locks = frozenset({"backup"})
    beside_clones = True

    def check(self, vm: VM, params: Any) -> None:
        must_run(vm)

    async def run(self, ctx: Context) -> None:
        guest = live(ctx)
        await free(guest)
        await guest.monitor.stop()
        await ctx.services.observe(ctx.vm.vmid)

    async def resume(self, ctx: Context) -> None:
        """Pausing twice is pausing."""
        await self.run(ctx)


@operation("qmresume", privilege="VM.PowerMgmt", label="Resume")
class Resume(Operation):
    """Let a paused guest go on; wake a sleeping one, or one that is hibernated."""

    accepts_locks = frozenset({"backup", SUSPENDED})
    beside_clones = True

    def check(self, vm: VM, params: Any) -> None:
        if hibernated(vm):
            return
        must_run(vm)
        if vm.status == VM.Status.RUNNING:
            raise StateError(f"VM {vm.vmid} is running already; there is nothing to resume.")

    async def run(self, ctx: Context) -> None:
        if hibernated(ctx.vm):
            await wake(ctx)
            return
        guest = live(ctx)
        await free(guest)
        if guest.status == VM.Status.SUSPENDED:
            await guest.monitor.system_wakeup()
        else:
            await guest.monitor.cont()
        await ctx.services.observe(ctx.vm.vmid)

    async def resume(self, ctx: Context) -> None:
        if hibernated(ctx.vm):
            await settle_wake(ctx)
        elif await ctx.services.observe(ctx.vm.vmid) != VM.Status.RUNNING:
            await super().resume(ctx)
