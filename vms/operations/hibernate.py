"""Hibernate: the memory into a file, the process gone; and back again, or without it.

``VM.saved`` tells how far it is, whoever dies: ``volume`` is set before the file is made, ``was`` is what the
guest was doing; the machine it needs (``runningmachine``, ``runningcpu``) is set once the memory is complete.
``spent`` is set at the last moment before a guest goes on from it: its disks change from then on, and the
memory must never be used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.db import transaction
from django.utils import timezone

from vms import access
from vms.errors import MonitorError, OutcomeUnknown, StateError, VMError
from vms.models import VM, Storage, Volume
from vms.models.configuration import config_of
from vms.operations import memory, mirror, newborn, saving
from vms.operations.base import Context, Guest, Operation, Params, operation
from vms.operations.guests import STOP_TIMEOUT, as_before, end, live, must_run
from vms.operations.protection import check_protection
from vms.operations.start import bring_up
from vms.operations.volumes import keep_volume
from vms.qemu import statefile
from vms.schema.option import opt
from vms.tasks import notify

SUSPENDED = "suspended"
"""The lock of a VM that sleeps."""


@dataclass(frozen=True, kw_only=True)
class HibernateParams(Params):
    """What Hibernate can be told."""

    statestorage: str | None = opt(
        "State storage", pattern=r"[A-Za-z][A-Za-z0-9._-]*", pattern_text="a storage name", max_length=100,
        help="Where the memory is saved. Without it: the VM's own choice, a storage of its disks, or local.",
    )  # fmt: skip


@operation(
    "qmsuspend", privilege="VM.PowerMgmt", label="Hibernate", lock="suspending", params=HibernateParams
)
class Hibernate(Operation):
    """Save the guest's memory and end its process; the next start goes on from there."""

    def authorise(self, user: Any, vm: VM, params: Any) -> None:
        super().authorise(user, vm, params)
        access.require_vm(user, "VM.Config.Disk", vm)
        saving.authorise_space(user, vm, params.statestorage or "")

    def check(self, vm: VM, params: Any) -> None:
        must_run(vm)
        mapping = config_of(vm)
        saving.check_movable(mapping)
        storage = saving.choose_storage(vm, mapping, params.statestorage or "")
        saving.check_room(vm, storage, saving.room_for(mapping))

    async def run(self, ctx: Context) -> None:
        vm, guest = ctx.vm, live(ctx)
        mapping = config_of(vm)
        await saving.check_savable(guest)
        machine = await saving.machine_of(guest)
        storage = await ctx.db(saving.choose_storage, vm, mapping, ctx.params.statestorage or "")
        ctx.on_undo(f"saved memory of VM {vm.vmid}", lambda: drop(ctx))
        volume = await make_place(ctx, guest, storage, saving.room_for(mapping))
        ctx.on_undo(f"halt of VM {vm.vmid}", lambda: let_go_on(ctx))
        await guest.monitor.stop()
        ctx.step("stopped")
        await saving.write(ctx, guest, volume)
        ctx.step("saved")
        await memory.to_the_end(self._fall_asleep(ctx, machine))

    async def _fall_asleep(self, ctx: Context, machine: Mapping[str, str]) -> None:
        """The memory is complete: from the note on, a start goes on from it."""
        await ctx.db(note, ctx.vm, **machine)
        ctx.step("noted")
        await end(ctx, STOP_TIMEOUT)
        ctx.keep()
        ctx.step("ended")
        ctx.at_end(lambda: sleep(ctx.vm))

    async def resume(self, ctx: Context) -> None:
        """Finish when the memory is complete; else the guest goes on and nothing is left of the file."""
        await ctx.db(ctx.vm.refresh_from_db)
        guest = ctx.services.guest(ctx.vm.vmid)
        complete = "runningmachine" in ctx.vm.saved
        if complete and (guest is None or await run_state(guest) == "postmigrate"):
            await ctx.log("the worker was restarted; the memory is saved")
            await end(ctx, STOP_TIMEOUT)
            ctx.at_end(lambda: sleep(ctx.vm))
            return
        if guest is not None:
            await let_go_on(ctx)
        await drop(ctx)
        await super().resume(ctx)


async def make_place(ctx: Context, guest: Guest, storage: Storage, size: int) -> Volume:
    """The empty volume, on the disk and in the rows. Undone by :func:`drop`."""
    vm, today = ctx.vm, f"suspend-{timezone.localdate():%Y-%m-%d}"
    driver = ctx.services.storage(storage.name, storage.facts())
    name = await saving.free_name(driver, vm.vmid, today)
    await ctx.db(note, vm, volume=saving.volume_name(storage.name, vm.vmid, name), was=guest.status)
    ctx.step("place named")
    found = await driver.allocate_state(vm.vmid, name, size)
    ctx.step("place made")

    def keep() -> Volume:
        with transaction.atomic():
            row = keep_volume(storage, vm.node, found)
            VM.everything.filter(pk=vm.pk).update(vmstate=row)
        return row

    volume = await ctx.db(keep)
    ctx.step("place kept")
    return volume


