"""The rows of volumes: made, found and asked who needs them; and reading a storage again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vms import access
from vms.errors import NotFound
from vms.models import AuditEntry, Disk, Node, Snapshot, Storage, Task, Volume
from vms.models.configuration import is_drive
from vms.operations.base import Context, NodeOperation, Params, operation, submit_on
from vms.schema.option import opt
from vms.storage import base
from vms.tasks import notify


def keep_volume(storage: Storage, node: Node, found: base.Volume) -> Volume:
    """The row of a volume that is there: made, or brought up to date."""
    name = found.volid.partition(":")[2]
    values: dict[str, Any] = {
        "content": found.content, "format": found.format, "size": found.size, "vmid": found.vmid,
        "base": base_row(storage, node, found), "present": True, "used": found.used, "made": found.made,
        "notes": found.notes, "protected": found.protected,
    }  # fmt: skip
    where = None if storage.shared else node
    row, _ = Volume.objects.update_or_create(storage=storage, node=where, name=name, defaults=values)
    # A scan may have made the row before us; whoever goes on with it must not have to ask for its storage.
    row.storage, row.node = storage, where
    return row


def base_row(storage: Storage, node: Node, found: base.Volume) -> Volume | None:
    """The row of the base a linked clone lies on, if it is known."""
    if not found.base:
        return None
    rows = Volume.objects.filter(storage=storage, node=None if storage.shared else node)
    return rows.filter(name=found.base.partition(":")[2]).first()


def snapshots_with(volume: Volume) -> list[str]:
    """The snapshots a volume is in, as a disk or as saved memory: ``before-upgrade of VM 101``.

    Such a volume is never deleted and never given away: going back to the snapshot needs it.
    """
    if volume.vmid is None:
        return []
    rows = Snapshot.objects.filter(vm__vmid=volume.vmid).select_related("vm").order_by("pk")
    return [
        f"{row.name} of VM {row.vm.vmid}"
        for row in rows
        if row.vmstate_id == volume.pk
        or volume.volid in config_volumes(row.config) | config_volumes(row.running)
    ]


def config_volumes(config: Mapping[str, str]) -> set[str]:
    """The first word of every drive of a configuration: its volume."""
    drives = (text for key, text in config.items() if is_drive(key))
    return {str(text).partition(",")[0].removeprefix("file=") for text in drives}


def needed(volume: Volume) -> bool:
    """Whether anything remembers the volume, so that its row must stay even when its file is gone."""
    return (
        volume.disks.exists() or volume.clones.exists() or volume.states.exists()
        or bool(snapshots_with(volume))
    )  # fmt: skip


def register_upload(
    storage: Storage, node: Node, name: str, size: int, sha256: str, user: Any, *, fmt: str = "iso"
) -> Volume:
    """The row of an ISO or an image to import that was just uploaded to ``node``.

    ``name`` is the file's (``debian.iso``, ``import/debian.qcow2``; without a folder it is an ISO), ``size``
    what a guest will see in bytes, ``fmt`` the image's format.
    """
    name = name if name.startswith(("iso/", "import/")) else f"iso/{name}"
    row, _ = Volume.objects.update_or_create(
        storage=storage, node=None if storage.shared else node, name=name,
        defaults={
            "content": name.partition("/")[0], "format": fmt, "size": size, "present": True, "sha256": sha256
        },
    )  # fmt: skip
    username = user.get_username() if user is not None else "system"
    AuditEntry.objects.create(username=username, action="upload", target=row.volid[:200])
    notify.changed("storage")
    return row


def remove_iso(volume: Volume, user: Any, node: Node | None = None) -> Task:
    """Ask for an ISO's removal. Raises :class:`AccessError`, or :class:`StateError` while a VM uses it.

    ``node``: who shall do it on a shared storage; the first that is there by default.
    """
    where = volume.node or node or Node.objects.first()
    if where is None:
        raise NotFound("There is no node that could do it.")
    return submit_on("imgdel", node=where, user=user, params={"volume": volume.volid})


def find_volume(volid: str, node: Node) -> Volume:
    """The volume ``volid`` as ``node`` sees it. Raises :class:`NotFound`."""
    storage, _, name = volid.partition(":")
    rows = Volume.objects.select_related("storage").filter(storage__name=storage, name=name)
    for row in rows:
        if row.node_id in (None, node.pk):
            return row
    raise NotFound(f"There is no volume '{volid}' on node {node.name}.")


def users_of(volume: Volume) -> list[str]:
    """Who has the volume in a drive: ``VM 101 (ide2)``."""
    return [
        f"VM {disk.vm.vmid} ({disk.slot})"
        for disk in Disk.objects.filter(volume=volume).select_related("vm").order_by("vm__vmid")
    ]


@dataclass(frozen=True, kw_only=True)
class VolumeParams(Params):
    """A volume."""

    volume: str = opt("Volume", required=True, max_length=300, help="Its id, such as local:iso/debian.iso.")


@dataclass(frozen=True, kw_only=True)
class ScanParams(Params):
    """A storage, or all of them."""

    storage: str | None = opt("Storage", max_length=63, help="Its name; empty for all.")


@operation("storagescan", privilege="Datastore.Audit", label="Scan storage", params=ScanParams)
class ScanStorage(NodeOperation):
    """Look what lies on a storage, now."""

    def authorise_on(self, user: Any, node: Node, params: Any) -> None:
        access.require(
            user, "Datastore.Audit", f"/storage/{params.storage}" if params.storage else "/storage"
        )

    def check_on(self, node: Node, params: Any) -> None:
        if params.storage and not Storage.objects.filter(name=params.storage).exists():
            raise NotFound(f"There is no storage '{params.storage}'.")

    def subject(self, params: Any) -> str:
        return params.storage or ""

    async def run(self, ctx: Context) -> None:
        found = await ctx.services.scan(ctx.params.storage or "")
        await ctx.log(f"{found} volumes found")
