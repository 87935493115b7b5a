"""Volumes that are made and removed by themselves, not by a verb on a VM: ``pvesm alloc`` and ``pvesm free``,
and the library's ISO images, images to import and backups, which go the same way."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from vms import access
from vms.errors import ConfigError, NotFound, StateError
from vms.models import VM, Node, Storage, Task, Volume
from vms.models.waiting import waiting_volumes
from vms.operations.backuprights import is_backup, require_backup
from vms.operations.base import Context, NodeOperation, Params, operation
from vms.operations.drives import driver_of, target_storage
from vms.operations.newborn import forget
from vms.operations.steps import undoable
from vms.operations.volumes import VolumeParams, find_volume, keep_volume, snapshots_with, users_of
from vms.operations.warmstate import warm_disks
from vms.schema.option import opt
from vms.schema.types import Size
from vms.storage import base
from vms.tasks import notify
from vms.tasks.queue import UNFINISHED

FILE_NAME = re.compile(r"vm-(?P<vmid>[1-9][0-9]{2,8})-disk-(?P<number>[0-9]{1,4})(?:\.(?P<fmt>qcow2|raw))?")
"""What a disk can be called; its ending is its format."""


def kibibytes(text: str) -> str:
    """A size as PVE's ``pvesm alloc`` takes it: a bare number is KiB. Raises ``ValueError``."""
    size = Size.parse(f"{text}K" if text.isdecimal() else text)
    if size.bytes <= 0:
        raise ValueError("a disk must be larger than 0")
    return str(size)


@dataclass(frozen=True, kw_only=True)
class AllocParams(Params):
    """Where, whose, how large. ``before`` is the task's own note: what lay there when it began."""

    storage: str = opt("Storage", required=True, max_length=63, help="Where the disk image lies.")
    vmid: int = opt(
        "VM ID", required=True, minimum=100, maximum=999_999_999, help="Whose it is; the VM need not exist."
    )
    size: str = opt("Size", required=True, max_length=30, check=kibibytes, help="4G, 512M; a number is KiB.")
    filename: str | None = opt(
        "File name", max_length=60, help="vm-101-disk-3.qcow2; empty: the lowest free number."
    )
    format: Literal["raw", "qcow2"] | None = opt(
        "Format", labels={"raw": "Raw disk image (raw)", "qcow2": "QEMU image format (qcow2)"},
        help="The image's format; empty: what the file name says, else raw.",
    )  # fmt: skip
    before: str = opt("Before", default="", hidden=True, max_length=1 << 20)


@operation("imgalloc", privilege="Datastore.AllocateSpace", label="Allocate disk image", params=AllocParams)
class AllocateImage(NodeOperation):
    """Make an empty disk image that is in no drive yet."""

    def authorise_on(self, user: Any, node: Node, params: Any) -> None:
        access.require(user, self.privilege, f"/storage/{params.storage}")
        owner = VM.everything.filter(vmid=params.vmid).select_related("pool").first()
        if owner is not None:
            access.require_vm(user, "VM.Config.Disk", owner)
        else:
            access.require(user, "VM.Allocate", f"/vms/{params.vmid}")

    def check_on(self, node: Node, params: Any) -> None:
        target_storage(params.storage)
        named(params)

    def subject(self, params: Any) -> str:
        return f"of {params.size} for VM {params.vmid} on {params.storage}"

    async def run(self, ctx: Context) -> None:
        params = ctx.params
        storage = await ctx.db(target_storage, params.storage)
        driver = driver_of(ctx, storage)
        fmt, number = named(params)
        await note_before(ctx, driver)
        ctx.step("noted")
        work = driver.allocate(params.vmid, Size.parse(params.size).bytes, fmt)
        made = await undoable(ctx, work, lambda one: f"volume {one.volid}", partial(discard, ctx, storage))
        if number is not None and number_of(made) != number:
            # Its own undo above finds nothing once it is called otherwise.
            renamed = driver.rename(made.volid, params.vmid, number)
            made = await undoable(
                ctx, renamed, lambda one: f"volume {one.volid}", partial(discard, ctx, storage)
            )
        ctx.step("made")
        await ctx.db(keep_volume, storage, ctx.services.node, made)
        ctx.keep()
        notify.changed("storage")
        await ctx.log(f"successfully created '{made.volid}'")

    async def resume(self, ctx: Context) -> None:
        """What was half made goes, unless another task of that VM may have made it."""
        storage = await ctx.db(target_storage, ctx.params.storage)
        driver, vmid = driver_of(ctx, storage), ctx.params.vmid
        there = {one.volid for one in (await driver.list("images", vmid)).volumes}
        text = "The worker was restarted while the disk image was being made."
        if not ctx.params.before:
            raise StateError(f"{text} Nothing of it is left.", hint="Ask for it again.")
        for volid in sorted(there - set(ctx.params.before.split())):
            if await ctx.db(held_by, storage, vmid, volid):
                raise StateError(f"{text} '{volid}' may be it.", hint="Look with: pvesm list.")
            await driver.free(volid)
            await ctx.db(forget, storage, volid)
            await ctx.log(f"removed volume '{volid}', which belonged to nothing yet")
        raise StateError(f"{text} Nothing of it is left.", hint="Ask for it again.")


