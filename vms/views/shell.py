"""What stands around every page: the header's facts and the resource tree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.conf import settings
from django.db.models import Count, F, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from vms import access
from vms.models import VM, Node, Storage, StorageStatus
from vms.views.doors import signed_in
from vms.views.states import State, state_of

TREE_ROWS = 100
"""VMs of a node in the tree; the rest is a search away."""


class Shell:
    """Answers only what a template really asks: most pages cost it no query at all."""

    def __init__(self, request: HttpRequest) -> None:
        self.user = getattr(request, "user", None)

    @property
    def node(self) -> str:
        """The node that serves this page."""
        return str(settings.CONF.node)

    @cached_property
    def may_create(self) -> bool:
        return access.may_somewhere(self.user, "VM.Allocate")

    @property
    def create_url(self) -> str:
        return reverse("vms:create")

    @property
    def create_reason(self) -> str:
        """Why *Create VM* is disabled."""
        return "" if self.may_create else "You may not create VMs: no role of yours has VM.Allocate."

    @cached_property
    def nodes(self) -> list[str]:
        """Names of the nodes the user may look at."""
        names = Node.objects.values_list("name", flat=True)
        return [name for name in names if access.may(self.user, "Sys.Audit", f"/nodes/{name}")]

    @cached_property
    def storages(self) -> list[Storage]:
        return access.visible_storages(self.user)


def shell(request: HttpRequest) -> dict[str, Any]:
    """The context processor of every template."""
    return {"shell": Shell(request)}


@dataclass(frozen=True)
class TreeVM:
    """A VM's row in the tree."""

    vmid: int
    name: str
    lock: str
    template: bool
    state: State


@dataclass
class TreeNode:
    """A node in the tree with its first VMs; ``total`` and ``running`` count all the user may see."""

    node: Node
    open: bool
    vms: list[TreeVM]
    total: int = 0
    running: int = 0

    @property
    def more(self) -> int:
        return max(0, self.total - len(self.vms))


@signed_in
@require_GET
def tree(request: HttpRequest) -> HttpResponse:
    """The resource tree as a fragment: a constant number of queries whatever the number of VMs."""
    nodes = tree_nodes(request)
    statuses = {
        status.storage_id: status
        for status in StorageStatus.objects.filter(node__name=settings.CONF.node).select_related("storage")
    }
    storages = [(storage, statuses.get(storage.pk)) for storage in access.visible_storages(request.user)]
    jobs = access.may(request.user, "Sys.Audit", "/")
    return render(request, "vms/_tree.html", {"nodes": nodes, "storages": storages, "jobs": jobs})


def tree_nodes(request: HttpRequest) -> list[TreeNode]:
    """Every node with its first :data:`TREE_ROWS` VMs."""
    user = request.user
    nodes = {
        node.pk: TreeNode(node, access.may(user, "Sys.Audit", f"/nodes/{node.name}"), [])
        for node in Node.objects.defer("facts")
    }
    visible = access.visible_vms(user)
    counts = visible.order_by().values("node_id").annotate(
        total=Count("pk"), up=Count("pk", filter=Q(status=VM.Status.RUNNING))
    )  # fmt: skip
    for row in counts:
        nodes[row["node_id"]].total = row["total"]
        nodes[row["node_id"]].running = row["up"]
    online = {pk: holder.node.online for pk, holder in nodes.items()}
    for pk, status, vmid, name, lock, template in first_of_each(visible, len(nodes)):
        asleep = lock == "suspended"
        state = state_of(status, online[pk], asleep)
        nodes[pk].vms.append(TreeVM(vmid, name, "" if asleep else lock, template, state))
    return list(nodes.values())


def first_of_each(visible: QuerySet[VM], nodes: int) -> Iterable[Any]:
    """The first :data:`TREE_ROWS` VMs of every node as bare values. One node needs no window over all VMs."""
    columns = ("node_id", "status", "vmid", "name", "lock", "template")
    rows = visible.order_by("vmid")
    if nodes > 1:
        place = Window(RowNumber(), partition_by=F("node_id"), order_by=F("vmid").asc())
        return rows.annotate(place=place).filter(place__lte=TREE_ROWS).values_list(*columns)
    return rows.values_list(*columns)[:TREE_ROWS]
