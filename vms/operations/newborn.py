"""Volumes that belong to nothing yet: what a task has made and may have to take back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vms.models import Storage, Volume
from vms.operations.base import Context
from vms.operations.drives import driver_of
from vms.storage import base


async def existing(ctx: Context, storages: Iterable[Storage]) -> set[str]:
    """The volumes that carry the number of the task's VM, on these storages."""
    found: set[str] = set()
    for storage in storages:
        listing = await driver_of(ctx, storage).list("images", ctx.vm.vmid)
        found |= {volume.volid for volume in listing.volumes}
    return found


async def discard(ctx: Context, storage: Storage, made: base.Volume) -> None:
    """The end of a volume that was made for nothing."""
    await driver_of(ctx, storage).free(made.volid)
    await ctx.db(forget, storage, made.volid)


def forget(storage: Storage, volid: str) -> None:
    """A scan may have seen the volume meanwhile and made a row of it."""
    Volume.objects.filter(storage=storage, name=volid.partition(":")[2], disks=None, states=None).delete()


async def remove_left(ctx: Context, names: Sequence[str], before: Iterable[str]) -> None:
    """Free what a worker that died has made: what lies on storages called ``names`` and did not before."""
    storages = {row.name: row for row in await ctx.db(lambda: list(Storage.objects.filter(name__in=names)))}
    left = await existing(ctx, storages.values()) - set(before)
    # Bases last: what lies on them goes first.
    for volid in sorted(left, key=lambda volid: (volid.rpartition("/")[2].startswith("base-"), volid)):
        storage = storages[volid.partition(":")[0]]
        await driver_of(ctx, storage).free(volid)
        await ctx.db(forget, storage, volid)
        await ctx.log(f"removed volume '{volid}', which belonged to nothing yet")
