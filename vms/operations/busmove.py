"""Moving the boot disk to a faster bus, step by step: each step is a change of the configuration.

How far it is follows from the configuration and from a short record in the VM's row (``VM.draft``, under
``busmove``), so it survives everything but somebody changing the disks by hand, which it notices.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from django.db import transaction

from vms import access
from vms.config import busmove
from vms.config.busmove import HELPER_SERIAL, RECORD, Changes, Move
from vms.config.upkeep import is_unused, volume_of
from vms.errors import MonitorError, OutcomeUnknown, StateError
from vms.models import VM, Task
from vms.models.waiting import Waiting
from vms.operations import configure
from vms.operations.base import Context, Operation, operation
from vms.tasks import notify
from vms.tasks.queue import UNFINISHED


class Stage(StrEnum):
    """How far a move is."""

    NONE = "none"
    """Not begun."""
    ADDING = "adding"
    """The helper is being made."""
    COLD = "cold"
    """The helper is plugged in at the next cold start."""
    DRIVER = "driver"
    """The helper is there: the driver can be installed."""
    SWITCH = "switch"
    """Somebody vouches for the driver."""
    MOVED = "moved"
    """The boot disk is on its new bus."""


def move_of(vm: VM) -> Move | None:
    """The move that was begun; None without one."""
    record = vm.draft.get(RECORD) if isinstance(vm.draft, dict) else None
    return Move.read(record)


def stage_of(vm: VM, waiting: Waiting, move: Move | None) -> Stage:
    """How far the move is. Disks that somebody changed by hand end it."""
    if move is None:
        return Stage.NONE
    after = waiting.effective
    if move.to:
        return Stage.MOVED if volume_of(after.get(move.to, "")) == move.volume else Stage.NONE
    if volume_of(after.get(move.disk, "")) != move.volume:
        return Stage.NONE
    if HELPER_SERIAL not in after.get(move.helper, ""):
        busy = Task.objects.filter(vm=vm, type="qmconfig", status__in=UNFINISHED).exists()
        return Stage.ADDING if busy else Stage.NONE
    if move.helper in waiting.changes or "scsihw" in waiting.changes:
        return Stage.COLD
    return Stage.SWITCH if move.seen else Stage.DRIVER


def begin(vm: VM, user: Any, *, target: str, storage: str, disc: str = "") -> Task:
    """Add the helper disk and the driver disc. Raises :class:`VMError`."""
    changes, move = busmove.begun(Waiting.of(vm).effective, target, storage, disc)
    with transaction.atomic():
        task = asked(vm, user, changes)
        store(vm, move)
    return task


def vouch(vm: VM, user: Any) -> None:
    """The person says that the driver is installed. Raises :class:`AccessError`, :class:`StateError`."""
    access.require_vm(user, "VM.Config.Disk", vm)
    store(vm, _replaced(begun(vm), seen="word"))


def switch(vm: VM, user: Any) -> Task:
    """Take the boot disk to its new bus and remove the helper. Raises :class:`VMError`."""
    if vm.running:
        raise StateError("The machine runs.", hint="Shut it down first; its boot disk changes its place.")
    changes, move = busmove.switched(Waiting.of(vm).effective, begun(vm))
    with transaction.atomic():
        task = asked(vm, user, changes)
        store(vm, move)
        remove_spare(vm, user, move)
    return task


def go_back(vm: VM, user: Any) -> Task:
    """Put the boot disk back where it was. Raises :class:`VMError`."""
    if vm.running:
        raise StateError("The machine runs.", hint="Shut it down first; its boot disk changes its place.")
    changes = busmove.undone(Waiting.of(vm).effective, begun(vm))
    with transaction.atomic():
        task = asked(vm, user, changes)
        store(vm, None)
    return task


def finish(vm: VM, user: Any) -> Task | None:
    """End the procedure: what was done stays, a helper that is still there goes. Raises :class:`VMError`."""
    access.require_vm(user, "VM.Config.Disk", vm)
    move, task = move_of(vm), None
    mapping = Waiting.of(vm).effective
    with transaction.atomic():
        if move is not None and HELPER_SERIAL in mapping.get(move.helper, ""):
            task = configure.change(vm, user, delete=[move.helper], force=True)
        if move is not None:
            remove_spare(vm, user, move)
        store(vm, None)
    return task


def asked(vm: VM, user: Any, changes: Mapping[str, str | None]) -> Task:
    """Ask for changes of the configuration."""
    texts = {key: text for key, text in changes.items() if text is not None}
    gone = [key for key, text in changes.items() if text is None]
    return configure.change(vm, user, set=texts, delete=gone)


def remove_spare(vm: VM, user: Any, move: Move) -> None:
    """Delete the helper's volume for good, if it is detached by now."""
    fresh = configure.locked(vm)
    for key, text in Waiting.of(fresh).config.items():
        if move.spare and is_unused(key) and volume_of(text) == move.spare:
            configure.change(fresh, user, delete=[key])


