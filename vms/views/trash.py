"""The trash: what was thrown away, until when it can come back, and the two ways out."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_GET, require_POST

from vms import access
from vms.errors import VMError
from vms.models import VM, Volume
from vms.operations.base import submit
from vms.operations.destroy import owned
from vms.views.doors import signed_in, trashed_or_404, wants_fragment
from vms.views.echo import echo, echo_refusal
from vms.views.power import backups_seen

PAGE = 50
VERBS = {"restore": "qmundestroy", "remove-now": "qmpurge"}


def thrown_away(user: Any) -> QuerySet[VM]:
    """What lies in the trash and the user may see, the latest first."""
    rows = VM.everything.filter(stage=VM.Stage.TRASH).select_related("node").defer("node__facts")
    return access.visible_vms(user, rows).order_by("-purge_after", "vmid")


@signed_in
@require_GET
def trash(request: HttpRequest) -> HttpResponse:
    """The list; ``?part=rows`` answers the table alone."""
    page = Paginator(thrown_away(request.user), PAGE).get_page(request.GET.get("page"))
    rows = list(page.object_list)
    sizes: Counter[int | None] = Counter()
    for vmid, size in Volume.objects.filter(
        vmid__in=[vm.vmid for vm in rows], content=Volume.Content.IMAGES
    ).values_list("vmid", "size"):
        sizes[vmid] += size
    context = {
        "page": page,
        "rows": [row_of(request.user, vm, sizes[vm.vmid]) for vm in rows],
    }
    part = request.GET.get("part") == "rows"
    return render(request, "vms/_trash_rows.html" if part else "vms/trash.html", context)


def row_of(user: Any, vm: VM, size: int) -> dict[str, Any]:
    """A line of the list."""
    return {
        "vm": vm, "size": size, "thrown": parse_datetime(str(vm.trash.get("at", ""))),
        "reason": refusal(user, vm),
    }  # fmt: skip


def refusal(user: Any, vm: VM) -> str:
    """Why the user can neither restore nor remove it now; empty when they can."""
    if not access.may_vm(user, "VM.Allocate", vm):
        return "You may not: VM.Allocate on this VM is missing."
    if vm.lock not in ("", "suspended"):
        return f"The VM is locked ({vm.lock}): another operation is working on it."
    return "" if vm.node.online else f"Node {vm.node.name} is offline: nothing there can be changed now."


@signed_in
@require_GET
def trash_ask(request: HttpRequest, vmid: int) -> HttpResponse:
    """The question before the end: a dialog in place, a page without JavaScript."""
    vm = trashed_or_404(request, vmid)
    goes = owned(vm)
    context = {
        "vm": vm, "goes": goes, "total": sum(row.size for row in goes), "reason": refusal(request.user, vm),
        "snapshots": vm.snapshots.count(), "backups": backups_seen(request.user, vm),
    }  # fmt: skip
    name = "vms/_trash_dialog.html" if wants_fragment(request) else "vms/trash_ask.html"
    return render(request, name, context)


@signed_in
@require_POST
def trash_action(request: HttpRequest, vmid: int, verb: str) -> HttpResponse:
    """Restore, or remove for good after the number was typed."""
    if verb not in VERBS:
        raise Http404
    vm, back = trashed_or_404(request, vmid), reverse("vms:trash")
    if verb == "remove-now" and request.POST.get("confirm", "").strip() != str(vm.vmid):
        return echo(request, back, f"Nothing was removed: type {vm.vmid} to confirm.", status=422)
    try:
        task = submit(VERBS[verb], vm=vm, user=request.user)
    except VMError as error:
        return echo_refusal(request, back, error)
    return echo(request, back, f"{task.label}: requested.")
