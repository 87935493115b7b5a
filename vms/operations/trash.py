"""What lies in the trash: back to where it was, or gone for good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from vms.errors import StateError, VMError
from vms.models import VM, Node
from vms.operations import mirror
from vms.operations.base import Context, Operation, Params, operation, submit
from vms.operations.destroy import check_bases, remove_for_good
from vms.schema.option import opt
from vms.tasks import notify


@dataclass(frozen=True, kw_only=True)
class PurgeParams(Params):
    """What the final removal can be told."""

    destroy_unreferenced_disks: bool | None = opt(
        "Destroy unreferenced disks owned by guest", key="destroy-unreferenced-disks", default=False,
        help="Also delete volumes that carry the VM's number but are in none of its drives.",
    )  # fmt: skip


def in_trash(vm: VM) -> None:
    """Raise :class:`StateError` unless the VM was thrown away."""
    if vm.stage != VM.Stage.TRASH:
        raise StateError(f"VM {vm.vmid} is not in the trash.")


@operation("qmundestroy", privilege="VM.Allocate", label="Restore from trash")
class Undestroy(Operation):
    """Bring a VM back under the number it had, with everything that was its own."""

    accepts_locks = frozenset({"suspended"})
    on_trash = True

    def check(self, vm: VM, params: Any) -> None:
        in_trash(vm)

    async def run(self, ctx: Context) -> None:
        await ctx.db(bring_back, ctx.vm)
        await ctx.log(f"VM {ctx.vm.vmid} is back")

    async def resume(self, ctx: Context) -> None:
        """One transaction brings it back: it happened or it did not."""
        if ctx.vm.stage == VM.Stage.TRASH:
            await self.run(ctx)


def bring_back(vm: VM) -> None:
    """The one transaction that takes a VM out of the trash."""
    with transaction.atomic():
        VM.everything.filter(pk=vm.pk).update(stage=VM.Stage.DEFINED, trash={}, purge_after=None)
        # It was thrown away hibernated, which took its lock: it still is.
        asleep = VM.everything.filter(pk=vm.pk, lock="", vmstate__isnull=False, template=False)
        asleep.update(lock="suspended")
        mirror.schedule(vm)
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")


@operation("qmpurge", privilege="VM.Allocate", label="Remove for good", lock="destroyed", params=PurgeParams)
class Purge(Operation):
    """Delete what lies in the trash, disks and all."""

    accepts_locks = frozenset({"suspended"})
    on_trash = True

    def check(self, vm: VM, params: Any) -> None:
        in_trash(vm)
        check_bases(vm)

    async def run(self, ctx: Context) -> None:
        await remove_for_good(ctx, unreferenced=bool(ctx.params.destroy_unreferenced_disks))

    async def resume(self, ctx: Context) -> None:
        """Half a VM is nobody's wish: go on."""
        await ctx.log("the worker was restarted; going on")
        await self.run(ctx)


def empty_due(node: Node) -> int:
    """Ask for the removal of everything on ``node`` whose days in the trash are over; answers how many.

    What cannot go yet (a clone lies on it) is asked again the next time.
    """
    due = VM.everything.filter(node=node, stage=VM.Stage.TRASH, purge_after__lte=timezone.now())
    asked = 0
    for vm in due.filter(lock__in=("", "suspended"))[:50]:
        try:
            submit("qmpurge", vm=vm, user=None)
        except VMError:
            continue
        asked += 1
    return asked
