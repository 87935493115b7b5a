"""Disks made from an image: one of the library (content ``import``), or a disk of another stopped VM."""

from __future__ import annotations

from typing import Any

from vms import access
from vms.errors import ConfigError, ConfigErrors, NotFound, StorageError
from vms.models import VM, Disk, Node, Volume
from vms.operations.base import Context
from vms.operations.volumes import find_volume
from vms.storage import base

OPTION = "import-from"


def images_to_import(node: Node, user: Any, storage: str = "") -> list[Volume]:
    """The library's images that ``node`` sees and ``user`` may use, by name; of one ``storage`` if named."""
    rows = Volume.objects.select_related("storage").filter(
        content=Volume.Content.IMPORT, present=True, storage__enabled=True
    )
    if storage:
        rows = rows.filter(storage__name=storage)
    seen: dict[str, bool] = {}
    found = []
    for row in rows.order_by("storage__name", "name"):
        name = row.storage.name
        if name not in seen:
            seen[name] = may_read(user, name)
        if seen[name] and row.node_id in (None, node.pk):
            found.append(row)
    return found


def may_read(user: Any, storage: str) -> bool:
    """Whether ``user`` may make disks from what lies on ``storage``."""
    path = f"/storage/{storage}"
    return bool(access.privileges(user, path) & {"Datastore.AllocateSpace", "Datastore.Audit"})


def sources_of(vm: VM) -> list[tuple[Disk, str]]:
    """The drives of a draft that are to be made from an image, each with the image's volume."""
    return [(disk, str(disk.options[OPTION])) for disk in vm.disks.all() if OPTION in disk.options]


def authorise(user: Any, vm: VM) -> None:
    """Raise :class:`AccessError` unless ``user`` may copy every image the draft names."""
    for _, volid in sources_of(vm):
        authorise_image(user, vm.node, volid)


def authorise_image(user: Any, node: Node, volid: str) -> None:
    """Raise :class:`AccessError` unless ``user`` may copy that image."""
    volume = _found(volid, node)
    if volume is None or volume.vmid is None:
        path = f"/storage/{volid.partition(':')[0]}"
        if not may_read(user, volid.partition(":")[0]):
            access.require(user, "Datastore.Audit", path)
        return
    owner = VM.objects.filter(vmid=volume.vmid).select_related("pool").first()
    pool = owner.pool.name if owner is not None and owner.pool else ""
    access.require(user, "VM.Clone", f"/vms/{volume.vmid}", pool=pool)


def check(vm: VM) -> None:
    """Raise :class:`ConfigErrors` when an image cannot be copied as the draft wants."""
    errors = []
    for disk, volid in sources_of(vm):
        try:
            source(disk, volid, vm.node)
        except ConfigError as error:
            errors.append(error)
    if errors:
        raise ConfigErrors(errors)


def source(disk: Disk, volid: str, node: Node) -> Volume:
    """The image ``disk`` is to be made from. Raises :class:`ConfigError` on the drive."""
    if disk.slot in ("efidisk0", "tpmstate0") or disk.media == "cdrom" or disk.volume is not None:
        raise ConfigError(disk.slot, "only a new hard disk can be made from an image", part=OPTION)
    if volid.startswith("/"):
        text = "a path of the host cannot be imported; upload the image to a storage"
        raise ConfigError(disk.slot, text, part=OPTION)
    volume = _found(volid, node)
    if volume is None or not volume.present:
        raise ConfigError(disk.slot, f"there is no image '{volid}'; upload it or rescan", part=OPTION)
    if volume.content == Volume.Content.ISO:
        raise ConfigError(disk.slot, "an ISO image goes into a CD drive", part=OPTION)
    if volume.content == Volume.Content.BACKUP:
        raise ConfigError(disk.slot, f"'{volid}' is a backup; restore it", part=OPTION)
    if volume.vmid is not None:
        owner = VM.objects.filter(vmid=volume.vmid).first()
        if owner is not None and owner.running:
            text = f"'{volid}' is in use: VM {owner.vmid} is running; stop it first"
            raise ConfigError(disk.slot, text, part=OPTION)
    return volume


async def import_volume(ctx: Context, vm: VM, disk: Disk, driver: Any, fmt: str) -> base.Volume:
    """The new volume for ``disk``, a copy of its image; tells how far it is. Cancelled, it leaves nothing."""
    volid = str(disk.options[OPTION])
    volume = await ctx.db(source, disk, volid, vm.node)
    home = ctx.services.storage(volume.storage.name, volume.storage.facts())
    await ctx.log(f"{disk.slot}: importing '{volid}'")

    async def progress(fraction: float) -> None:
        await ctx.progress(fraction, f"importing {disk.slot}: {fraction:.0%}")

    try:
        if volume.vmid is not None:  # a disk of ours, which may be no file
            async with home.reading(volid) as (found, _):
                return await driver.copy(vm.vmid, found, fmt, progress)  # type: ignore[no-any-return]
        found = await home.find(volid)
        return await driver.allocate_import(  # type: ignore[no-any-return]
            vm.vmid, found.path, found.format, fmt, progress
        )
    except StorageError as error:
        raise ConfigError(disk.slot, str(error), part=OPTION, hint=error.hint) from error


def _found(volid: str, node: Node) -> Volume | None:
    try:
        return find_volume(volid, node)
    except NotFound:
        return None
