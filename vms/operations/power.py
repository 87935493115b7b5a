"""Stop, shut down, reboot, reset, pause, resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vms.errors import MonitorError, OutcomeUnknown, StateError
from vms.models import VM
from vms.models.configuration import config_of
from vms.operations.base import Context, Guest, Operation, Params, operation
from vms.operations.start import bring_up
from vms.qemu import process
from vms.qemu.agent import Agent
from vms.schema.option import opt

STOP_TIMEOUT = 60
"""Seconds QEMU gets to obey ``quit`` before signals follow, as in PVE."""
SHUTDOWN_TIMEOUT = 60
"""Seconds a guest gets to shut down, unless told otherwise."""
TERM_GRACE = 10
"""Seconds between SIGTERM and SIGKILL."""


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


async def end(ctx: Context, timeout: int) -> None:
    """End the VM's process: ``quit``, then SIGTERM, then SIGKILL. Fine when there is none."""
    vmid = ctx.vm.vmid
    guest = ctx.services.guest(vmid)
    if guest is None:
        await ctx.log(f"VM {vmid} is not running")
        return
    ctx.services.expect_end(vmid, f"stopped by {ctx.task.username}")
    try:
        await ctx.monitor.quit()
    except (MonitorError, OutcomeUnknown, StateError) as error:
        await ctx.log(f"QEMU's monitor did not take it: {error}")
        timeout = 0
    if await ctx.services.gone(vmid, timeout):
        return
    await ctx.warn("VM still running - terminating now with SIGTERM")
    how = await process.terminate(guest.running, TERM_GRACE)
    if how == "killed":
        await ctx.warn("VM still running - it took SIGKILL")
    if not await ctx.services.gone(vmid, 10):
        raise StateError(f"QEMU of VM {vmid} ended but what it left could not be removed yet.")


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


@operation("qmstop", privilege="VM.PowerMgmt", label="Stop", params=StopParams)
class Stop(Operation):
    """Switch the VM off at once. A VM that is off already is no error."""

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
        await live(ctx).monitor.stop()
        await ctx.services.observe(ctx.vm.vmid)

    async def resume(self, ctx: Context) -> None:
        """Pausing twice is pausing."""
        await self.run(ctx)


@operation("qmresume", privilege="VM.PowerMgmt", label="Resume")
class Resume(Operation):
    """Let a paused guest go on; wake a sleeping one."""

    accepts_locks = frozenset({"backup"})
    beside_clones = True

    def check(self, vm: VM, params: Any) -> None:
        must_run(vm)
        if vm.status == VM.Status.RUNNING:
            raise StateError(f"VM {vm.vmid} is running already; there is nothing to resume.")

    async def run(self, ctx: Context) -> None:
        guest = live(ctx)
        if guest.status == VM.Status.SUSPENDED:
            await guest.monitor.system_wakeup()
        else:
            await guest.monitor.cont()
        await ctx.services.observe(ctx.vm.vmid)

    async def resume(self, ctx: Context) -> None:
        if await ctx.services.observe(ctx.vm.vmid) != VM.Status.RUNNING:
            await super().resume(ctx)
