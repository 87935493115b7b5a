"""The guest of a warm template: awaited before it is saved, and what each of its clones is told at first."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path

from vms.config.identity import IDENTITY, READY, SETTINGS, host_name, machine_id
from vms.config.pending import How, Verdict
from vms.config.warmth import lean
from vms.errors import MonitorError, OutcomeUnknown, StateError
from vms.models import VM
from vms.models.configuration import config_of
from vms.operations.base import Context, Guest
from vms.operations.plugging import Change, Machine
from vms.qemu.agent import ExecStatus

QUIET = 0.3
"""CPU seconds a second below which a guest counts as quiet."""
QUIET_LOOKS = 60
"""Seconds a guest is given to become quiet once it has booted."""
FIRST_ANSWER = 30.0
"""Seconds a clone's agent gets to answer after the guest goes on; it takes a fraction of one."""
TELLING = 180.0
"""Seconds a guest may take over its new identity: making SSH keys is slow without KVM."""
APPLYING = 900.0
"""Seconds a guest may take over its cloud-init settings, which may install packages."""
_LOOK = 0.02


# ---- while it is saved


async def settle(ctx: Context, guest: Guest, timeout: float) -> None:
    """Wait until the guest has booted and is quiet. Raises :class:`StateError` when it does not."""
    try:
        async with asyncio.timeout(timeout):
            await ctx.progress(None, "waiting for the guest's agent")
            await answering(ctx, guest)
            await ctx.progress(None, "waiting until the guest is quiet")
            said = await tell(guest, READY, timeout=timeout)
            await quiet(guest.running.pid)
    except TimeoutError:
        raise StateError(
            f"the guest did not come up and become quiet within {timeout:g} seconds",
            hint="Its agent has to answer: install and enable qemu-guest-agent before you convert the VM.",
        ) from None
    if "reseeds" not in said:
        await ctx.warn(
            "the guest has neither a kernel that hears of a new generation ID nor perl or python3: "
            "the random numbers of its clones become their own only within a minute"
        )


async def answering(ctx: Context, guest: Guest) -> None:
    """Wait until the agent answers. Raises :class:`StateError` when the process ends instead."""
    while not await guest.agent.ping(1):
        if ctx.services.guest(guest.vmid) is not guest:
            raise StateError("the guest ended before its agent answered")
        await asyncio.sleep(_LOOK)


async def quiet(pid: int) -> None:
    """Wait until the guest's processor has little to do, two looks in a row; a minute at most."""
    calm, before = 0, _used(pid)
    for _ in range(QUIET_LOOKS):
        await asyncio.sleep(1)
        now = _used(pid)
        calm = calm + 1 if now - before < QUIET else 0
        if calm == 2:
            return
        before = now


def _used(pid: int) -> float:
    """CPU seconds a process has used."""
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    fields = stat[stat.rindex(b")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def tell(
    guest: Guest, script: str, *arguments: str, input: bytes = b"", timeout: float = TELLING
) -> str:
    """Run a script in the guest; answers what it printed. Raises :class:`StateError` when it failed."""
    argv = ["/bin/sh", "-c", script, "sh", *arguments]
    try:
        async with asyncio.timeout(timeout):
            pid = await guest.agent.run(argv, input=input)
            status: ExecStatus = await guest.agent.run_status(pid)
            while not status.exited:
                await asyncio.sleep(_LOOK)
                status = await guest.agent.run_status(pid)
    except TimeoutError:
        raise StateError(f"the guest did not do what it was told within {timeout:g} seconds") from None
    except (MonitorError, OutcomeUnknown) as error:
        raise StateError(f"the guest's agent did not do what it was told: {error}") from error
    if status.exit_code != 0:
        words = (status.stderr or status.stdout).decode(errors="replace").strip()[-500:]
        raise StateError(f"the guest did not do what it was told (exit code {status.exit_code}): {words}")
    return status.stdout.decode(errors="replace")


# ---- what a clone is told


async def introduce(ctx: Context, guest: Guest, vm: VM) -> None:
    """Give a guest that has just gone on an identity of its own, then its network cards.

    Raises :class:`VMError`; such a guest must not go on.
    """
    try:
        async with asyncio.timeout(FIRST_ANSWER):
            await answering(ctx, guest)
    except TimeoutError:
        raise StateError(f"the clone's agent did not answer within {FIRST_ANSWER:g} seconds") from None
    guest.record = {**guest.record, "answered": time.time()}
    ctx.step("answered")
    words = [host_name(vm.name), machine_id(), f"{time.time():.0f}"]
    said = await tell(guest, IDENTITY, *words, input=secrets.token_bytes(512))
    for line in said.splitlines():
        await ctx.log(f"guest: {line}")
    ctx.step("introduced")
    vm.launch = dict(guest.record)
    machine = await Machine.of(ctx, vm)
    before = lean(config_of(vm))
    for nic in vm.nics.all():
        after = {**before, nic.slot: config_of(vm)[nic.slot]}
        await machine.change(Change(nic.slot, before, after), Verdict(How.PLUG))
        await ctx.log(f"{nic.slot} is plugged in")
        before = after


async def apply_settings(ctx: Context, guest: Guest) -> None:
    """Let a guest's cloud-init read its drive as at a first boot. A guest that fails at it is a warning."""
    await ctx.progress(None, "the guest applies its cloud-init settings")
    try:
        said = await tell(guest, SETTINGS, timeout=APPLYING)
    except StateError as error:
        await ctx.warn(f"the cloud-init settings take effect at the next boot: {error}")
        return
    if said:
        await ctx.log(f"guest: {said.strip()}")
