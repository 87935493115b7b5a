"""The warm state a template keeps: what belongs to it, whether it still fits, and its end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import transaction

from vms.config.warmth import lean, misfits
from vms.errors import StateError
from vms.hardware.context import NodeFacts
from vms.models import VM, Volume
from vms.models.configuration import config_of
from vms.operations.base import Context, Operation, operation
from vms.tasks import notify


def warm(vm: VM) -> bool:
    """Whether the VM is a template that keeps its guest's memory."""
    return vm.template and vm.vmstate_id is not None and "runningmachine" in vm.saved


def warm_disks(vm: VM) -> dict[str, str]:
    """Drive → the base that belongs to the memory a template keeps."""
    return {str(key): str(volid) for key, volid in vm.saved.get("disks", {}).items()}


def cold_reasons(vm: VM) -> list[str]:
    """Why clones of a warm template boot all the same: what no longer fits, as sentences."""
    return misfits(vm.saved, lean(config_of(vm)), NodeFacts.from_json(vm.node.facts))


@operation("qmcool", privilege="VM.Allocate", label="Discard warm state of")
class CoolDown(Operation):
    """Discard the memory a template keeps; its clones boot again."""

    def check(self, vm: VM, params: Any) -> None:
        if not warm(vm):
            raise StateError(f"VM {vm.vmid} keeps no warm state.")
        users = clones_on(vm)
        if users:
            raise StateError(
                f"base volume '{users[0].base.volid if users[0].base else ''}' is still in use by linked "
                f"cloned VMs: {', '.join(str(row.vmid) for row in users[:9])}",
                hint="Remove those VMs first, from the trash too.",
            )

    async def run(self, ctx: Context) -> None:
        vm = ctx.vm
        rows = await ctx.db(kept_rows, vm)
        for row in rows:
            driver = ctx.services.storage(row.storage.name, row.storage.facts())
            await driver.free(row.volid)
            ctx.step("volume freed")
            await ctx.log(f"removed volume '{row.volid}'")
        await ctx.db(discard, vm, rows)

    async def resume(self, ctx: Context) -> None:
        """Half a warm state is of no use: go on."""
        if ctx.vm.vmstate_id is not None:
            await self.run(ctx)


def clones_on(vm: VM) -> list[Volume]:
    """The disks of clones that lie on a template's warm bases."""
    names = [volid.partition(":")[2] for volid in warm_disks(vm).values()]
    rows = Volume.objects.filter(base__vmid=vm.vmid, base__name__in=names).exclude(vmid=vm.vmid)
    return list(rows.select_related("storage", "base__storage").order_by("vmid"))


def kept_rows(vm: VM) -> list[Volume]:
    """The volumes of a warm state: the memory first."""
    names = [volid.partition(":")[2] for volid in warm_disks(vm).values()]
    rows = Volume.objects.filter(vmid=vm.vmid).select_related("storage")
    state = rows.filter(pk=vm.vmstate_id) if vm.vmstate_id is not None else rows.none()
    return [*state, *rows.filter(name__in=names)]


def discard(vm: VM, rows: Iterable[Volume]) -> None:
    """The warm state is gone."""
    with transaction.atomic():
        VM.everything.filter(pk=vm.pk).update(vmstate=None, saved={})
        Volume.objects.filter(pk__in=[row.pk for row in rows]).delete()
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")