def note(vm: VM, **keys: Any) -> None:
    """Add to what is known of the saved memory."""
    vm.saved = {**vm.saved, **keys}
    VM.everything.filter(pk=vm.pk).update(saved=vm.saved)


def sleep(vm: VM) -> None:
    """The VM is hibernated (in the transaction that ends the task)."""
    VM.everything.filter(pk=vm.pk).update(lock=SUSPENDED)
    mirror.schedule(vm)


async def run_state(guest: Guest) -> str:
    """QEMU's own word for what it does; empty when it does not answer."""
    try:
        return str(await guest.monitor.query_status())
    except (MonitorError, OutcomeUnknown):
        return ""


async def let_go_on(ctx: Context) -> None:
    """What was begun is given up: the guest does again what it did before, if it still lives."""
    guest = ctx.services.guest(ctx.vm.vmid)
    if guest is None:
        return
    await statefile.abandon(guest.monitor)
    await as_before(guest, str(ctx.vm.saved.get("was", "")))
    await ctx.services.observe(ctx.vm.vmid)


async def drop(ctx: Context) -> None:
    """Remove the saved memory, the file first; harmless when there is none."""
    vm = ctx.vm
    volid = str(vm.saved.get("volume", "")) or (vm.vmstate.volid if vm.vmstate else "")
    if volid:
        name = volid.partition(":")[0]
        storage = await ctx.db(lambda: Storage.objects.filter(name=name).first())
        if storage is not None:
            await ctx.services.storage(storage.name, storage.facts()).free(volid)
            await ctx.db(newborn.forget, storage, volid)
    await ctx.db(forget, vm)


def forget(vm: VM) -> None:
    """The saved memory is gone: so is everything the rows say of it, the lock too."""
    with transaction.atomic():
        row = VM.everything.select_related("vmstate").get(pk=vm.pk)
        VM.everything.filter(pk=vm.pk).update(vmstate=None, saved={})
        VM.everything.filter(pk=vm.pk, lock=SUSPENDED).update(lock="")
        if row.vmstate is not None and row.vmstate.vmid == vm.vmid:
            row.vmstate.delete()
        mirror.schedule(vm)
    vm.vmstate, vm.saved = None, {}
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")


# ---- waking


def hibernated(vm: VM) -> bool:
    """Whether the VM sleeps with its memory saved."""
    return vm.lock == SUSPENDED


async def wake(ctx: Context) -> None:
    """Go on from the saved memory, which is gone afterwards. A memory that cannot be read stays."""
    vm = await ctx.db(lambda: VM.everything.select_related("vmstate__storage").get(pk=ctx.vm.pk))
    state = memory.saved_in(vm)
    if state is None or vm.saved.get("spent"):
        await ctx.warn("the saved memory is gone or was used already; the guest boots instead")
        await drop(ctx)
        await bring_up(ctx)
        return
    await ctx.log(f"going on from the memory in '{state.volume.volid}'")
    try:
        await bring_up(ctx, state=replace(state, spend=lambda spent: note(vm, spent=spent)))
    except VMError as error:
        error.hint = f"{error.hint} The saved memory is kept. Discard it to start without it.".strip()
        raise
    ctx.step("guest goes on")
    await drop(ctx)
    await memory.set_clock(ctx, vm)


async def woke(ctx: Context) -> bool:
    """Settle a wake whose worker died: true when the guest goes on, and then its memory's file is gone.

    A guest that has not gone on is ended, its memory kept. Once it went on the memory is spent: when its
    process is gone as well, so is what it remembered.
    """
    vm, guest = ctx.vm, ctx.services.guest(ctx.vm.vmid)
    await ctx.db(vm.refresh_from_db)
    if vm.saved.get("spent"):
        if guest is not None and await run_state(guest) in ("paused", "prelaunch", "postmigrate"):
            await guest.monitor.cont()
        await ctx.services.observe(vm.vmid)
        await drop(ctx)
        return guest is not None
    if guest is not None:
        await ctx.log("the guest had not gone on yet; ending its process")
        await end(ctx, 0)
    await ctx.services.clean(vm.vmid)
    return False


@operation("qmdiscard", privilege="VM.PowerMgmt", label="Discard saved memory of")
class Discard(Operation):
    """Throw the memory of a hibernated VM away: its next start boots."""

    accepts_locks = frozenset({SUSPENDED})

    def authorise(self, user: Any, vm: VM, params: Any) -> None:
        super().authorise(user, vm, params)
        access.require_vm(user, "VM.Config.Disk", vm)

    def check(self, vm: VM, params: Any) -> None:
        if not hibernated(vm):
            raise StateError(f"VM {vm.vmid} is not hibernated; there is no saved memory to discard.")
        check_protection(vm, f"vmstate '{vm.vmstate.volid if vm.vmstate else ''}'")

    async def run(self, ctx: Context) -> None:
        await drop(ctx)
        await ctx.log("the saved memory is gone; the next start boots")

    async def resume(self, ctx: Context) -> None:
        """Discarding twice is discarding."""
        await self.run(ctx)
