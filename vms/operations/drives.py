"""A VM's drives as the verbs on disks see them: found by their key, given another volume, rid of the old.

What is done to a disk holds at once. So it also goes into what waits for the next start, and into the record
of the run when the running machine has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.db import transaction

from vms import access
from vms.config.upkeep import free_unused, holds_volume, is_unused, volume_of
from vms.config.vmconfig import parse_value
from vms.errors import ConfigError, StateError, StorageError
from vms.hardware.context import LaunchContext
from vms.models import VM, Storage, Volume
from vms.models.configuration import config_of, is_drive, save_config, size_text, state_digest
from vms.models.notes import note_work
from vms.operations.base import Context
from vms.operations.start import launch_context, storages_of
from vms.operations.volumes import keep_volume
from vms.operations.waiting import fresh_of, needed_by
from vms.storage import base
from vms.tasks import notify

FIRMWARE = ("efidisk0", "tpmstate0")


@dataclass(frozen=True, kw_only=True)
class Drive:
    """A drive that holds a volume. ``text`` is its value, ``part`` the same parsed, ``volume`` the row with
    its storage."""

    slot: str
    text: str
    part: Any
    volume: Volume

    @property
    def is_unused(self) -> bool:
        """Whether the volume is in no drive of the guest."""
        return is_unused(self.slot)

    @property
    def is_seed(self) -> bool:
        """Whether it is the cloud-init drive."""
        return bool(getattr(self.part, "is_cloudinit", False))

    @property
    def is_tpm(self) -> bool:
        return self.slot == "tpmstate0"


def find_drive(vm: VM, key: str, *, named: str = "disk") -> Drive:
    """The disk in ``key``. Raises :class:`ConfigError` on the parameter ``named``: there is none, or it is a
    CD drive that holds no cloud-init volume."""
    mapping = config_of(vm)
    if not is_drive(key) or key not in mapping:
        raise ConfigError(named, f"disk '{key[:40]}' does not exist")
    disk = next(disk for disk in vm.disks.all() if disk.slot == key)
    part = parse_value(key, mapping[key])
    if disk.media == "cdrom" and not part.is_cloudinit:
        raise ConfigError(named, f"'{key}' is a CD drive; its medium is changed, nothing else")
    if disk.volume is None:
        raise ConfigError(named, f"'{key}' has no volume of a storage")
    return Drive(slot=key, text=mapping[key], part=part, volume=disk.volume)


def check_defined(vm: VM) -> None:
    """Raise :class:`StateError` for a draft or a template, whose disks stay as they are."""
    if vm.stage != VM.Stage.DEFINED:
        raise StateError(f"VM {vm.vmid} is not created yet; finish its wizard first.")
    if vm.template:
        raise StateError(
            f"VM {vm.vmid} is a template: its disks stay as they are, clones may lie on them.",
            hint="Clone it and change the clone.",
        )


def check_digest(vm: VM, digest: str | None) -> None:
    """Raise :class:`StateError` when somebody has changed the configuration since the asker saw it."""
    if digest and digest not in (vm.digest, state_digest(vm)):
        raise StateError(
            "checksum mismatch: the configuration was changed by somebody else meanwhile",
            hint="Reload and make your change again.",
        )


def target_storage(name: str) -> Storage:
    """The storage a disk may go to. Raises :class:`ConfigError` on ``storage``."""
    row = Storage.objects.filter(name=name).first()
    if row is None:
        known = ", ".join(Storage.objects.filter(enabled=True).values_list("name", flat=True)) or "none"
        raise ConfigError("storage", f"storage '{name[:63]}' does not exist; there are: {known}")
    if not row.enabled:
        raise ConfigError("storage", f"storage '{name}' is switched off")
    if "images" not in row.content:
        raise ConfigError("storage", f"storage '{name}' does not take disk images")
    return row


def authorise_disk(user: Any, vm: VM, *storages: str) -> None:
    """Raise :class:`AccessError` unless ``user`` may change the VM's disks and take room on the storages."""
    access.require_vm(user, "VM.Config.Disk", vm)
    for name in storages:
        access.require(user, "Datastore.AllocateSpace", f"/storage/{name}")


def driver_of(ctx: Context, storage: Storage) -> Any:
    """The driver of a storage."""
    return ctx.services.storage(storage.name, storage.facts())


