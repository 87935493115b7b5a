"""The clipboard between a browser and a guest: which half of the way is missing, in a sentence.

Text goes browser - VNC - QEMU - a channel - the guest's own agent (spice-vdagent), or browser - SPICE - the
same channel. The browser's half is judged by the page; the others here.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET

from console.keyboard import typed_vm
from vms.errors import VMError
from vms.hardware.screens import shares_clipboard
from vms.models import VM
from vms.tasks import notify, screens
from vms.views.doors import sentence, signed_in

OFF = (
    "The display's clipboard is off. Set it to VNC in Hardware, Display; then shut the VM down and start it."
)
WAITS = "The display's clipboard was switched on while the VM ran: shut it down and start it."
ELSEWHERE = (
    "The display's clipboard is set to VNC, so the noVNC console has it. To have it here, take VNC out in "
    "Hardware, Display; then shut the VM down and start it."
)
STOPPED = "The guest is not running."
ASKING = "Asking whether the guest listens."
DEAF = (
    "Nobody in the guest holds the clipboard's channel: install and start spice-vdagent there "
    "(on Windows it is part of the guest tools), and log in to a desktop."
)
READY = "The guest's agent listens: what is copied there appears here."


@signed_in
@require_GET
def clipboard(request: HttpRequest, vmid: int) -> HttpResponse:
    """``ready`` and ``words``, as JSON. Pages ask while their clipboard menu is open."""
    vm = typed_vm(request, vmid)
    try:
        words = judged(vm, spice=request.GET.get("screen") == "spice")
    except VMError as error:
        words = sentence(error)
    return JsonResponse({"ready": words == READY, "words": words})


def judged(vm: VM, *, spice: bool = False) -> str:
    """How it stands with QEMU's half and the guest's. Asking makes the worker look.

    Raises :class:`VMError`.
    """
    if not (vm.running and vm.run_id):
        return STOPPED
    running: Any = vm.launch.get("config")
    shared = shares_clipboard(running if isinstance(running, dict) else vm.options)
    if spice and shared:
        return ELSEWHERE
    if not shared and not spice:
        return WAITS if shares_clipboard(vm.options) else OFF
    screens.look(vm.run_id)
    found = screens.kept(vm.run_id)
    if found is None or found.clipboard is None:
        notify.ring(vm.node.name)
        return ASKING
    return READY if found.clipboard else DEAF
