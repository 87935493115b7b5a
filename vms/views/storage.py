"""A storage's page: how full it is, its ISO library, upload, rescan, delete."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.core.paginator import Paginator
from django.db.models import Prefetch
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from vms import access
from vms.errors import VMError
from vms.models import Disk, Node, Storage, StorageStatus, Volume
from vms.models.promised import promised
from vms.operations.base import submit_on
from vms.operations.volumes import remove_iso
from vms.views.backups import storage_backups
from vms.views.diskimages import storage_images
from vms.views.doors import signed_in, storage_or_404, this_node
from vms.views.echo import echo, echo_refusal

PAGE = 100
USERS_SHOWN = 6
DELETE_RIGHTS = frozenset({"Datastore.Allocate", "Datastore.AllocateTemplate"})


@dataclass(frozen=True)
class LibraryRow:
    """An ISO and who has it in a drive: the first few VMs, and how many more there are."""

    volume: Volume
    users: list[int]
    more: int


@signed_in
@require_GET
def storage(request: HttpRequest, name: str) -> HttpResponse:
    """Usage, ISO library, disks; ``?part=content`` answers the tables alone."""
    row = storage_or_404(request, name)
    rights = access.privileges(request.user, f"/storage/{row.name}")
    library = (Volume.Content.ISO, Volume.Content.IMPORT)
    isos = Volume.objects.filter(storage=row, content__in=library).select_related("storage", "node")
    drives = Prefetch("disks", Disk.objects.select_related("vm").order_by("vm__vmid"))
    page = Paginator(isos.prefetch_related(drives).order_by("name"), PAGE).get_page(request.GET.get("page"))
    upload_reason = ""
    if "iso" not in row.content:
        upload_reason = "This storage does not take ISO images."
    elif "Datastore.AllocateTemplate" not in rights:
        upload_reason = f"You may not: Datastore.AllocateTemplate on /storage/{row.name} is missing."
    context = {
        "storage": row,
        "statuses": StorageStatus.objects.filter(storage=row).select_related("node").order_by("node__name"),
        "page": page,
        "rows": library_rows(request, page.object_list),
        "upload_reason": upload_reason,
        "delete_reason": ""
        if rights & DELETE_RIGHTS
        else "You may not: Datastore.AllocateTemplate is missing.",
        "scan_reason": "" if "Datastore.Audit" in rights else "You may not: Datastore.Audit is missing.",
        "disks": Volume.objects.filter(storage=row, content=Volume.Content.IMAGES).count(),
        "promised": promised(this_node()).get(row.pk, 0),
        "define_reason": "" if access.may(request.user, "Datastore.Allocate", "/storage") else "hidden",
    }
    context |= storage_images(request, row) | storage_backups(request, row)
    part = request.GET.get("part") == "content"
    return render(request, "vms/_storage_content.html" if part else "vms/storage.html", context)


def library_rows(request: HttpRequest, volumes: Iterable[Volume]) -> list[LibraryRow]:
    """With the VM IDs that use each; VMs the user may not see are only counted."""
    volumes = list(volumes)
    users = {disk.vm.vmid for volume in volumes for disk in volume.disks.all()}
    seen = access.visible_vms(request.user).order_by().filter(vmid__in=users)
    visible = set(seen.values_list("vmid", flat=True)) if users else set()
    rows = []
    for volume in volumes:
        vmids = [disk.vm.vmid for disk in volume.disks.all()]
        shown = [vmid for vmid in vmids if vmid in visible][:USERS_SHOWN]
        rows.append(LibraryRow(volume, shown, len(vmids) - len(shown)))
    return rows


@signed_in
@require_POST
def rescan(request: HttpRequest, name: str) -> HttpResponse:
    """Look again what lies in the storage's folder."""
    row = storage_or_404(request, name)
    node = this_node() or Node.objects.first()
    if node is None:
        return echo(request, home_of(row), "There is no node to look with.", status=409)
    try:
        task = submit_on("storagescan", node=node, user=request.user, params={"storage": row.name})
    except VMError as error:
        return echo_refusal(request, home_of(row), error)
    return echo(request, home_of(row), "Rescan requested", task=task)


@signed_in
@require_POST
def delete(request: HttpRequest, name: str) -> HttpResponse:
    """Delete an ISO or a disk image (form field ``volume``: its row's number). One that a VM uses stays."""
    row = storage_or_404(request, name)
    given = request.POST.get("volume", "")
    if not (given.isascii() and given.isdigit() and len(given) < 19):
        raise Http404
    volume = Volume.objects.select_related("storage", "node").filter(storage=row, pk=int(given)).first()
    if volume is None:
        raise Http404
    try:
        task = remove_iso(volume, request.user, this_node())
    except VMError as error:
        return echo_refusal(request, home_of(row), error)
    return echo(request, home_of(row), f"Removal of {volume.label} requested", task=task)


def home_of(row: Storage) -> str:
    """The storage's own page."""
    return reverse("vms:storage", args=[row.name])
