"""Delete a snapshot: out of every disk, its memory freed, its children handed to its parent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vms.errors import StateError, VMError
from vms.models import VM, Snapshot
from vms.operations import snapdisks
from vms.operations.base import Context, Operation, Params, operation
from vms.operations.snapdisks import TPM, Held
from vms.operations.snaprows import find, forget, free_volumes
from vms.schema.option import opt


@dataclass(frozen=True, kw_only=True)
class DeleteParams(Params):
    """What Delete snapshot can be told."""

    snapname: str = opt("Name", required=True, max_length=40, help="The snapshot to delete.")
    force: bool | None = opt(
        "Force", default=False, help="Drop the snapshot's entry even when a disk's part of it cannot go."
    )


@operation(
    "qmdelsnapshot", privilege="VM.Snapshot", label="Delete snapshot", lock="snapshot-delete",
    params=DeleteParams,
)  # fmt: skip
class Delete(Operation):
    """Give up a snapshot; the VM stays what it is."""

    def title(self, vm: VM, params: Any) -> str:
        return f"Delete snapshot {params.snapname} of {vm.vmid} ({vm.display_name})"

    def check(self, vm: VM, params: Any) -> None:
        find(vm, params.snapname)

    async def run(self, ctx: Context) -> None:
        vm, name = ctx.vm, ctx.params.snapname
        made = await ctx.db(find, vm, name)
        await ctx.db(Snapshot.objects.filter(pk=made.pk).update, state=Snapshot.State.DELETE)
        ctx.step("marked")
        try:
            disks = await ctx.db(snapdisks.held_by, vm, made.config)
        except StateError as error:
            disks = await self._or_force(ctx, error)
        guest = ctx.services.guest(vm.vmid)
        for number, held in enumerate(held for held in disks if held.key != TPM):
            await ctx.progress(number / len(disks), f"removing it from {held.key}")
            try:
                await snapdisks.remove(ctx, guest, held, name)
            except VMError as error:
                await self._or_force(ctx, error)
            ctx.step(f"{held.key} done")
        await free_volumes(ctx, made)
        ctx.step("volumes freed")
        await ctx.db(forget, vm, made)

    @staticmethod
    async def _or_force(ctx: Context, error: VMError) -> list[Held]:
        if not ctx.params.force:
            raise error
        await ctx.warn(str(error))
        return []

    async def resume(self, ctx: Context) -> None:
        """Half a snapshot is of no use: go on."""
        if await ctx.db(Snapshot.objects.filter(vm=ctx.vm, name=ctx.params.snapname).exists):
            await ctx.log("the worker was restarted; going on")
            await self.run(ctx)
