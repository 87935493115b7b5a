"""Power verbs on many VMs: first what would happen to each, then the tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from vms import access
from vms.errors import VMError
from vms.models import VM
from vms.operations.base import submit
from vms.views.doors import sentence, signed_in
from vms.views.power import VERBS, Verb, params_of, refusal
from vms.views.states import State, vm_state

LIMIT = 500
"""VMs at once: more than a page of the list shows, less than a form may carry."""
EFFECTS = {
    "start": "It starts{pending}.",
    "shutdown": "Its {way} asks it to shut down; it goes on running if it does not.",
    "reboot": "Its {way} asks it to shut down, then it starts again{pending}.",
    "stop": "Its power is cut at once. What it has not written is lost.",
    "reset": "Its reset button is pressed. What it has not written is lost.",
    "pause": "Its processors halt; its memory stays where it is.",
    "resume": "It goes on where it was.",
    "hibernate": "Its memory is saved to disk and it is switched off.",
}


@dataclass(frozen=True)
class Line:
    """A VM of the selection: what will happen, or why nothing will."""

    vm: VM
    state: State
    effect: str
    reason: str


@signed_in
@require_http_methods(["GET", "POST"])
def bulk(request: HttpRequest) -> HttpResponse:
    """``?verb=stop&vm=100&vm=101``: the preview; the same by POST: ask for it."""
    given = request.POST if request.method == "POST" else request.GET
    verb = VERBS.get(given.get("verb", "start"))
    if verb is None or verb.name not in EFFECTS:
        raise Http404
    lines = lines_of(request.user, verb, given.getlist("vm"))
    if request.method == "POST":
        return asked(request, verb, lines)
    ready = sum(not line.reason for line in lines)
    context = {"verb": verb, "lines": lines, "ready": ready, "skipped": len(lines) - ready}
    return render(request, "vms/bulk.html", context)


def lines_of(user: Any, verb: Verb, given: list[str]) -> list[Line]:
    """The chosen VMs the user may see, in the order of their numbers."""
    vmids = {int(text) for text in given[:LIMIT] if text.isascii() and text.isdigit() and len(text) <= 9}
    rows = access.visible_vms(user).filter(vmid__in=vmids).select_related("node", "pool")
    return [line_of(user, verb, vm) for vm in rows.order_by("vmid")]


def line_of(user: Any, verb: Verb, vm: VM) -> Line:
    """What the verb would do to this VM."""
    held = access.privileges(user, vm.path, pool=vm.pool.name if vm.pool else "")
    agent = str(vm.options.get("agent", "0")).split(",")[0].removeprefix("enabled=") in ("1", "on", "yes")
    effect = EFFECTS[verb.name].format(
        way="agent, or its power button," if agent else "power button",
        pending=" with its pending changes" if vm.pending else "",
    )
    return Line(vm, vm_state(vm), effect, refusal(verb, vm, held))


def asked(request: HttpRequest, verb: Verb, lines: list[Line]) -> HttpResponse:
    """One task for each VM that can; a sentence for each that could not after all."""
    count = 0
    for line in lines:
        if line.reason:
            continue
        try:
            submit(verb.type, vm=line.vm, user=request.user, params=params_of(request, verb))
            count += 1
        except VMError as error:
            messages.error(request, f"VM {line.vm.vmid}: {sentence(error)}")
    if count:
        messages.info(request, f"{verb.label} requested for {count} VM{'s' if count != 1 else ''}.")
    return redirect("vms:tasks")
