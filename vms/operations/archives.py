"""Backups that are there: where they may lie, their notes and their protection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vms.errors import StateError
from vms.models import Node, Storage, Volume
from vms.operations.backuprights import PRIVILEGE, require_backup
from vms.operations.base import Context, NodeOperation, Params, operation
from vms.operations.volumes import find_volume
from vms.schema.option import opt
from vms.storage.dump import NOTES_LIMIT, clean
from vms.tasks import notify


def backup_stores(node: Node) -> list[Storage]:
    """The enabled storages that take backups, with what ``node`` last saw of each in ``statuses``."""
    rows = Storage.objects.filter(enabled=True).prefetch_related("statuses").order_by("name")
    return [row for row in rows if "backup" in row.content]


def topics(volume: Volume) -> list[str]:
    """What to hint when a backup changed."""
    return ["storage", *([f"vm-{volume.vmid}"] if volume.vmid is not None else [])]


def find_backup(volid: str, node: Node) -> Volume:
    """The row of a backup. Raises :class:`NotFound`, or :class:`StateError` for another kind of volume."""
    volume = find_volume(volid, node)
    if volume.content != Volume.Content.BACKUP:
        raise StateError(f"'{volume.volid}' is no backup.")
    return volume


@dataclass(frozen=True, kw_only=True)
class BackupParams(Params):
    """What of a backup is changed; what is not given stays."""

    volume: str = opt("Backup", required=True, max_length=300, help="Its id: STORAGE:backup/vzdump-qemu-….")
    notes: str | None = opt("Notes", lines=True, max_length=NOTES_LIMIT // 4, help="What this backup is.")
    protected: bool | None = opt("Protected", help="Neither retention nor a person removes it.")


@operation("backupset", privilege=PRIVILEGE, label="Change backup", params=BackupParams)
class ChangeBackup(NodeOperation):
    """Write a backup's notes, or protect it."""

    def authorise_on(self, user: Any, node: Node, params: Any) -> None:
        require_backup(user, params.volume)

    def check_on(self, node: Node, params: Any) -> None:
        volume = find_backup(params.volume, node)
        if not volume.present:
            raise StateError(f"The file of '{volume.volid}' is missing.", hint="Rescan its storage.")

    def subject(self, params: Any) -> str:
        return str(params.volume)

    async def run(self, ctx: Context) -> None:
        volume = await ctx.db(find_backup, ctx.params.volume, ctx.services.node)
        driver = ctx.services.storage(volume.storage.name, volume.storage.facts())
        changes: dict[str, Any] = {}
        if ctx.params.notes is not None:
            await driver.write_notes(volume.volid, ctx.params.notes)
            changes["notes"] = clean(ctx.params.notes)
            ctx.step("notes written")
        if ctx.params.protected is not None:
            await driver.protect(volume.volid, ctx.params.protected)
            changes["protected"] = ctx.params.protected
            ctx.step("protection written")
            await ctx.log("protected" if ctx.params.protected else "no longer protected")
        await ctx.db(lambda: Volume.objects.filter(pk=volume.pk).update(**changes))
        notify.changed(*topics(volume))