def begun(vm: VM) -> Move:
    """The move that was begun. Raises :class:`StateError` when none was."""
    move = move_of(vm)
    if move is None:
        raise StateError("No change of the bus was begun.", hint="Begin it on the Hardware page.")
    return move


def _replaced(move: Move, *, seen: str) -> Move:
    return Move(**{**move.record(), "seen": seen})


def store(vm: VM, move: Move | None) -> None:
    """Keep (or drop) the record in the VM's row."""
    with transaction.atomic():
        row = VM.everything.select_for_update().get(pk=vm.pk)
        draft = {key: value for key, value in dict(row.draft).items() if key != RECORD}
        if move is not None:
            draft[RECORD] = move.record()
        VM.everything.filter(pk=vm.pk).update(draft=draft)
        vm.draft = draft
        notify.changed(f"vm-{vm.vmid}")


@operation("qmdriver", privilege="VM.Config.Disk", label="Look for the driver in")
class LookForDriver(Operation):
    """Ask the guest's agent whether it sees the helper disk on the new bus."""

    def check(self, vm: VM, params: Any) -> None:
        begun(vm)
        if not vm.running:
            raise StateError(f"VM {vm.vmid} is not running.", hint="Start it, then ask again.")

    async def run(self, ctx: Context) -> None:
        guest = ctx.services.guest(ctx.vm.vmid)
        if guest is None:
            raise StateError(f"VM {ctx.vm.vmid} is not running.")
        move = await ctx.db(begun, ctx.vm)
        try:
            disks = await guest.agent.execute("guest-get-disks", timeout=30)
        except (MonitorError, OutcomeUnknown) as error:
            raise StateError(
                f"The guest's agent does not tell of its disks: {error}.",
                hint="Look yourself: the driver is installed when the guest shows the new disk.",
            ) from error
        if not sees_helper(disks, move):
            raise StateError(
                "The guest does not see the helper disk: the driver is not installed yet.",
                hint="Install it from the driver disc, then ask again.",
            )
        await ctx.log("the guest sees the helper disk: the driver is installed")
        ctx.at_end(lambda: store(ctx.vm, _replaced(move, seen="agent")))

    async def resume(self, ctx: Context) -> None:
        await self.run(ctx)


def sees_helper(disks: Any, move: Move) -> bool:
    """Whether the agent's answer lists the helper: by its serial number, or, where the guest tells of no
    serial numbers at all, by a disk on the new bus."""
    found = [disk.get("address", {}) for disk in disks if isinstance(disk, dict)]
    serials = [str(address.get("serial", "")) for address in found]
    if any(HELPER_SERIAL in serial for serial in serials):
        return True
    return not any(serials) and any(address.get("bus-type") == move.target for address in found)


__all__ = ["Changes", "Stage", "begin", "finish", "go_back", "move_of", "stage_of", "switch", "vouch"]
