"""Import disk: an image becomes a disk of a VM that exists.

The image is one of the library, a disk of another VM that is off, or, asked for in a shell on the node, a
file by its path.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from django.db import transaction

from vms import access
from vms.config.upkeep import free_unused, is_unused, volume_of
from vms.config.vmconfig import parse_value
from vms.errors import AccessError, ConfigError, StateError
from vms.models import VM, Storage, Volume
from vms.models.configuration import config_of, is_drive, save_config, size_text
from vms.models.notes import note_work
from vms.operations import images
from vms.operations.base import Context, Operation, Params, operation
from vms.operations.create import DEFAULT_FORMAT
from vms.operations.drives import (
    FIRMWARE,
    authorise_disk,
    check_defined,
    driver_of,
    remember,
    remove_new,
    target_storage,
    volumes_there,
)
from vms.operations.memory import to_the_end
from vms.operations.volumes import find_volume, keep_volume
from vms.operations.waiting import fresh_of, fresh_of_now
from vms.schema.option import opt
from vms.storage import base
from vms.storage.making import foreign_format
from vms.tasks import notify

NOTE = "import"
"""In ``VM.draft`` while an image is imported: what lay on the target storage before."""


@dataclass(frozen=True, kw_only=True)
class ImportParams(Params):
    """What is imported, where to, and as which disk."""

    source: str = opt(
        "Image", required=True, max_length=512,
        help="An image of a storage's library, such as local:import/debian.qcow2.",
    )  # fmt: skip
    storage: str = opt("Target storage", required=True, max_length=63, help="Where the new disk lies.")
    format: Literal["raw", "qcow2"] | None = opt(
        "Format", labels={"raw": "Raw disk image (raw)", "qcow2": "QEMU image format (qcow2)"},
        help="The format of the new disk; empty: qcow2.",
    )  # fmt: skip
    target_disk: str | None = opt(
        "Target disk", key="target-disk", max_length=12,
        help="The key the disk gets, such as scsi1; empty: it becomes an unused disk.",
    )  # fmt: skip


@operation("importdisk", privilege="VM.Config.Disk", label="Import disk to", params=ImportParams)
class ImportDisk(Operation):
    """Make a disk of an image."""

    def authorise(self, user: Any, vm: VM, params: Any) -> None:
        authorise_disk(user, vm, params.storage)
        if params.source.startswith("/"):
            raise AccessError("A file of the node is imported in a shell there: qm disk import.")
        storage, _, name = params.source.partition(":")
        if not images.may_read(user, storage):
            access.require(user, "Datastore.Audit", f"/storage/{storage}")
        rows = Volume.objects.filter(storage__name=storage, name=name, vmid__isnull=False)
        owners = VM.objects.filter(vmid__in=rows.values("vmid")).select_related("pool")
        for owner in owners:
            access.require_vm(user, "VM.Clone", owner)

    def check(self, vm: VM, params: Any) -> None:
        check_defined(vm)
        target_storage(params.storage)
        check_key(vm, params.target_disk)
        if not params.source.startswith("/"):
            image_of(vm, params.source)

    async def run(self, ctx: Context) -> None:
        storage = await ctx.db(target_storage, ctx.params.storage)
        before = sorted(await volumes_there(ctx, storage, ctx.vm.vmid))
        await remember(ctx, {NOTE: before})
        ctx.step("noted")
        made = await copied(ctx, storage)
        ctx.on_undo(f"volume {made.volid}", lambda: remove_new(ctx, storage, made.volid))
        ctx.step("imported")

        async def store() -> str:
            key = await ctx.db(plug, ctx.vm, storage, made, ctx.params.target_disk)
            ctx.keep()
            return key

        key = await to_the_end(store())
        ctx.step("stored")
        await ctx.log(f"imported '{ctx.params.source}' as {key}: '{made.volid}'")
        await ctx.db(note_work, ctx.vm, {})

    async def resume(self, ctx: Context) -> None:
        """Well when the disk is there; otherwise nothing of it is."""
        note = ctx.vm.draft.get(NOTE)
        if note is None:
            raise StateError(
                "The worker was restarted before the image was imported.", hint="Import it again."
            )
        storage = await ctx.db(target_storage, ctx.params.storage)
        new = await volumes_there(ctx, storage, ctx.vm.vmid) - set(note)
        mapping = await ctx.db(lambda: config_of(fresh_of_now(ctx.vm)))
        await ctx.db(note_work, ctx.vm, {})
        if new & {volume_of(text) for key, text in mapping.items() if is_drive(key)}:
            await ctx.log("the worker was restarted after the image had been imported")
            return
        for volid in sorted(new):
            await remove_new(ctx, storage, volid)
        raise StateError(
            "The worker was restarted while the image was being imported; nothing of it is left.",
            hint="Import it again.",
        )


def check_key(vm: VM, key: str | None) -> None:
    """Raise unless a new disk can become ``key`` of the VM now."""
    if key is None:
        free_unused(config_of(vm))
        return
    if not is_drive(key) or key in FIRMWARE:
        raise ConfigError("target-disk", f"'{key[:40]}' is no disk; write scsi1 or unused0")
    if key in config_of(vm) or vm.pending.get(key):
        raise ConfigError("target-disk", f"'{key}' is already in use in VM {vm.vmid}")
    if vm.running and not is_unused(key):
        raise StateError(
            f"VM {vm.vmid} is running.", hint="Import it as an unused disk and attach it under Hardware."
        )


def image_of(vm: VM, volid: str) -> Volume:
    """The image to import. Raises :class:`NotFound` or :class:`ConfigError`."""
    volume = find_volume(volid, vm.node)
    if not volume.present:
        raise ConfigError("source", f"the file of '{volid}' is missing")
    if volume.content == Volume.Content.ISO:
        raise ConfigError("source", "an ISO image goes into a CD drive")
    if volume.vmid is not None:
        owner = VM.objects.filter(vmid=volume.vmid).first()
        if owner is not None and owner.running:
            raise ConfigError("source", f"'{volid}' is in use: VM {owner.vmid} is running")
    return volume


async def copied(ctx: Context, storage: Storage) -> base.Volume:
    """The new volume, a copy of the image; tells how far it is. Cancelled, it leaves nothing."""
    driver, source = driver_of(ctx, storage), ctx.params.source
    fmt = ctx.params.format or base.fitting(driver.formats, DEFAULT_FORMAT)

    async def told(fraction: float) -> None:
        await ctx.progress(fraction, f"importing: {fraction:.0%}")

    await ctx.log(f"importing '{source}' to storage '{storage.name}'")
    made: base.Volume
    if source.startswith("/"):
        kind = foreign_format(Path(source))
        made = await driver.allocate_import(ctx.vm.vmid, Path(source), kind, fmt, told)
        return made
    volume = await ctx.db(image_of, ctx.vm, source)
    home = driver_of(ctx, volume.storage)
    if volume.vmid is not None:
        async with home.reading(source) as (found, _):
            made = await driver.copy(ctx.vm.vmid, found, fmt, told)
    else:
        found = await home.find(source)
        made = await driver.allocate_import(ctx.vm.vmid, found.path, found.format, fmt, told)
    return made


def plug(vm: VM, storage: Storage, made: base.Volume, wanted: str | None) -> str:
    """The one transaction in which the disk becomes the VM's; answers its key."""
    with transaction.atomic():
        fresh = fresh_of(vm)
        keep_volume(storage, fresh.node, made)
        mapping = config_of(fresh)
        key = wanted or free_unused(mapping)
        text = made.volid if is_unused(key) else f"{made.volid},size={size_text(made.size)}"
        parse_value(key, text)
        mapping[key] = text
        save_config(fresh, mapping)
    notify.changed(f"vm-{vm.vmid}", "storage")
    return key
