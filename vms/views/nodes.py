"""A node's page: what was measured there, in words."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from vms import access
from vms.hardware.context import NodeFacts
from vms.models import VM, Node, StorageStatus
from vms.views.doors import node_or_404, signed_in
from vms.views.fleet import boot_order
from vms.views.graphs import NODE_GRAPHS, crowding, fresh, graph_context
from vms.views.states import State


@signed_in
@require_GET
def node(request: HttpRequest, name: str) -> HttpResponse:
    """Accelerator, processor, memory, QEMU, bridges, storages; ``?part=facts`` answers the cards alone."""
    row = node_or_404(request, name)
    facts = NodeFacts.from_json(row.facts)
    names = {storage.pk for storage in access.visible_storages(request.user)}
    statuses = StorageStatus.objects.filter(node=row, storage__in=names).select_related("storage")
    context = {
        "node": row,
        "facts": facts,
        "raw": row.facts,
        "state": node_state(row),
        "accelerator": accelerator(row),
        "qemu_user": qemu_user(row.facts),
        "statuses": statuses.order_by("storage__name"),
        "counts": counts(request, row),
        "usage": fresh(row.usage),
        "crowding": crowding(row, facts.threads),
        **graph_context(request, NODE_GRAPHS, reverse("vms:node_series", args=[row.name])),
        "steps": boot_order(request.user, row),
        "bulk_reason": "" if row.online else f"Node {row.name} is offline: nothing there can be changed now.",
        "memory_used": max(0, facts.memory - facts.memory_free) if facts.memory_free else 0,
    }
    part = request.GET.get("part") == "facts"
    return render(request, "vms/_node_facts.html" if part else "vms/node.html", context)


def node_state(node: Node) -> State:
    """Whether its worker is heard of."""
    if node.online:
        return State("Online", "running")
    return State("Offline" if node.heartbeat else "Never seen", "error" if node.heartbeat else "unknown")


def accelerator(node: Node) -> dict[str, str]:
    """KVM, or emulation with the reason; what an operator forced is said."""
    facts: dict[str, Any] = node.facts
    if not facts:
        return {
            "word": "Not probed yet",
            "tone": "unknown",
            "reason": "The worker has not reported from there.",
        }
    forced = node.accelerator != Node.Accelerator.AUTO
    kvm = node.accelerator == Node.Accelerator.KVM or (not forced and bool(facts.get("kvm")))
    reason = str(facts.get("accel_reason") or "")
    if forced:
        reason = f"Set by an operator. The probe found: {reason or 'KVM works'}."
    if kvm:
        return {"word": "KVM", "tone": "running", "reason": reason}
    return {"word": "TCG (emulation, slow)", "tone": "paused", "reason": reason or "KVM is not available."}


def qemu_user(facts: dict[str, Any]) -> dict[str, str]:
    """Whom QEMU runs as, and why when that is root."""
    user = str(facts.get("qemu_user") or "")
    reason = str(facts.get("qemu_user_reason") or "")
    return {"name": user or "this service's own user", "reason": reason}


def counts(request: HttpRequest, node: Node) -> dict[str, int]:
    """How many VMs, how many run, and the memory promised to those that run (MiB)."""
    running = Q(status=VM.Status.RUNNING)
    found = (
        access.visible_vms(request.user)
        .filter(node=node)
        .order_by()
        .aggregate(
            total=Count("pk"), running=Count("pk", filter=running), memory=Sum("memory", filter=running)
        )
    )
    return {name: int(value or 0) for name, value in found.items()}
