"""Rollback: the VM becomes what it was in a snapshot.

Everything that could be refused is refused while the guest still runs. From the moment it is ended nothing
turns back: disks first, then the configuration in one transaction, then the guest, from its memory when the
snapshot has one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from vms import access
from vms.config.creation import new_uuid
from vms.config.privileged import operators_only
from vms.errors import AccessError, StateError, VMError
from vms.models import VM, Snapshot, Volume
from vms.models.configuration import check_saved, config_of, is_drive, save_config
from vms.operations import cloudinit, memory, mirror, snapdisks, tpmcopy
from vms.operations.base import Context, Operation, Params, operation
from vms.operations.guests import as_before, end
from vms.operations.protection import note_owner, protected
from vms.operations.snapdisks import TPM, Held
from vms.operations.snaprows import find
from vms.operations.start import bring_up, parts_of
from vms.operations.volumes import find_volume, keep_volume
from vms.schema.option import opt
from vms.tasks import notify

STOP_TIMEOUT = 5
"""Seconds QEMU gets to end, as in PVE: what it does now is to be forgotten."""
_KEPT = re.compile(r"unused\d+|description")
"""Keys of today that stay (PVE)."""


@dataclass(frozen=True, kw_only=True)
class RollbackParams(Params):
    """What Rollback can be told."""

    snapname: str = opt("Name", required=True, max_length=40, help="The snapshot to go back to.")
    start: bool | None = opt(
        "Start afterwards", default=False,
        help="Start the VM when it is back; with saved memory it goes on in any case.",
    )  # fmt: skip


@operation("qmrollback", privilege="VM.Snapshot", label="Roll back", lock="rollback", params=RollbackParams)
class Rollback(Operation):
    """Go back to a snapshot; what came after it is lost, other snapshots stay."""

    def title(self, vm: VM, params: Any) -> str:
        return f"Roll {vm.vmid} ({vm.display_name}) back to {params.snapname}"

    def authorise(self, user: Any, vm: VM, params: Any) -> None:
        """One of two privileges; a start needs its own. An operator's options come back only by one."""
        if not access.may_vm(user, "VM.Snapshot.Rollback", vm):
            access.require_vm(user, "VM.Snapshot", vm)
        if params.start:
            access.require_vm(user, "VM.PowerMgmt", vm)
        made = Snapshot.objects.filter(vm=vm, name=params.snapname).first()
        if made is not None and not user.is_superuser:
            now = config_of(vm)
            for key, text in made.config.items():
                if operators_only(key, str(text)) and now.get(key) != text:
                    raise AccessError(f"only an operator may bring back '{key}: {str(text)[:60]}'")

    def check(self, vm: VM, params: Any) -> None:
        if vm.template:
            raise StateError("you can't rollback if vm is a template")
        made = find(vm, params.snapname)
        if made.state:
            raise StateError(
                f"unable to rollback to incomplete snapshot (snapstate = {made.state})",
                hint="Delete it; it cannot be used.",
            )
        snapdisks.held_by(vm, made.config)
        check_saved(vm, mapping_after(vm, made)[0])

    async def run(self, ctx: Context) -> None:
        vm = ctx.vm
        made = await ctx.db(find, vm, ctx.params.snapname)
        disks = await ctx.db(snapdisks.held_by, vm, made.config)
        await snapdisks.check_there(ctx, ctx.services.guest(vm.vmid), disks, made.name)
        await check_kept(ctx, made)
        ctx.step("checked")
        await memory.to_the_end(go_back(ctx, made, disks))
        if made.vmstate is None and not ctx.params.start:
            return
        await ctx.progress(None, "starting")
        try:
            await start(ctx, made)
        except VMError as error:
            error.hint = f"{error.hint} The VM is back at '{made.name}' and is off.".strip()
            raise

    async def resume(self, ctx: Context) -> None:
        """A guest that this very rollback has started goes on; anything before that is done again."""
        guest = ctx.services.guest(ctx.vm.vmid)
        if guest is not None and guest.record.get("task") == ctx.task.pk:
            await ctx.log("the worker was restarted; the guest is back")
            await as_before(guest, VM.Status.RUNNING)
            await ctx.services.observe(ctx.vm.vmid)
            return
        await ctx.log("the worker was restarted; going back once more")
        await self.run(ctx)


async def check_kept(ctx: Context, made: Snapshot) -> None:
    """Raise :class:`StorageError` when the saved memory or the TPM's copy is not there any more."""
    for volume in filter(None, (made.vmstate, await ctx.db(tpm_copy, made))):
        await snapdisks.driver_of(ctx, volume).find(volume.volid)


