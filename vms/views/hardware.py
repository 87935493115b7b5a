"""The Hardware page of a VM: what the machine is made of, and the command that makes it so."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from vms.models import VM
from vms.models.configuration import with_parts
from vms.views import words
from vms.views.command import command_of
from vms.views.doors import signed_in, vm_or_404
from vms.views.vm import configuration_page


@signed_in
@require_GET
def vm_hardware(request: HttpRequest, vmid: int) -> HttpResponse:
    """What the machine is made of, and the command that makes it so (``?part=command``)."""
    if request.GET.get("part") != "rows":
        vm = with_parts(VM.objects.filter(pk=vm_or_404(request, vmid).pk)).get()
        context = {"vm": vm, "command": command_of(vm)}
        if request.GET.get("part") == "command":
            return render(request, "vms/_vm_command.html", context)
        return configuration_page(request, vmid, "hardware", words.hardware_rows, context)
    return configuration_page(request, vmid, "hardware", words.hardware_rows)
