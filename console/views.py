"""The pages that show a screen, and the door that hands out the ticket for it."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from console import tickets
from console.keyboard import combinations, typing_context
from console.models import ConsoleTicket
from vms.access import may_vm
from vms.errors import StateError
from vms.hardware.serial import PORTS, display_of, terminals
from vms.models import VM
from vms.views.doors import signed_in

FUNCTION_KEYS = range(1, 13)


def vm_or_refusal(request: HttpRequest, vmid: int) -> VM:
    """The VM, for who may open its console. One that may not be seen answers like one that is not there."""
    vm = VM.objects.select_related("node", "pool").filter(vmid=vmid).first()
    if vm is None or not (
        may_vm(request.user, "VM.Audit", vm) or may_vm(request.user, tickets.PRIVILEGE, vm)
    ):
        raise Http404(f"There is no VM {vmid}.")
    if not may_vm(request.user, tickets.PRIVILEGE, vm):
        raise PermissionDenied(f"Permission check failed ({vm.path}, {tickets.PRIVILEGE})")
    return vm


def screen_context(request: HttpRequest, vm: VM) -> dict[str, Any]:
    """What every page with a screen or a terminal shows around it."""
    return {
        "vm": vm,
        "tab": "console",
        "running": bool(vm.running and vm.run_id),
        "may_start": may_vm(request.user, "VM.PowerMgmt", vm),
        "function_keys": FUNCTION_KEYS,
        "view_only": request.GET.get("view") == "only",
        "own_keys": combinations(request.user),
        **typing_context(vm),
    }


def _shown_port(vm: VM) -> int | None:
    """The serial port that is the VM's display, or None."""
    display = display_of(vm.options)
    return int(display.removeprefix("serial")) if display.startswith("serial") else None


def _terminal(request: HttpRequest, vm: VM, port: int) -> dict[str, Any]:
    """Raises ``Http404`` for a port no VM has."""
    if port >= PORTS:
        raise Http404(f"There is no serial port {port}.")
    missing = "" if port in terminals(vm.options) else f"VM {vm.vmid} has no serial terminal {port}"
    return {**screen_context(request, vm), "port": port, "terminal": True, "missing": missing}


@signed_in
@require_GET
def vm_console(request: HttpRequest, vmid: int) -> HttpResponse:
    """The Console tab of the VM's page: the terminal where the display is a serial port."""
    vm = vm_or_refusal(request, vmid)
    port = _shown_port(vm)
    if port is None:
        return render(request, "console/vm_console.html", screen_context(request, vm))
    return render(request, "console/vm_terminal.html", _terminal(request, vm, port))


@signed_in
@require_GET
def window(request: HttpRequest, vmid: int) -> HttpResponse:
    """The same screen without the frame around it, for a window of its own. ``?view=only`` watches."""
    vm = vm_or_refusal(request, vmid)
    port = _shown_port(vm)
    if port is None:
        return render(request, "console/window.html", screen_context(request, vm))
    return render(request, "console/window.html", _terminal(request, vm, port))


@signed_in
@require_GET
def terminal(request: HttpRequest, vmid: int, port: int) -> HttpResponse:
    """The terminal of serial port ``port``, in the VM's page."""
    return render(request, "console/vm_terminal.html", _terminal(request, vm_or_refusal(request, vmid), port))


@signed_in
@require_GET
def terminal_window(request: HttpRequest, vmid: int, port: int) -> HttpResponse:
    """The terminal without the frame around it. ``?view=only`` watches."""
    return render(request, "console/window.html", _terminal(request, vm_or_refusal(request, vmid), port))


@signed_in
@require_GET
def state(request: HttpRequest, vmid: int) -> HttpResponse:
    """What the console page asks while it has no screen: whether there is one to open."""
    vm = vm_or_refusal(request, vmid)
    answer = {
        "running": bool(vm.running and vm.run_id),
        "status": vm.status,
        "words": vm.get_status_display(),
    }
    return JsonResponse(answer)


@signed_in
@require_POST
def ticket(request: HttpRequest, vmid: int) -> HttpResponse:
    """A ticket for one opening. 409 with the reason when the VM shows nothing."""
    vm = vm_or_refusal(request, vmid)
    kind = request.POST.get("kind", ConsoleTicket.Kind.VNC)
    if kind not in tickets.IN_BROWSERS:
        return JsonResponse({"error": f"'{kind}' is no kind of console."}, status=400)
    port = request.POST.get("port", "0")
    if port not in map(str, range(PORTS)):
        return JsonResponse({"error": f"'{port}' is no serial port."}, status=400)
    try:
        token = tickets.mint(
            request.user, request.session.session_key or "", vm, kind=kind, port=int(port),
            view_only=bool(request.POST.get("view_only")), address=request.META.get("REMOTE_ADDR") or "",
        )  # fmt: skip
    except StateError as error:
        return JsonResponse({"error": error.text, "hint": error.hint}, status=409)
    return JsonResponse({"ticket": token, "path": reverse("console:socket", args=[vmid])})


def socket(request: HttpRequest, vmid: int) -> HttpResponse:
    """Plain requests to the websocket's address: upgrades never come here (see :mod:`console.mux`)."""
    return HttpResponse("This address speaks WebSocket only.", status=426, headers={"Upgrade": "websocket"})
