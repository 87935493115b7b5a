"""The disk images on a storage's page: whose each is, the drive it is in, and what it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Prefetch, Q
from django.http import HttpRequest

from vms import access
from vms.models import VM, Disk, Storage, Volume

PAGE = 50
REMOVERS = ("Datastore.Allocate", "Datastore.AllocateSpace")


@dataclass(frozen=True)
class ImageRow:
    """A disk image. ``vm`` None: there is none of that number; ``slots`` empty: it is in no drive."""

    volume: Volume
    vm: VM | None
    slots: str


def storage_images(request: HttpRequest, storage: Storage) -> dict[str, Any]:
    """What the storage's page tells of its disk images: those of VMs the user may see."""
    if "images" not in storage.content:
        return {}
    images = Volume.objects.filter(storage=storage, content=Volume.Content.IMAGES)
    seen = access.visible_vms(request.user, VM.everything.all()).order_by()
    mine = Q(vmid__in=seen.values("vmid"))
    if access.may(request.user, REMOVERS[0], f"/storage/{storage.name}"):
        mine |= ~Q(vmid__in=VM.everything.values("vmid")) | Q(vmid=None)
    drives = Prefetch("disks", Disk.objects.order_by("slot"))
    rows = images.filter(mine).select_related("storage", "node").prefetch_related(drives)
    page = Paginator(rows.order_by("vmid", "name"), PAGE).get_page(request.GET.get("images"))
    owners = {vm.vmid: vm for vm in seen.filter(vmid__in={row.vmid for row in page.object_list})}
    found = [
        ImageRow(row, owners.get(row.vmid or 0), ", ".join(disk.slot for disk in row.disks.all()))
        for row in page.object_list
    ]
    return {
        "image_page": page, "image_rows": found, "images_hidden": images.count() - page.paginator.count,
        "image_reason": "" if removes(request, storage) else f"You may not: {REMOVERS[1]} is missing.",
    }  # fmt: skip


def removes(request: HttpRequest, storage: Storage) -> bool:
    """Whether the user may remove images there at all; of whom, the verb says."""
    return any(access.may(request.user, right, f"/storage/{storage.name}") for right in REMOVERS)
