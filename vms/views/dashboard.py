"""The list of virtual machines: the first page. Filters, order and page stand in the address."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from vms import access
from vms.models import VM, Node
from vms.views.bulk import EFFECTS
from vms.views.doors import signed_in
from vms.views.power import VERBS
from vms.views.states import State, vm_state

PAGE = 50
QUERY_LIMIT = 100
ORDERS = {
    "vmid": ("vmid",),
    "name": ("name", "vmid"),
    "status": ("status", "vmid"),
    "node": ("node__name", "vmid"),
    "cores": ("cores", "vmid"),
    "memory": ("memory", "vmid"),
    "since": ("status_since", "vmid"),
}


@dataclass(frozen=True)
class Row:
    """A VM in the list."""

    vm: VM
    state: State
    cores: int
    memory: int
    """MiB"""


@signed_in
@require_GET
def dashboard(request: HttpRequest) -> HttpResponse:
    """Every VM the user may see; ``?part=rows`` answers the table alone."""
    given = request.GET
    order = given.get("sort", "")
    vms = filtered(access.visible_vms(request.user), request).select_related("node").defer("node__facts")
    page = Paginator(ordered(vms, order), PAGE).get_page(given.get("page"))
    context = {
        "page": page,
        "rows": [row_of(vm) for vm in page.object_list],
        "sort": order if order.lstrip("-") in ORDERS else "vmid",
        "filtered": any(given.get(name) for name in ("q", "tag", "state", "node")),
        "states": VM.Status.choices,
        "trashed": access.visible_vms(request.user, VM.everything.filter(stage=VM.Stage.TRASH)).count(),
        "bulk": [verb for verb in VERBS.values() if verb.name in EFFECTS],
        "nodes": list(Node.objects.values_list("name", flat=True)),
    }
    part = given.get("part") == "rows"
    return render(request, "vms/_vm_rows.html" if part else "vms/dashboard.html", context)


def row_of(vm: VM) -> Row:
    """A VM as the list shows it; absent values are what QEMU would get."""
    sockets = str(vm.options.get("sockets", "1"))
    cores = (vm.cores or 1) * (int(sockets) if sockets.isdigit() else 1)
    return Row(vm, vm_state(vm), cores, vm.memory or 512)


def filtered(vms: QuerySet[VM], request: HttpRequest) -> QuerySet[VM]:
    """By words (ID, name or tag), exact tag, state, node. Every word has to be found."""
    given = request.GET
    for word in given.get("q", "")[:QUERY_LIMIT].split():
        match = Q(name__icontains=word) | Q(tags__icontains=word)
        if word.isascii() and word.isdigit() and len(word) <= 9:
            match |= Q(vmid__contains=word)
        vms = vms.filter(match)
    tag = given.get("tag", "")[:QUERY_LIMIT].lower()
    if tag:
        ends = Q(tags=tag) | Q(tags__startswith=f"{tag};")
        vms = vms.filter(ends | Q(tags__endswith=f";{tag}") | Q(tags__contains=f";{tag};"))
    if given.get("state") in VM.Status.values:
        vms = vms.filter(status=given["state"])
    if given.get("node"):
        vms = vms.filter(node__name=given["node"][:QUERY_LIMIT])
    return vms


def ordered(vms: QuerySet[VM], order: str) -> QuerySet[VM]:
    """In the wanted order; VM ID when it is none of ours."""
    fields = ORDERS.get(order.lstrip("-"), ORDERS["vmid"])
    sign = "-" if order.startswith("-") else ""
    return vms.order_by(*(sign + name for name in fields))
