"""Verify: read a whole backup and hold every byte against its sums; the verdict stays with the backup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from vms.errors import StorageError
from vms.models import Node, Volume
from vms.operations.archivefile import present_backup, reading
from vms.operations.archives import topics
from vms.operations.backuprights import PRIVILEGE, require_backup
from vms.operations.base import Context, NodeOperation, Params, operation
from vms.schema.option import opt
from vms.storage.names import gib
from vms.tasks import notify

GOOD = "ok"
"""The verdict of a backup that is whole."""


@dataclass(frozen=True, kw_only=True)
class VerifyParams(Params):
    """Which backup, and how fast."""

    volume: str = opt("Backup", required=True, max_length=300, help="Its id: STORAGE:backup/vzdump-qemu-….")
    bwlimit: int | None = opt(
        "Bandwidth limit", minimum=0, maximum=1 << 40, unit="KiB/s", help="How fast it is read at most."
    )


@operation("verifybackup", privilege=PRIVILEGE, label="Verify backup", params=VerifyParams)
class VerifyBackup(NodeOperation):
    """Read a backup to its end and note whether it is good. Nothing is written but the verdict."""

    def authorise_on(self, user: Any, node: Node, params: Any) -> None:
        require_backup(user, params.volume)

    def check_on(self, node: Node, params: Any) -> None:
        present_backup(params.volume, node)

    def subject(self, params: Any) -> str:
        return str(params.volume)

    async def run(self, ctx: Context) -> None:
        backup = await ctx.db(present_backup, ctx.params.volume, ctx.services.node)
        limit = (ctx.params.bwlimit or 0) * 1024

        async def progress(fraction: float, member: str) -> None:
            await ctx.progress(fraction, f"reading {member}")

        try:
            async with reading(ctx, backup, "verify", limit=limit) as found:
                await ctx.log(f"backup of VM {found.manifest.vmid} ({found.manifest.name}), begun "
                              f"{found.manifest.begun:%Y-%m-%d %H:%M:%S} UTC")  # fmt: skip
                await found.verify(progress)
        except StorageError as error:
            await ctx.db(store_verdict, backup, str(error))
            raise
        await ctx.db(store_verdict, backup, GOOD)
        ctx.step("verdict stored")
        await ctx.log(
            f"every sum is right; {len(found.manifest.disks)} disks, {gib(found.manifest.size)} GiB"
        )


def store_verdict(backup: Volume, verdict: str) -> None:
    """Note what was found, and when."""
    Volume.objects.filter(pk=backup.pk).update(checked=timezone.now(), verdict=verdict[:500])
    notify.changed(*topics(backup))
