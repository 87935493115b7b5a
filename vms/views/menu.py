"""The menu of a VM in the tree: the same verbs as on its page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from vms.views.doors import signed_in, vm_or_404
from vms.views.power import toolbar


@signed_in
@require_GET
def vm_menu(request: HttpRequest, vmid: int) -> HttpResponse:
    """The verbs as a fragment; those that cannot be used now say why."""
    vm = vm_or_404(request, vmid)
    return render(request, "vms/_vm_menu.html", {"vm": vm, "bar": toolbar(request.user, vm)})
