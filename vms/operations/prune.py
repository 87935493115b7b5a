"""Retention carried out: backups that no rule keeps are removed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from django.db.models import Q
from django.utils import timezone

from vms.config import retention
from vms.config.retention import Copy, Decision, Keep
from vms.errors import NotFound, StorageError
from vms.models import Node, Storage, Volume
from vms.operations.backuprights import PRIVILEGE, require_handling
from vms.operations.base import Context, NodeOperation, Params, operation
from vms.schema.option import opt
from vms.storage import base
from vms.tasks import notify


def zone() -> tzinfo:
    """Whose hours and days count: the installation's, as every time on a page."""
    return timezone.get_default_timezone()


def rules_of(storage: Storage, given: str | None) -> str:
    """The rules that hold for a backup made on ``storage``: those ``given``, else the storage's own."""
    return given or str(storage.options.get(retention.KEY) or "")


def judged(rows: Iterable[Volume], keep: Keep) -> list[tuple[Volume, Decision]]:
    """For rows of backups, of any VMs, whether each stays: what a prune would do. Newest first."""
    return [
        (row, decision)
        for row, decision in _judged([(row, row.vmid, row.made, row.protected) for row in rows], keep)
    ]


def _judged(found: list[tuple[Any, int | None, Any, bool]], keep: Keep) -> list[tuple[Any, Decision]]:
    by_vm: dict[int | None, list[tuple[Any, Copy]]] = defaultdict(list)
    for one, vmid, made, protected in found:
        if made is not None:
            by_vm[vmid].append((one, Copy(made, protected)))
    said = []
    for group in by_vm.values():
        decisions = retention.decide([copy for _, copy in group], keep, zone())
        said += [(copy.made, one, it) for (one, copy), it in zip(group, decisions, strict=True)]
    said.sort(key=lambda triple: triple[0], reverse=True)
    return [(one, decision) for _, one, decision in said]


async def prune(ctx: Context, storage: Storage, keep: Keep, vmid: int | None = None) -> int:
    """Remove what no rule keeps of the backups on ``storage``, of one VM or of all; answers how many went.

    What lies there counts, not what rows say. One that cannot be removed is a warning. Safe to do twice.
    """
    driver = ctx.services.storage(storage.name, storage.facts())
    known = await ctx.db(_rows, storage, ctx.services.node, vmid)
    volumes: list[base.Volume] = list((await driver.list("backup", vmid)).volumes)
    # A worker that died here has left rows of what it removed.
    await ctx.db(_forget, ctx.services.node, known - {one.volid for one in volumes})
    gone = 0
    for volume, decision in _judged([(one, one.vmid, one.made, one.protected) for one in volumes], keep):
        if decision.kept:
            continue
        try:
            await driver.free(volume.volid)
        except StorageError as error:
            await ctx.warn(f"{volume.volid}: {error}")
            continue
        ctx.step("backup removed")
        gone += 1
        await ctx.log(f"removed backup '{volume.volid}': {decision.why}")
        await ctx.db(_forget, ctx.services.node, {volume.volid})
    if gone:
        notify.changed("storage", *({f"vm-{one.vmid}" for one in volumes}))
    return gone


def _rows(storage: Storage, node: Node, vmid: int | None) -> set[str]:
    """The ids of the backups that rows tell of."""
    rows = Volume.objects.filter(storage=storage, content=Volume.Content.BACKUP).select_related("storage")
    rows = rows.filter(node=None if storage.shared else node)
    return {row.volid for row in (rows if vmid is None else rows.filter(vmid=vmid))}


def _forget(node: Node, volids: set[str]) -> None:
    here = Volume.objects.filter(Q(node=node) | Q(node=None), content=Volume.Content.BACKUP)
    for volid in volids:
        store, _, name = volid.partition(":")
        here.filter(storage__name=store, name=name).delete()


@dataclass(frozen=True, kw_only=True)
class PruneParams(Params):
    """Whose backups, where, by which rules."""

    storage: str = opt("Storage", required=True, max_length=63, help="Where the backups lie.")
    keep: str = opt(
        "Keep", key=retention.KEY, required=True, max_length=200, check=retention.canonical,
        help="keep-last=3,keep-daily=7: what stays. Protected ones always do.",
    )  # fmt: skip
    vmid: int | None = opt("VM ID", minimum=100, maximum=999_999_999, help="Only this VM's; all without it.")


@operation("prune", privilege=PRIVILEGE, label="Prune backups", params=PruneParams)
class Prune(NodeOperation):
    """Remove the backups that no rule keeps."""

    def authorise_on(self, user: Any, node: Node, params: Any) -> None:
        require_handling(user, params.storage, params.vmid)

    def check_on(self, node: Node, params: Any) -> None:
        _storage(params.storage)

    def subject(self, params: Any) -> str:
        whose = f" of VM {params.vmid}" if params.vmid is not None else ""
        return f"on {params.storage}{whose}"

    async def run(self, ctx: Context) -> None:
        storage = await ctx.db(_storage, ctx.params.storage)
        gone = await prune(ctx, storage, retention.parse(ctx.params.keep), ctx.params.vmid)
        await ctx.log(f"{gone} backup{'s' if gone != 1 else ''} removed")


def _storage(name: str) -> Storage:
    """Raises :class:`NotFound`."""
    row = Storage.objects.filter(name=name, enabled=True).first()
    if row is None or "backup" not in row.content:
        raise NotFound(f"There is no storage '{name}' for backups.")
    return row