def named(params: Any) -> tuple[base.DiskFormat, int | None]:
    """The format and, when the file name says one, the number. Raises :class:`ConfigError`."""
    fmt: base.DiskFormat = params.format or "raw"
    if not params.filename:
        return fmt, None
    found = FILE_NAME.fullmatch(params.filename)
    if found is None or int(found["vmid"]) != params.vmid:
        text = f"'{params.filename}' is no name for a disk of VM {params.vmid}"
        raise ConfigError("filename", f"{text}; write vm-{params.vmid}-disk-0, with .qcow2 or .raw for files")
    if found["fmt"] and params.format and found["fmt"] != params.format:
        raise ConfigError("format", f"is '{params.format}', but the file name ends in '.{found['fmt']}'")
    return ("qcow2" if found["fmt"] == "qcow2" else fmt), int(found["number"])


def number_of(volume: base.Volume) -> int:
    """The number in a disk's name."""
    found = FILE_NAME.fullmatch(volume.volid.rpartition("/")[2].rpartition(":")[2])
    return int(found["number"]) if found else -1


async def note_before(ctx: Context, driver: Any) -> None:
    """Write on the task what lies there already; a dash for nothing."""
    there = [one.volid for one in (await driver.list("images", ctx.params.vmid)).volumes]
    params = {**ctx.task.params, "before": " ".join(there) or "-"}
    await ctx.db(lambda: Task.objects.filter(pk=ctx.task.pk).update(params=params))


async def discard(ctx: Context, storage: Storage, made: base.Volume) -> None:
    """Take a new volume away again."""
    await driver_of(ctx, storage).free(made.volid)
    await ctx.db(forget, storage, made.volid)


def held_by(storage: Storage, vmid: int, volid: str) -> str:
    """Who has, or may just have made, a volume that was not there before; empty when nobody."""
    row = Volume.objects.filter(storage=storage, name=volid.partition(":")[2]).first()
    users = reasons(row) if row is not None else []
    busy = Task.objects.filter(vm__vmid=vmid, status__in=UNFINISHED).first()
    return users[0] if users else busy.label if busy is not None else ""


# ---- removing


@operation("imgdel", privilege="Datastore.AllocateTemplate", label="Remove", params=VolumeParams)
class RemoveImage(NodeOperation):
    """Delete an ISO, an image to import, a backup, or a disk image nothing uses from a storage."""

    def authorise_on(self, user: Any, node: Node, params: Any) -> None:
        if is_backup(params.volume):
            require_backup(user, params.volume)
            return
        storage, _, name = params.volume.partition(":")
        path = f"/storage/{storage}"
        if access.may(user, "Datastore.Allocate", path):
            return
        row = Volume.objects.filter(storage__name=storage, name=name, content=Volume.Content.IMAGES).first()
        owner = VM.everything.filter(vmid=row.vmid or 0).select_related("pool").first() if row else None
        if owner is None:
            access.require(user, "Datastore.Allocate" if row else "Datastore.AllocateTemplate", path)
            return
        access.require(user, "Datastore.AllocateSpace", path)
        access.require_vm(user, "VM.Config.Disk", owner)

    def check_on(self, node: Node, params: Any) -> None:
        volume = find_volume(params.volume, node)
        if volume.protected:
            raise StateError(f"'{volume.volid}' is protected.", hint="Take the protection away first.")
        if volume.content == Volume.Content.IMAGES:
            check_unused(volume)
            return
        used = users_of(volume)
        if used:
            raise StateError(
                f"'{volume.volid}' is used by {', '.join(used)}.", hint="Empty that drive first."
            )

    def subject(self, params: Any) -> str:
        return str(params.volume)

    async def run(self, ctx: Context) -> None:
        node = ctx.services.node
        volume = await ctx.db(find_volume, ctx.params.volume, node)
        driver = ctx.services.storage(volume.storage.name, volume.storage.facts())
        await driver.free(volume.volid)
        await ctx.db(volume.delete)
        notify.changed("storage")

    async def resume(self, ctx: Context) -> None:
        """The file may be gone and the row still there."""
        try:
            await ctx.db(self.check_on, ctx.services.node, ctx.params)
            await self.run(ctx)
        except NotFound:
            await ctx.log("it was removed already")


def check_unused(volume: Volume) -> None:
    """Raise :class:`StateError` while anything needs a disk image, or something is being done to its VM."""
    used = reasons(volume)
    if used:
        raise StateError(
            f"'{volume.volid}' is a disk and is used by {', '.join(used[:5])}.",
            hint="Remove it from its VM instead: detach it, then remove the unused disk.",
        )
    busy = Task.objects.filter(vm__vmid=volume.vmid or 0, status__in=UNFINISHED).order_by("pk").first()
    if busy is not None:
        raise StateError(
            f"'{volume.volid}' may be in use: '{busy.label}' is not finished.", hint="Wait for its end."
        )


def reasons(volume: Volume) -> list[str]:
    """What needs a disk image: drives, drives that wait, clones, snapshots, saved and warm memory."""
    found = users_of(volume)
    found += [f"the clone '{row.volid}'" for row in volume.clones.select_related("storage")]
    found += [f"the saved memory of VM {vm.vmid}" for vm in volume.states.all()]
    found += [f"snapshot {text}" for text in snapshots_with(volume)]
    owner = VM.everything.filter(vmid=volume.vmid).first() if volume.vmid is not None else None
    if owner is not None:
        if volume.pk in {row.pk for row in waiting_volumes(owner)}:
            found.append(f"a waiting change of VM {owner.vmid}")
        if volume.volid in warm_disks(owner).values():
            found.append(f"the warm memory of VM {owner.vmid}")
    return found
