"""Snapshots: a VM as it was, kept beside what it becomes.

``Snapshot.running`` tells whoever comes next what there is of an unfinished one: ``was`` is what the guest
was doing, ``volume`` the saved memory's id and ``tpmstate0`` the TPM copy's, both named before they are made.
A finished one keeps ``tpmstate0`` and the machine its memory needs.

With memory the guest stands still from the moment its disks' snapshots are taken until its memory is written
to a file of its own, so that both show the same instant and the memory is there for a QEMU that starts from
cold. Without memory an agent lets the guest finish its writes first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from vms.errors import ConfigError, StateError, VMError
from vms.models import VM, Snapshot, Storage, Volume
from vms.models.configuration import config_of
from vms.models.snapshot import SNAPSHOT_NAME
from vms.operations import mirror, saving, snapdisks, tpmcopy
from vms.operations.base import Context, Guest, Operation, Params, operation
from vms.operations.freeze import calm, thaw_left
from vms.operations.guests import as_before, stopped_by_disk
from vms.operations.snapdisks import TPM, Held
from vms.operations.snaprows import forget, free_volumes, unfinished
from vms.operations.volumes import keep_volume
from vms.qemu import statefile
from vms.qemu.blocknodes import BlockNodes
from vms.schema.option import opt
from vms.tasks import notify

RESERVED = ("current", "pending")
NAME_WORDS = "a letter, then 1 to 39 letters, digits, '-' or '_'"
_LEFT_OUT = re.compile(r"unused\d+|description|template|lock|parent|vmstate|snaptime|snapstate|running.*")
"""Keys of a configuration that a snapshot does not keep (PVE)."""


def snapshot_name(text: str) -> str:
    """A name a snapshot may have."""
    if not re.fullmatch(SNAPSHOT_NAME, text):
        raise ValueError(f"'{text[:60]}' is no name for a snapshot: {NAME_WORDS}")
    if text.lower() in RESERVED:
        raise ValueError(f"'{text}' is taken: it means the VM itself")
    return text


@dataclass(frozen=True, kw_only=True)
class SnapshotParams(Params):
    """What Snapshot can be told."""

    snapname: str = opt(
        "Name", required=True, check=snapshot_name, max_length=40, help="What the snapshot is called."
    )
    vmstate: bool | None = opt(
        "Include RAM", default=False,
        help="Save the memory too, so that the guest goes on from that very moment.",
    )  # fmt: skip
    description: str | None = opt("Description", max_length=8192, lines=True, help="What it is good for.")


@operation("qmsnapshot", privilege="VM.Snapshot", label="Snapshot", lock="snapshot", params=SnapshotParams)
class Take(Operation):
    """Keep the VM as it is now."""

    def title(self, vm: VM, params: Any) -> str:
        return f"Snapshot {params.snapname} of {vm.vmid} ({vm.display_name})"

    def check(self, vm: VM, params: Any) -> None:
        if vm.template:
            raise StateError("you can't take a snapshot if it's a template")
        if vm.stage != VM.Stage.DEFINED:
            raise StateError(f"VM {vm.vmid} is not created yet; finish its wizard first.")
        if Snapshot.objects.filter(vm=vm, name=params.snapname).exists():
            raise ConfigError("snapname", f"snapshot name '{params.snapname}' already used")
        refused = snapdisks.refusals(vm)
        if refused:
            reasons = " ".join(f"{key}: {text}" for key, text in refused.items())
            raise StateError(f"snapshot feature is not available. {reasons}")
        if params.vmstate and vm.running:
            mapping = config_of(vm)
            saving.check_movable(mapping)
            saving.check_room(vm, saving.choose_storage(vm, mapping), saving.room_for(mapping))

    async def run(self, ctx: Context) -> None:
        vm, name = ctx.vm, ctx.params.snapname
        guest = ctx.services.guest(vm.vmid)
        mapping = config_of(vm)
        disks = await ctx.db(snapdisks.held_by, vm, mapping)
        await snapdisks.check_unused(ctx, guest, disks, name)
        storage = None
        if guest is not None and ctx.params.vmstate:
            await saving.check_savable(guest)
            storage = await ctx.db(saving.choose_storage, vm, mapping)
        for volid in planned(vm, name, disks, storage).values():
            await saving.check_free(ctx, volid)
        ctx.on_undo(f"snapshot '{name}'", lambda: self._take_back(ctx))
        made = await ctx.db(begin, vm, ctx.params, guest, disks, storage)
        ctx.step("begun")
        machine = {}
        try:
            if guest is not None and storage is not None:
                machine = await saving.machine_of(guest)
                await with_memory(ctx, guest, made, disks, storage, saving.room_for(mapping))
            else:
                await without_memory(ctx, guest, made, disks)
        except VMError as error:
            error.hint = f"{error.hint} {await stopped_by_disk(ctx)}".strip()
            raise
        ctx.at_end(lambda: complete(vm, made, machine))

    @staticmethod
    async def _take_back(ctx: Context) -> None:
        made = await ctx.db(unfinished, ctx.vm, ctx.params.snapname)
        if made is not None:
            await wipe(ctx, made)

    async def resume(self, ctx: Context) -> None:
        """An unfinished snapshot is removed; the guest does what it did before."""
        await self._take_back(ctx)
        raise StateError(
            f"The worker was restarted in the middle of this snapshot; nothing is left of it. "
            f"{await self.now(ctx)}"
        )


def planned(vm: VM, name: str, disks: list[Held], storage: Storage | None) -> dict[str, str]:
    """The ids of the volumes the snapshot will have besides the disks."""
    found = {}
    if storage is not None:
        found["volume"] = saving.volume_name(storage.name, vm.vmid, name)
    for held in disks:
        if held.key == TPM:
            found[TPM] = saving.volume_name(held.volume.storage.name, vm.vmid, tpmcopy.name_of(name))
    return found


def begin(vm: VM, params: Any, guest: Guest | None, disks: list[Held], storage: Storage | None) -> Snapshot:
    """The row of a snapshot about to be made; it names everything there will be of it."""
    was = guest.status if guest is not None else VM.Status.STOPPED.value
    known = {"was": was, **planned(vm, params.snapname, disks, storage)}
    config = {key: text for key, text in config_of(vm).items() if not _LEFT_OUT.fullmatch(key)}
    with transaction.atomic():
        made = Snapshot.objects.create(
            vm=vm, name=params.snapname, description=params.description or "", parent=vm.parent,
            config=config, state=Snapshot.State.PREPARE, running=known,
        )  # fmt: skip
        mirror.schedule(vm)
    notify.changed(f"vm-{vm.vmid}")
    return made


async def with_memory(
    ctx: Context, guest: Guest, made: Snapshot, disks: list[Held], storage: Storage, size: int
) -> None:
    """Disks and memory of one instant; the guest stands still until the memory is written."""
    driver = ctx.services.storage(storage.name, storage.facts())
    found = await driver.allocate_state(ctx.vm.vmid, made.name, size)
    ctx.step("place made")

    def keep() -> Volume:
        with transaction.atomic():
            row = keep_volume(storage, ctx.vm.node, found)
            Snapshot.objects.filter(pk=made.pk).update(vmstate=row)
        return row

    volume = await ctx.db(keep)
    ctx.step("place kept")
    opened = await snapdisks.inside(guest, disks)
    began = time.monotonic()

    async def go_on() -> None:
        ctx.step("memory saved")
        await let_go(ctx, guest, made)
        await ctx.log(f"the guest stood still for {time.monotonic() - began:.2f} s")

    await guest.monitor.stop()
    ctx.step("stopped")
    await disks_now(ctx, guest, made, disks, opened)
    await saving.write(ctx, guest, volume, go_on)


async def without_memory(ctx: Context, guest: Guest | None, made: Snapshot, disks: list[Held]) -> None:
    """The disks alone, file systems whole where the agent helps.

    A TPM makes the guest stand still, and so does a disk whose storage takes the snapshot.
    """
    opened = await snapdisks.inside(guest, disks)
    async with calm(ctx, guest, config_of(ctx.vm)) as frozen:
        if frozen:
            ctx.step("frozen")
        if guest is None or not any(held.key == TPM or snapdisks.apart(held) for held in disks):
            await disks_now(ctx, guest, made, disks, opened)
            return
        began = time.monotonic()
        await guest.monitor.stop()
        try:
            ctx.step("stopped")
            await disks_now(ctx, guest, made, disks, opened)
        finally:
            await let_go(ctx, guest, made)
        await ctx.log(f"the guest stood still for {time.monotonic() - began:.2f} s")


async def let_go(ctx: Context, guest: Guest, made: Snapshot) -> None:
    """The guest does again what it did, and its row says so."""
    await as_before(guest, made.running.get("was", ""))
    await ctx.services.observe(ctx.vm.vmid)


async def disks_now(
    ctx: Context, guest: Guest | None, made: Snapshot, disks: list[Held], opened: Mapping[str, BlockNodes]
) -> None:
    """The TPM's copy and the snapshots of all disks; ``opened`` are those QEMU has open."""
    for held in disks:
        if held.key == TPM:
            await tpmcopy.copy(ctx, held, made.name)
            ctx.step("TPM copied")
    await snapdisks.take(ctx, guest, disks, made.name, opened)
    ctx.step("disks taken")
    await ctx.log(f"disks: {', '.join(held.key for held in disks) or 'none'}")


def complete(vm: VM, made: Snapshot, machine: Mapping[str, str]) -> None:
    """The snapshot is whole (in the transaction that ends the task): the VM derives from it now."""
    kept = {key: made.running[key] for key in (TPM,) if key in made.running}
    Snapshot.objects.filter(pk=made.pk).update(state="", running={**kept, **machine})
    VM.everything.filter(pk=vm.pk).update(parent=made)
    mirror.schedule(vm)
    notify.changed(f"vm-{vm.vmid}", "storage")


async def wipe(ctx: Context, made: Snapshot) -> None:
    """Remove whatever there is of an unfinished snapshot; the guest does what it did before."""
    guest = ctx.services.guest(ctx.vm.vmid)
    if guest is not None:
        await statefile.abandon(guest.monitor)
        await let_go(ctx, guest, made)
        await thaw_left(ctx, guest, config_of(ctx.vm))
    for held in await ctx.db(snapdisks.held_by, ctx.vm, made.config):
        if held.key != TPM:
            await snapdisks.remove(ctx, guest, held, made.name)
    await free_volumes(ctx, made)
    await ctx.db(forget, ctx.vm, made)
