"""Rescan: what the storages hold against what the configuration says of a VM's disks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from vms.config.upkeep import free_unused, holds_volume, is_seed, is_unused, volume_of
from vms.errors import StorageError
from vms.models import VM, Storage
from vms.models.configuration import config_of, save_config, size_text
from vms.operations.base import Context, Operation, Params, operation
from vms.operations.drives import check_defined, driver_of, with_volume
from vms.operations.volumes import config_volumes, keep_volume
from vms.operations.waiting import fresh_of
from vms.operations.warmstate import warm_disks
from vms.schema.option import opt
from vms.storage import base
from vms.storage.names import STATE_NAME
from vms.tasks import notify

Found = dict[str, tuple[Storage, base.Volume]]
"""Volume id → where it lies and what it is."""


@dataclass(frozen=True, kw_only=True)
class RescanParams(Params):
    """Whether to look only."""

    dryrun: bool | None = opt("Dry run", default=False, help="Say what would change, and change nothing.")


@operation("rescan", privilege="VM.Config.Disk", label="Rescan disks of", params=RescanParams)
class Rescan(Operation):
    """Correct the sizes of a VM's disks; add volumes of its own that no drive holds as unused disks."""

    def check(self, vm: VM, params: Any) -> None:
        check_defined(vm)

    async def run(self, ctx: Context) -> None:
        found: Found = {}
        for storage in await ctx.db(lambda: list(Storage.objects.filter(enabled=True).order_by("name"))):
            if "images" in storage.content:
                found |= await listed(ctx, storage)
        for text in await ctx.db(bring_in_line, ctx.vm, found, bool(ctx.params.dryrun)):
            await ctx.log(text)

    async def resume(self, ctx: Context) -> None:
        """Safe to do twice."""
        await self.run(ctx)


async def listed(ctx: Context, storage: Storage) -> Found:
    """The VM's volumes on a storage. One that cannot be read is a warning, no end."""
    try:
        listing = await driver_of(ctx, storage).list("images", ctx.vm.vmid)
    except (StorageError, OSError) as error:
        await ctx.warn(f"storage '{storage.name}' was not read: {error}")
        return {}
    return {volume.volid: (storage, volume) for volume in listing.volumes}


def bring_in_line(vm: VM, found: Found, dryrun: bool) -> list[str]:
    """Make the configuration what was found; answers what changed, or would."""
    said = []
    with transaction.atomic():
        fresh = fresh_of(vm)
        mapping = config_of(fresh)
        for key, text in list(mapping.items()):
            if holds_volume(key) and not is_unused(key) and volume_of(text) in found:
                said += _size(mapping, key, found[volume_of(text)][1])
        for volid in sorted(found.keys() - set(spoken_for(fresh))):
            name = volid.partition(":")[2]
            if is_seed(volid) or STATE_NAME.fullmatch(name):
                continue
            key = free_unused(mapping)
            mapping[key] = volid
            said.append(f"add unreferenced volume '{volid}' as '{key}'")
        if said and not dryrun:
            for storage, volume in found.values():
                keep_volume(storage, fresh.node, volume)
            save_config(fresh, mapping)
    if said and not dryrun:
        notify.changed(f"vm-{vm.vmid}", "storage")
    return said or ["every volume is known, every size is right"]


def _size(mapping: dict[str, str], key: str, volume: base.Volume) -> list[str]:
    """Correct the size a drive says; a CD drive's is of no use to anybody."""
    words = mapping[key].split(",")
    if "media=cdrom" in words or f"size={size_text(volume.size)}" in words:
        return []
    before = next((word for word in words if word.startswith("size=")), "size=?")
    mapping[key] = with_volume(mapping[key], volume.volid, volume.size)
    return [f"size of disk '{volume.volid}' ({key}) updated from {before[5:]} to {size_text(volume.size)}"]


def spoken_for(vm: VM) -> Iterable[str]:
    """The volumes that the VM, what waits of it, its snapshots and its saved memory name."""
    yield from config_volumes(config_of(vm))
    for key, text in vm.pending.items():
        if isinstance(text, str) and holds_volume(key):
            yield volume_of(text)
    if vm.vmstate is not None:
        yield vm.vmstate.volid
    yield from warm_disks(vm).values()
    for snapshot in vm.snapshots.select_related("vmstate__storage"):
        yield from config_volumes(snapshot.config)
        if snapshot.vmstate is not None:
            yield snapshot.vmstate.volid
