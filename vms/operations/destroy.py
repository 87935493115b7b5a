"""Destroy: the VM, its own disks and what was said about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction

from vms.errors import StateError
from vms.models import VM, AclEntry, Disk, Storage, Volume
from vms.operations.base import Context, Operation, Params, operation
from vms.schema.option import opt
from vms.tasks import notify


@dataclass(frozen=True, kw_only=True)
class DestroyParams(Params):
    """What Destroy can be told."""

    purge: bool | None = opt(
        "Purge from job configurations", default=False,
        help="Also take the VM out of backup and replication jobs.",
    )  # fmt: skip
    destroy_unreferenced_disks: bool | None = opt(
        "Destroy unreferenced disks owned by guest", key="destroy-unreferenced-disks", default=False,
        help="Also delete volumes that carry the VM's number but are in none of its drives.",
    )  # fmt: skip


@operation("qmdestroy", privilege="VM.Allocate", label="Destroy", lock="destroyed", params=DestroyParams)
class Destroy(Operation):
    """Remove the VM for good."""

    accepts_locks = frozenset({"suspended"})

    def check(self, vm: VM, params: Any) -> None:
        if vm.stage == VM.Stage.DRAFT:
            raise StateError(f"VM {vm.vmid} is a draft; discard the draft instead.")
        if vm.running:
            raise StateError(f"VM {vm.vmid} is running - destroy failed", hint="Stop it first.")
        if str(vm.options.get("protection", "0")) == "1":
            raise StateError(
                f"can't remove VM {vm.vmid} - protection mode enabled",
                hint="Switch Protection off under Options.",
            )

    async def run(self, ctx: Context) -> None:
        vm = ctx.vm
        if ctx.services.guest(vm.vmid) is not None:
            raise StateError(f"VM {vm.vmid} is running - destroy failed", hint="Stop it first.")
        for volume in await ctx.db(owned, vm):
            driver = ctx.services.storage(volume.storage.name, volume.storage.facts())
            await driver.free(volume.volid)
            await ctx.db(forget, vm, volume)
            await ctx.log(f"removed volume '{volume.volid}'")
        if ctx.params.destroy_unreferenced_disks:
            await self._unreferenced(ctx)
        await ctx.services.clean(vm.vmid)
        await ctx.db(erase, vm)

    async def _unreferenced(self, ctx: Context) -> None:
        for storage in await ctx.db(lambda: list(Storage.objects.filter(enabled=True))):
            driver = ctx.services.storage(storage.name, storage.facts())
            for volume in (await driver.list("images", ctx.vm.vmid)).volumes:
                await driver.free(volume.volid)
                await ctx.log(f"removed unreferenced volume '{volume.volid}'")

    async def resume(self, ctx: Context) -> None:
        """Half a VM is nobody's wish: go on."""
        await ctx.log("the worker was restarted; going on")
        await self.run(ctx)


def owned(vm: VM) -> list[Volume]:
    """The volumes in its drives that are its own. ISOs and other VMs' volumes are nobody's to remove here."""
    rows = Volume.objects.select_related("storage").filter(
        disks__vm=vm, vmid=vm.vmid, content=Volume.Content.IMAGES
    )
    return list(rows.distinct())


def forget(vm: VM, volume: Volume) -> None:
    """The volume is gone: so are the drive and the row."""
    with transaction.atomic():
        Disk.objects.filter(vm=vm, volume=volume).delete()
        volume.delete()


def erase(vm: VM) -> None:
    """The rows of the VM, and the rights given on it: a later VM of this number inherits nothing."""
    with transaction.atomic():
        Volume.objects.filter(vmid=vm.vmid, disks=None, node__in=(vm.node_id,)).delete()
        AclEntry.objects.filter(path=vm.path).delete()
        vm.delete()
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")
