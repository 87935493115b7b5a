"""The head of every page about a VM, for any template that has ``vm`` in its context."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import reverse

from vms.models import VM
from vms.views.power import toolbar

register = template.Library()

TABS = (
    ("summary", "Summary", "vms:vm_summary"),
    ("console", "Console", "console:vm_console"),
    ("hardware", "Hardware", "vms:vm_hardware"),
    ("cloudinit", "Cloud-Init", "vms:vm_cloudinit"),
    ("options", "Options", "vms:vm_options"),
    ("backup", "Backup", "vms:vm_backup"),
    ("snapshots", "Snapshots", "vms:vm_snapshots"),
    ("tasks", "Task history", "vms:vm_tasks"),
)
OF_GUESTS = frozenset({"console", "snapshots"})
"""Tabs that a template does not have: nothing of it ever runs, and its disks stay as they are."""


@register.inclusion_tag("vms/_vm_head.html", takes_context=True)
def vm_head(context: dict[str, Any], vm: VM) -> dict[str, Any]:
    """Title line and toolbar."""
    request = context["request"]
    bar = toolbar(request.user, vm)
    return {"vm": vm, "bar": bar, "request": request, "csrf_token": context.get("csrf_token")}


@register.inclusion_tag("components/tabs.html")
def vm_tabs(vm: VM, current: str) -> dict[str, Any]:
    """The tabs, each an address."""
    tabs = [
        {"slug": slug, "label": label, "href": reverse(name, args=[vm.vmid])}
        for slug, label, name in TABS
        if not (vm.template and slug in OF_GUESTS)
    ]
    return {"tabs": tabs, "current": current, "name": f"Pages of VM {vm.vmid}"}
