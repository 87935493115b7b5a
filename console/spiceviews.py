"""The pages that show a SPICE screen, and the file for a viewer program of one's own."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST

from console import tickets, viewerfile
from console.keyfiles import Files
from console.models import ConsoleTicket
from console.views import screen_context, vm_or_refusal
from vms.errors import StateError
from vms.hardware.screens import no_spice
from vms.hardware.serial import display_of
from vms.models import VM
from vms.views.doors import signed_in

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  (compared, not bound)
NO_PORT = "Viewer programs such as remote-viewer need a TCP port, and the operator has allowed none."
ALLOW_PORT = "PVELITE_SPICE=0.0.0.0:61000 allows one; the screen on this page needs none."


def _context(request: HttpRequest, vm: VM) -> dict[str, Any]:
    missing = no_spice(display_of(vm.options), built=bool(vm.node.facts.get("spice", True)))
    return {
        **screen_context(request, vm),
        "missing": missing,
        "forgets": _forgets(vm),
        "one_viewer": f"{tickets.ONE_VIEWER} noVNC can.",
        "watch_only": tickets.ONE_VIEWER if request.GET.get("view") == "only" else "",
        "no_viewer": _no_viewer(vm),
    }


def _forgets(vm: VM) -> bool:
    """Whether QEMU may leave out what is on the card's screen; ``static/js/spice-holes.js`` says why."""
    running: Any = vm.launch.get("config")
    return display_of(running if isinstance(running, dict) else vm.options).startswith("qxl")


def _no_viewer(vm: VM) -> str:
    """Why there is no file for a viewer program; "" when there is one."""
    if settings.CONF.spice is None:
        return f"{NO_PORT} {ALLOW_PORT}"
    if vm.node.name != settings.CONF.node:
        return f"The VM is on node {vm.node.name}: get the file from pvelite there."
    if not Files(settings.CONF.home).authority.exists():
        return "The console role has not made its certificate yet; its log says why."
    return ""


@signed_in
@require_GET
def spice(request: HttpRequest, vmid: int) -> HttpResponse:
    """The SPICE screen in the VM's page."""
    return render(request, "console/vm_spice.html", _context(request, vm_or_refusal(request, vmid)))


@signed_in
@require_GET
def spice_window(request: HttpRequest, vmid: int) -> HttpResponse:
    """The same without the frame around it, for a window of its own."""
    return render(request, "console/spice_window.html", _context(request, vm_or_refusal(request, vmid)))


@signed_in
@require_POST
def viewer_file(request: HttpRequest, vmid: int) -> HttpResponse:
    """A file that opens the screen in a viewer program, once, within seconds. 409 with the reason if not."""
    vm = vm_or_refusal(request, vmid)
    try:
        text = _file(request, vm)
    except StateError as error:
        refused = {**_context(request, vm), "refused": error}
        return render(request, "console/vm_spice.html", refused, status=409)
    response = HttpResponse(text, content_type=viewerfile.MEDIA_TYPE)
    response["Content-Disposition"] = f'attachment; filename="vm-{vm.vmid}.vv"'
    return response


def _file(request: HttpRequest, vm: VM) -> str:
    """Raises :class:`StateError` when the VM has no SPICE screen now, or no port is allowed."""
    address, missing = settings.CONF.spice, _no_viewer(vm)
    if address is None or missing:
        raise StateError(f"There is no viewer file for VM {vm.vmid}.", hint=missing)
    host, port = address
    if host in EVERYWHERE:  # as this browser reaches us
        host = re.sub(r":[0-9]+$", "", request.get_host()).strip("[]")
    password = tickets.mint(
        request.user, request.session.session_key or "", vm, kind=ConsoleTicket.Kind.VIEWER,
        view_only=bool(request.POST.get("view_only")), address=request.META.get("REMOTE_ADDR") or "",
    )  # fmt: skip
    return viewerfile.compose(
        host=host, port=port, password=password, title=str(vm), node=settings.CONF.node,
        files=Files(settings.CONF.home),
    )  # fmt: skip