def tpm_copy(made: Snapshot) -> Volume | None:
    """The volume with the TPM's state as it was."""
    volid = made.running.get(TPM)
    return find_volume(str(volid), made.vm.node) if volid else None


async def go_back(ctx: Context, made: Snapshot, disks: list[Held]) -> None:
    """End the guest, take back disks and configuration."""
    await end(ctx, STOP_TIMEOUT)
    ctx.step("stopped")
    try:
        await take_disks_back(ctx, made, disks)
    except VMError as error:
        error.hint = f"{error.hint} The VM is off and partly what it was at '{made.name}': roll back again."
        error.hint = error.hint.strip()
        raise
    for text in await ctx.db(take_back, ctx.vm, made, ctx.task.username):
        await ctx.warn(text)
    ctx.step("configuration back")


async def take_disks_back(ctx: Context, made: Snapshot, disks: list[Held]) -> None:
    """Make every disk what it was, one after the other. Safe to begin again."""
    for number, held in enumerate(disks):
        await ctx.progress(number / len(disks), f"taking {held.key} back")
        if held.key == TPM:
            kept = await ctx.db(tpm_copy, made)
            if kept is not None:
                await tpmcopy.put_back(ctx, held, kept)
        else:
            await snapdisks.revert(ctx, held, made.name)
            found = await snapdisks.driver_of(ctx, held.volume).find(held.volume.volid)
            await ctx.db(keep_volume, held.volume.storage, ctx.vm.node, found)  # it may have grown since
        ctx.step(f"{held.key} back")


def mapping_after(vm: VM, made: Snapshot) -> tuple[dict[str, str], list[str]]:
    """The configuration after the rollback, and what of the snapshot cannot come back, in sentences.

    Disks that are younger than the snapshot stay as ``unusedN``; the generation ID is a new one.
    """
    now = config_of(vm)
    found = {str(key): str(text) for key, text in made.config.items()}
    warnings = _without_lost_media(vm, found)
    back = set(snapdisks.volumes_in(found).values())
    kept = {key: text for key, text in now.items() if _KEPT.fullmatch(key)}
    found |= {key: text for key, text in kept.items() if text.split(",")[0] not in back}
    for volid in snapdisks.lost_with(made, vm).values():
        number = next(number for number in range(256) if f"unused{number}" not in found)
        found[f"unused{number}"] = volid
    if found.get("vmgenid", "0") not in ("0", "1"):
        found["vmgenid"] = new_uuid()
    return found, warnings


def _without_lost_media(vm: VM, found: dict[str, str]) -> list[str]:
    """Empty the CD drives whose medium is gone."""
    warnings = []
    for key, text in found.items():
        volid, *rest = text.split(",")
        if not is_drive(key) or "media=cdrom" not in rest or ":" not in volid:
            continue
        storage, _, name = volid.removeprefix("file=").partition(":")
        rows = Volume.objects.filter(storage__name=storage, name=name)
        if not any(row.node_id in (None, vm.node_id) for row in rows):
            found[key] = "none,media=cdrom"
            warnings.append(f"{key}: '{volid}' no longer exists; the drive is empty")
    return warnings


def take_back(vm: VM, made: Snapshot, who: str) -> list[str]:
    """The one transaction in which the configuration becomes the snapshot's; what waited is dropped."""
    with transaction.atomic():
        fresh = parts_of(vm)
        mapping, warnings = mapping_after(fresh, made)
        before = protected(fresh)
        save_config(fresh, mapping)
        if not before:
            note_owner(fresh, who, f"as it was at snapshot '{made.name}'")
        VM.everything.filter(pk=vm.pk).update(parent=made, pending={})
        mirror.schedule(fresh)
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")
    return warnings


async def start(ctx: Context, made: Snapshot) -> None:
    """Let the guest go on from its memory, or boot."""
    state = memory.saved_in(made)
    vm = await ctx.db(parts_of, ctx.vm)
    if state is not None:
        await ctx.log(f"going on from the memory in '{state.volume.volid}'")
        await cloudinit.refresh(ctx, vm, config_of(vm))
    await bring_up(ctx, vm, state=state)
    if state is not None:
        await memory.set_clock(ctx, vm)


def changed_since(vm: VM, made: Snapshot) -> list[tuple[str, str, str]]:
    """What of the configuration a rollback changes: key, text now, text then ("" : is not there)."""
    now: Mapping[str, str] = config_of(vm)
    then, _ = mapping_after(vm, made)
    keys = sorted((now.keys() | then.keys()) - {"vmgenid"})
    return [
        (key, now.get(key, ""), then.get(key, "")) for key in keys if now.get(key, "") != then.get(key, "")
    ]
