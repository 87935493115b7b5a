"""The Hardware page of a VM: what the machine is made of, what waits, and the command that makes it so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from vms.config.rules import Finding, findings
from vms.config.vmconfig import VMConfig
from vms.errors import VMError
from vms.forms.command import Command, Line
from vms.forms.editing import Editing
from vms.forms.sheet import Advice, name_of
from vms.models import VM
from vms.models.waiting import Waiting
from vms.views.asking import full_vm, remembered
from vms.views.busmove import card_of, wanted
from vms.views.command import command_of
from vms.views.devices import DISK_TOOLS, TOOLS, Gate, devices, offers
from vms.views.doors import signed_in
from vms.views.power import VERBS, toolbar_reason

TOLD = ("block", "warn")
"""Severities worth a line on the page of a machine that exists."""
OF_THE_NODE = ("R11",)
"""Rules that say of every machine here what the node's page and the Summary say already."""


@dataclass(frozen=True)
class Banner:
    """What waits for a cold start: how many keys, what it does to the command, and why it cannot be applied
    now ("" when it can)."""

    count: int
    lines: tuple[Line, ...]
    reason: str


@signed_in
@require_GET
def vm_hardware(request: HttpRequest, vmid: int) -> HttpResponse:
    """The whole page; ``?part=rows`` and ``?part=command`` answer what may have changed."""
    vm = full_vm(request, vmid)
    part = request.GET.get("part")
    command = command_of(vm, remembered(request, vm))
    if part == "command":
        return render(request, "vms/_vm_command.html", {"vm": vm, "command": command})
    context = page_of(request, vm, command)
    return render(request, "vms/_hardware_rows.html" if part == "rows" else "vms/vm_hardware.html", context)


def page_of(request: HttpRequest, vm: VM, command: Command) -> dict[str, Any]:
    """What the page shows."""
    waiting = Waiting.of(vm)
    draft = Editing(vm, request.user, waiting.effective)
    gate = Gate(request.user, vm)
    card = card_of(vm, waiting, gate, draft.offers)
    return {
        "vm": vm, "tab": "hardware", "command": command, "rows": devices(vm, waiting, gate),
        "offers": offers(draft, gate), "advice": advice_of(draft, gate), "shut": gate.dropping(waiting),
        "card": card if wanted(vm, card) else None, "tools": TOOLS, "disk_tools": DISK_TOOLS,
        "banner": banner_of(request, vm, waiting, command),
    }  # fmt: skip


def advice_of(draft: Editing, gate: Gate) -> list[Advice]:
    """What the rules find wrong with the machine as its next start would have it."""
    try:
        found = findings(VMConfig.parse(draft.mapping), draft.facts)
    except VMError:
        return []
    told = [item for item in found if item.severity in TOLD and item.rule not in OF_THE_NODE]
    return [
        Advice(name_of(item), item.severity, item.text, bool(item.fix), reason_of(item, draft, gate))
        for item in told
    ]


def reason_of(finding: Finding, draft: Editing, gate: Gate) -> str:
    """Why a finding's fix cannot be used now; "" when it can."""
    found = (gate.reason(key, draft.mapping.get(key), text) for key, text in (finding.fix or {}).items())
    return next(filter(None, found), "")


def banner_of(request: HttpRequest, vm: VM, waiting: Waiting, command: Command) -> Banner | None:
    """The line about what waits; none when nothing does."""
    if not waiting.changes:
        return None
    lines = (line for group in command.groups for cause in group.causes for line in cause.lines if line.mark)
    return Banner(len(waiting.changes), tuple(lines), toolbar_reason(request, vm, VERBS["reboot"]))
