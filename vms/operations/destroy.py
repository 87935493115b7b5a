"""Destroy: into the trash, or at once for good with every volume of its own.

What lies in the trash keeps its disks, snapshots, rights and its number, so that a restore brings back the
same machine; it runs nowhere, is in no list and cannot be started.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from vms.errors import StateError
from vms.models import VM, AclEntry, BackupJob, Disk, Snapshot, Storage, Volume
from vms.models.waiting import waiting_volumes
from vms.operations import mirror
from vms.operations.base import Context, Operation, Params, operation
from vms.operations.protection import check_protection
from vms.operations.volumes import config_volumes
from vms.operations.warmstate import warm_disks
from vms.schema.option import opt
from vms.tasks import notify


@dataclass(frozen=True, kw_only=True)
class DestroyParams(Params):
    """What Destroy can be told."""

    now: bool | None = opt(
        "Remove for good now", default=False,
        help="Delete the disks at once instead of keeping everything in the trash for some days.",
    )  # fmt: skip
    purge: bool | None = opt(
        "Purge from job configurations", default=False,
        help="Also take the VM out of the backup jobs that name it.",
    )  # fmt: skip
    destroy_unreferenced_disks: bool | None = opt(
        "Destroy unreferenced disks owned by guest", key="destroy-unreferenced-disks", default=False,
        help="Also delete volumes that carry the VM's number but are in none of its drives.",
    )  # fmt: skip


@operation("qmdestroy", privilege="VM.Allocate", label="Destroy", lock="destroyed", params=DestroyParams)
class Destroy(Operation):
    """Throw the VM away."""

    accepts_locks = frozenset({"suspended"})

    def check(self, vm: VM, params: Any) -> None:
        if vm.stage == VM.Stage.DRAFT:
            raise StateError(f"VM {vm.vmid} is a draft; discard the draft instead.")
        if vm.running:
            raise StateError(f"VM {vm.vmid} is running - destroy failed", hint="Stop it first.")
        check_protection(vm, f"VM {vm.vmid}")
        check_bases(vm)

    async def run(self, ctx: Context) -> None:
        vm = ctx.vm
        if ctx.services.guest(vm.vmid) is not None:
            raise StateError(f"VM {vm.vmid} is running - destroy failed", hint="Stop it first.")
        if ctx.params.purge:
            for name in await ctx.db(leave_jobs, vm):
                await ctx.log(f"taken out of backup job '{name}'")
        days = settings.CONF.trash_days
        if ctx.params.now or not days:
            await remove_for_good(ctx, unreferenced=bool(ctx.params.destroy_unreferenced_disks))
            return
        await ctx.services.clean(vm.vmid)
        ctx.step("cleaned")
        await ctx.db(throw_away, vm, ctx.task.username, days)
        await ctx.log(f"VM {vm.vmid} is in the trash for {days} day{'s' if days != 1 else ''}")

    async def resume(self, ctx: Context) -> None:
        """Half a VM is nobody's wish: go on."""
        await ctx.log("the worker was restarted; going on")
        if ctx.vm.stage != VM.Stage.TRASH:
            await self.run(ctx)


def check_bases(vm: VM) -> None:
    """Raise :class:`StateError` when a clone lies on a volume of this VM (PVE's words)."""
    others = Volume.objects.filter(base__vmid=vm.vmid).exclude(vmid=vm.vmid).order_by("base_id", "vmid")
    row = others.select_related("base__storage").first()
    if row is not None and row.base is not None:
        clones = ", ".join(
            str(one) for one in others.filter(base=row.base).values_list("vmid", flat=True)[:9]
        )
        raise StateError(
            f"base volume '{row.base.volid}' is still in use by linked cloned VMs: {clones}",
            hint="Remove those VMs first, from the trash too.",
        )


def leave_jobs(vm: VM) -> list[str]:
    """Take the VM out of every backup job that names it; answers their names."""
    left = []
    with transaction.atomic():
        for job in BackupJob.objects.select_for_update().order_by("name"):
            if vm.vmid in (*job.vmids, *job.exclude):
                job.vmids = [vmid for vmid in job.vmids if vmid != vm.vmid]
                job.exclude = [vmid for vmid in job.exclude if vmid != vm.vmid]
                job.save(update_fields=["vmids", "exclude"])
                left.append(job.name)
    return left


