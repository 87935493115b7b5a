"""A VM's pages: summary, options, task history. A tab is an address, a live part a fragment."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from vms.models import VM, Task
from vms.models.configuration import config_of, with_parts
from vms.views import words
from vms.views.agentcard import agent_card
from vms.views.doors import signed_in, vm_or_404
from vms.views.failures import last_failure
from vms.views.graphs import VM_GRAPHS, fresh, graph_context
from vms.views.nodes import accelerator
from vms.views.picture import screen_card
from vms.views.states import vm_state
from vms.views.tasks import page_of, shown
from vms.views.warmth import warmth_of

VISIBLE_TASKS = 5


@signed_in
@require_GET
def vm_summary(request: HttpRequest, vmid: int) -> HttpResponse:
    """State, resources, addresses, the last error. ``?part=head`` and ``?part=cards`` answer fragments."""
    vm = vm_or_404(request, vmid)
    part = request.GET.get("part")
    if part == "head":
        return render(request, "vms/_vm_head_only.html", {"vm": vm})
    address = reverse("vms:vm_series", args=[vm.vmid])
    context = {**summary_of(vm, request.user), **graph_context(request, VM_GRAPHS, address)}
    return render(request, "vms/_vm_cards.html" if part == "cards" else "vms/vm_summary.html", context)


def summary_of(vm: VM, user: Any) -> dict[str, Any]:
    """What the Summary cards show ``user``."""
    full = with_parts(VM.objects.filter(pk=vm.pk)).get()
    config = config_of(full)
    agent = agent_card(user, vm, config)
    recent = Task.objects.filter(vm=vm).select_related("node").order_by("-pk")[:VISIBLE_TASKS]
    return {
        "vm": vm,
        "usage": fresh(vm.usage),
        "tab": "summary",
        "state": vm_state(vm),
        "accelerator": accelerator(vm.node),
        "processors": words.processor_words(config),
        "memory": words.memory_words(config),
        "disks": words.drive_summary(config),
        "addresses": addresses_of(vm) if agent["told"] else [],
        "agent": agent,
        "ostype": words.words("ostype", config["ostype"]) if "ostype" in config else "Not set",
        "machine": str(vm.launch.get("machine", "")) if vm.running else "",
        "failure": last_failure(vm),
        "tasks": [shown(task) for task in recent],
        "notes": config.get("description", ""),
        "warmth": warmth_of(full, config),
        "screen": screen_card(user, vm),
    }


def addresses_of(vm: VM) -> list[str]:
    """IP addresses the guest's agent told, loopback and link-local ones left out."""
    found: list[str] = []
    interfaces = vm.agent.get("interfaces", []) if isinstance(vm.agent, dict) else []
    for interface in interfaces:
        for address in interface.get("addresses", interface.get("ip-addresses", [])):
            text = str(address.get("ip-address", "") if isinstance(address, dict) else address)
            if text and not text.startswith(("127.", "::1", "fe80:")):
                found.append(text)
    return found


@signed_in
@require_GET
def vm_tasks(request: HttpRequest, vmid: int) -> HttpResponse:
    """Everything that was asked of this VM."""
    vm = vm_or_404(request, vmid)
    tasks = Task.objects.filter(vm=vm) | Task.objects.filter(vm=None, vmid=vmid, node=vm.node)
    page = page_of(request, tasks)
    context = {"vm": vm, "tab": "tasks", "page": page, "tasks": [shown(task) for task in page.object_list]}
    part = request.GET.get("part") == "rows"
    return render(request, "vms/_task_rows.html" if part else "vms/vm_tasks.html", context)
