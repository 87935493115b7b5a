"""The list of virtual machines: the first page. Filters, order and page stand in the address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

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
from vms.views.states import State, listed_state

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


COLUMNS = (
    "vmid", "name", "status", "lock", "template", "node_id", "cores", "memory", "tags", "status_since",
    "options__sockets",
)  # fmt: skip
"""What a line of the list says; a whole row also carries the record of its run."""


@dataclass(frozen=True)
class Row:
    """A VM in the list; equal ones look alike. ``memory`` is in MiB, ``tags`` parted by ``;``."""

    vmid: int
    name: str
    state: State
    lock: str
    node: str
    cores: int
    memory: int
    tags: str


@signed_in
@require_GET
def dashboard(request: HttpRequest) -> HttpResponse:
    """Every VM the user may see; ``?part=rows`` answers the table alone."""
    given = request.GET
    order = given.get("sort", "")
    nodes = {node.pk: node for node in Node.objects.only("name", "heartbeat")}
    vms = ordered(filtered(access.visible_vms(request.user), request), order)
    page = Paginator(vms.values_list(*COLUMNS), PAGE).get_page(given.get("page"))
    context = {
        "page": page,
        "rows": list(rows_of(page.object_list, nodes)),
        "sort": order if order.lstrip("-") in ORDERS else "vmid",
        "filtered": any(given.get(name) for name in ("q", "tag", "state", "node")),
        "states": VM.Status.choices,
        "trashed": access.visible_vms(request.user, VM.everything.filter(stage=VM.Stage.TRASH)).count(),
        "bulk": [verb for verb in VERBS.values() if verb.name in EFFECTS],
        "nodes": [node.name for node in nodes.values()],
    }
    part = given.get("part") == "rows"
    return render(request, "vms/_vm_rows.html" if part else "vms/dashboard.html", context)


def rows_of(
    found: Iterable[tuple[Any, ...]], nodes: Mapping[int, Node]
) -> Iterator[tuple[Row, datetime | None]]:
    """VMs as the list shows them, each with its state's moment; absent values are what QEMU would get."""
    online = {pk: node.online for pk, node in nodes.items()}
    for vmid, name, status, lock, template, node, cores, memory, tags, since, sockets in found:
        state = listed_state(status, online[node], lock, template)
        each = int(sockets) if str(sockets).isdecimal() else 1
        yield (
            Row(vmid, name or f"VM {vmid}", state, lock, nodes[node].name, (cores or 1) * each,
                memory or 512, tags), since,
        )  # fmt: skip


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