def running_context(ctx: Context, *storages: Storage) -> LaunchContext:
    """What a start would know, on the machine that runs now. ``storages`` are known besides the VM's own."""
    vm = ctx.vm
    known = storages_of(vm) | {row.name: row.facts() for row in storages}
    made = launch_context(ctx, vm, replace(ctx.services.facts, storages=known), {})
    return replace(made, machine=str(vm.launch.get("machine", "")))


# ---- rows


def with_volume(text: str, volid: str, size: int) -> str:
    """A drive's value with another volume, or the same in another size; its other options stay."""
    rest = dict(pair.partition("=")[::2] for pair in text.split(",")[1:] if pair)
    rest.pop("format", None)
    rest["size"] = size_text(size)
    return ",".join([volid, *(f"{key}={rest[key]}" for key in sorted(rest))])


def put_volume(vm: VM, drive: Drive, storage: Storage, found: base.Volume, *, live: bool) -> str:
    """The one transaction in which a drive gets the volume ``found``; answers where the old one is now.

    That is an ``unusedN``, or nothing for a cloud-init drive's and for a drive that keeps its volume.
    ``live``: the running machine has it already.
    """
    with transaction.atomic():
        fresh = fresh_of(vm)
        keep_volume(storage, fresh.node, found)
        mapping, old, left = config_of(fresh), drive.volume.volid, ""
        text = found.volid if drive.is_unused else with_volume(mapping[drive.slot], found.volid, found.size)
        mapping[drive.slot] = text
        if old != found.volid and not drive.is_seed:
            left = free_unused(mapping)
            mapping[left] = old
        save_config(fresh, mapping)
        values: dict[str, Any] = {"pending": _waiting(fresh.pending, old, found)}
        if live and isinstance(fresh.launch.get("config"), dict):
            values["launch"] = {**fresh.launch, "config": {**fresh.launch["config"], drive.slot: text}}
        VM.everything.filter(pk=fresh.pk).update(**values)
    notify.changed(f"vm-{vm.vmid}", "storage")
    return left


def _waiting(pending: Mapping[str, Any], old: str, found: base.Volume) -> dict[str, Any]:
    """What waits for the next start, about the new volume where it was about the old."""

    def about(key: str, text: Any) -> bool:
        return isinstance(text, str) and holds_volume(key) and volume_of(text) == old

    return {
        key: with_volume(text, found.volid, found.size) if about(key, text) else text
        for key, text in pending.items()
    }


async def delete_volume(ctx: Context, volume: Volume) -> None:
    """Delete a volume that is in no drive but an ``unusedN``, then its rows. Safe to begin again.

    Raises :class:`StorageError` when somebody still needs it; it stays then.
    """
    reason = await ctx.db(needed_by, volume)
    if reason:
        raise StorageError(reason)
    await driver_of(ctx, volume.storage).free(volume.volid)
    ctx.step("old volume freed")
    await ctx.db(forget_volume, ctx.vm, volume)
    await ctx.log(f"removed volume '{volume.volid}'")


def forget_volume(vm: VM, volume: Volume) -> None:
    """The volume is gone: so are the ``unusedN`` that held it and its row."""
    with transaction.atomic():
        fresh = fresh_of(vm)
        mapping = config_of(fresh)
        left = {
            key: text
            for key, text in mapping.items()
            if not (is_unused(key) and volume_of(text) == volume.volid)
        }
        if left != mapping:
            save_config(fresh, left)
        Volume.objects.filter(pk=volume.pk, disks=None).delete()
    notify.changed(f"vm-{vm.vmid}", "storage")


async def remove_new(ctx: Context, storage: Storage, volid: str) -> None:
    """Delete a volume that was being made. One that is in a drive by now is none, and stays."""
    rows = Volume.objects.filter(storage=storage, name=volid.partition(":")[2])
    if await ctx.db(rows.filter(disks__isnull=False).exists):
        return
    await driver_of(ctx, storage).free(volid)
    await ctx.db(rows.filter(disks=None).delete)  # a scan may have seen it meanwhile
    await ctx.log(f"removed volume '{volid}', which belonged to nothing yet")


# ---- notes


async def volumes_there(ctx: Context, storage: Storage, vmid: int) -> set[str]:
    """The volumes on a storage that carry that number."""
    listing = await driver_of(ctx, storage).list("images", vmid)
    return {volume.volid for volume in listing.volumes}


async def remember(ctx: Context, note: Mapping[str, Any]) -> None:
    """Note what is about to be done; forgotten again when all of it was undone."""
    await ctx.db(note_work, ctx.vm, note)
    ctx.on_undo("its notes", lambda: ctx.db(note_work, ctx.vm, {}))
