"""All guests of a node: in which order they start and stop, and the buttons that make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from vms import access
from vms.errors import StateError, VMError
from vms.models import Node
from vms.operations.base import submit_on
from vms.operations.order import DOWN_TIMEOUT, Step, Turn, guests_of, starting, stopping, timeline
from vms.views.doors import node_or_404, sentence, signed_in
from vms.views.power import VERBS, refusal
from vms.views.states import State, vm_state


@dataclass(frozen=True)
class Bulk:
    """A button of the node's page. ``verb`` is what happens to each guest, ``type`` the task."""

    name: str
    type: str
    label: str
    icon: str
    question: str


BULKS = {
    bulk.name: bulk
    for bulk in (
        Bulk(
            "start", "startall", "Bulk start", "play",
            "The ticked guests start in their order. Ticked already are those with Start at boot, which a "
            "boot of the node would start.",
        ),
        Bulk(
            "shutdown", "stopall", "Bulk shutdown", "power",
            "The ticked guests shut down in reverse order: the last to start is the first to stop.",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A guest: what will happen to it, or why nothing can."""

    turn: Turn
    state: State
    effect: str
    reason: str
    ticked: bool
    first: bool


def boot_order(user: Any, node: Node) -> list[Step]:
    """What a boot of the node would start, of what the user may see."""
    return timeline(starting(turn.vm for turn in visible(user, node) if turn.onboot))


def visible(user: Any, node: Node) -> list[Turn]:
    """The node's guests that the user may see, in the order in which they start."""
    seen = access.visible_vms(user).filter(node=node).values_list("vmid", flat=True)
    return [turn for group in starting(guests_of(node, seen)) for turn in group]


@signed_in
@require_http_methods(["GET", "POST"])
def node_bulk(request: HttpRequest, name: str, verb: str) -> HttpResponse:
    """The guests in their order, each with what will happen to it; by POST: ask for it."""
    node = node_or_404(request, name)
    if verb not in BULKS:
        raise Http404
    bulk = BULKS[verb]
    if request.method == "POST":
        return asked(request, node, bulk)
    context = {"node": node, "bulk": bulk, "lines": lines_of(request.user, node, bulk), "usual": DOWN_TIMEOUT}
    return render(request, "vms/fleet.html", context)


def lines_of(user: Any, node: Node, bulk: Bulk) -> list[Line]:
    """Every guest that the verb could be for."""
    turns = [turn.vm for turn in visible(user, node)]
    if bulk.name == "shutdown":
        steps = timeline(stopping(vm for vm in turns if vm.running))
    else:
        steps = timeline(starting(vm for vm in turns if not vm.running))
    return [line_of(user, step, bulk) for step in steps]


def line_of(user: Any, step: Step, bulk: Bulk) -> Line:
    """A guest's line."""
    turn, vm = step.turn, step.turn.vm
    held = access.privileges(user, vm.path, pool=vm.pool.name if vm.pool else "")
    # A paused guest cannot shut down by itself; a bulk shutdown cuts its power.
    paused = bulk.name == "shutdown" and vm.status == vm.Status.PAUSED
    reason = "" if paused and "VM.PowerMgmt" in held else refusal(VERBS[bulk.name], vm, held)
    if bulk.name == "start":
        effect = f"Starts; the next one after {turn.delay} s."
        return Line(turn, vm_state(vm), effect, reason, turn.onboot and not reason, step.first)
    effect = "Paused: its power is cut." if paused else f"Gets {turn.timeout()} s to shut down."
    return Line(turn, vm_state(vm), effect, reason, not reason, step.first)


def asked(request: HttpRequest, node: Node, bulk: Bulk) -> HttpResponse:
    """The task, or the sentence why not."""
    given = ",".join(text for text in request.POST.getlist("vm") if text)
    params = {"vms": given}
    if bulk.name == "start":
        params["force"] = "1"
    else:
        params["force-stop"] = "1" if "force-stop" in request.POST else "0"
        if request.POST.get("timeout", "").strip():
            params["timeout"] = request.POST["timeout"].strip()
    try:
        if not given:
            raise StateError("Nothing was asked for: no VM is ticked.")
        task = submit_on(bulk.type, node=node, user=request.user, params=params)
    except VMError as error:
        messages.error(request, sentence(error))
        return redirect("vms:node_bulk", name=node.name, verb=bulk.name)
    messages.info(request, f"{bulk.label} requested.")
    return redirect("vms:task", pk=task.pk)