def throw_away(vm: VM, username: str, days: int) -> None:
    """The one transaction that puts a VM into the trash; the lock goes with the task."""
    now = timezone.now()
    with transaction.atomic():
        VM.everything.filter(pk=vm.pk).update(
            stage=VM.Stage.TRASH, trash={"by": username, "at": now.isoformat()},
            purge_after=now + timedelta(days=days),
        )  # fmt: skip
        transaction.on_commit(lambda: mirror.remove(vm.node.name, vm.vmid))
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")


async def remove_for_good(ctx: Context, *, unreferenced: bool = False) -> None:
    """Free every volume of the VM's own, one by one, then its rows. Safe to begin again."""
    vm = ctx.vm
    volumes = await ctx.db(owned, vm)
    for number, volume in enumerate(volumes):
        await ctx.progress(number / len(volumes), f"removing {volume.volid}")
        driver = ctx.services.storage(volume.storage.name, volume.storage.facts())
        await driver.free(volume.volid)
        ctx.step("volume freed")
        await ctx.db(forget, vm, volume)
        await ctx.log(f"removed volume '{volume.volid}'")
    if unreferenced:
        await _unreferenced(ctx)
    await ctx.services.clean(vm.vmid)
    ctx.step("cleaned")
    await ctx.db(erase, vm)


async def _unreferenced(ctx: Context) -> None:
    for storage in await ctx.db(lambda: list(Storage.objects.filter(enabled=True))):
        driver = ctx.services.storage(storage.name, storage.facts())
        for volume in (await driver.list("images", ctx.vm.vmid)).volumes:
            await driver.free(volume.volid)
            await ctx.log(f"removed unreferenced volume '{volume.volid}'")


def owned(vm: VM) -> list[Volume]:
    """The volumes that go with a VM: in drives, waiting ones too, in snapshots, saved memory and what belongs
    to that; only its own, in an order in which they can go.

    ISOs and other VMs' volumes are nobody's to remove here.
    """
    rows = Volume.objects.select_related("storage").filter(vmid=vm.vmid, content=Volume.Content.IMAGES)
    here = rows.filter(node__isnull=True) | rows.filter(node=vm.node_id)
    used: set[int | None] = set(
        Disk.objects.filter(vm=vm, volume__isnull=False).values_list("volume_id", flat=True)
    )
    used |= {vm.vmstate_id}
    named = {row.volid for row in waiting_volumes(vm)} | {*warm_disks(vm).values()}
    for snapshot in Snapshot.objects.filter(vm=vm):
        used.add(snapshot.vmstate_id)
        named |= config_volumes(snapshot.config) | config_volumes(snapshot.running)
    found = [row for row in here if row.pk in used or row.volid in named]
    below = {row.base_id for row in found}
    # What lies on a base goes before it.
    return sorted(found, key=lambda row: row.pk in below)


def forget(vm: VM, volume: Volume) -> None:
    """The volume is gone: so are the drive and the row."""
    with transaction.atomic():
        Disk.objects.filter(vm=vm, volume=volume).delete()
        Snapshot.objects.filter(vm=vm, vmstate=volume).update(vmstate=None)
        VM.everything.filter(pk=vm.pk, vmstate=volume).update(vmstate=None)
        volume.delete()


def erase(vm: VM) -> None:
    """The rows of the VM, and the rights given on it: a later VM of this number inherits nothing."""
    with transaction.atomic():
        rows = Volume.objects.filter(vmid=vm.vmid, disks=None, clones=None, node__in=(vm.node_id,))
        rows.exclude(content=Volume.Content.BACKUP).delete()
        AclEntry.objects.filter(path=vm.path).delete()
        VM.everything.filter(pk=vm.pk).delete()
        transaction.on_commit(lambda: mirror.remove(vm.node.name, vm.vmid))
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")
