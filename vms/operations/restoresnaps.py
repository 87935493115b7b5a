"""The snapshots of a VM that a backup replaces: they are of the disks that go, and go with them.

Until the restored VM is there they stay whole, as those disks do.
"""

from __future__ import annotations

from typing import Any

from vms.config.upkeep import free_unused, is_seed, owner_of, volume_of
from vms.errors import StateError, StorageError
from vms.models import VM, Storage, Volume
from vms.models.configuration import is_drive
from vms.operations.base import Context
from vms.operations.drives import driver_of
from vms.operations.restoreplan import Plan
from vms.operations.snaprows import volids_of
from vms.operations.volumes import config_volumes


def plan_snapshots(plan: Plan, vm: VM) -> None:
    """Let the snapshots of ``vm`` go with what is theirs alone.

    Disks that stay lose them; one that only a snapshot knew stays as an unused disk.
    """
    rows = list(vm.snapshots.order_by("pk"))
    pieces = {piece.slot for piece in plan.pieces}
    stays = {volume_of(text) for key, text in plan.mapping.items() if is_drive(key) and key not in pieces}
    for row in rows:
        plan.gone += volids_of(row)
        for volid in sorted(config_volumes(row.config)):
            if owner_of(volid) != vm.vmid or is_seed(volid) or volid in plan.gone:
                continue
            if volid not in stays and known(volid):
                plan.mapping[free_unused(plan.mapping)] = volid
                plan.notes.append(f"'{volid}' was in snapshot '{row.name}' only; it stays as an unused disk")
                stays.add(volid)
            if volid in stays:
                plan.shots.append((volid, row.name))
    if rows:
        names = ", ".join(row.name for row in rows)
        plan.notes.append(f"the VM's snapshots will be removed with the disks they are of: {names}")


def known(volid: str) -> bool:
    """Whether there is such a volume."""
    storage, _, name = volid.partition(":")
    return Volume.objects.filter(storage__name=storage, name=name, present=True).exists()


async def remove_shots(ctx: Context, shots: list[Any]) -> None:
    """Take from disks that stay the snapshots nobody knows any more; what cannot be taken away is told."""
    for volid, name in shots:
        storage = await ctx.db(Storage.objects.filter(name=volid.partition(":")[0]).first)
        if storage is None:
            continue
        try:
            await driver_of(ctx, storage).delete_snapshot(volid, name)
        except (StorageError, StateError) as error:
            await ctx.warn(f"snapshot '{name}' of '{volid}' was not removed: {error}")
            continue
        ctx.step("snapshot removed")
        await ctx.log(f"removed snapshot '{name}' of '{volid}'")
