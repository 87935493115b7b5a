"""A guest's screen as a picture: the small one on Summary, drawn while somebody looks, and the screenshot."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import parse_etags, quote_etag
from django.views.decorators.http import require_GET, require_POST

from vms.access import may_vm
from vms.errors import AccessError, VMError
from vms.models import VM, Task
from vms.operations import screen
from vms.operations.keys import PRIVILEGE
from vms.tasks import notify, screens
from vms.tasks.screens import Thumbnail
from vms.views.doors import sentence, signed_in, vm_or_404, wants_fragment

NOT_YOURS = f"You may not look at its screen: no role of yours has {PRIVILEGE}."
OFF = "There is no screen until it runs."
AGE = 300
"""Seconds a browser may keep a picture: its address names what it shows."""


def screen_card(user: Any, vm: VM) -> dict[str, Any]:
    """What Summary shows of the screen; looking at it has it drawn again.

    ``why`` says why there is no picture and none to come; ``image`` is the picture's address.
    """
    card: dict[str, Any] = {"why": "", "image": "", "may": may_vm(user, PRIVILEGE, vm)}
    if not card["may"]:
        return {**card, "why": NOT_YOURS}
    if not (vm.running and vm.run_id):
        return {**card, "why": screen.screenless(vm) or OFF}
    if why := screen.screenless(vm):
        return {**card, "why": why}
    try:
        thumbnail = _looked_at(vm)
    except VMError as error:
        return {**card, "why": sentence(error)}
    if thumbnail is None:
        return card
    address = f"{reverse('vms:vm_thumbnail', args=[vm.vmid])}?shows={thumbnail.digest}"
    return {**card, "why": thumbnail.words, "image": "" if thumbnail.words else address}


def _looked_at(vm: VM) -> Thumbnail | None:
    """The latest picture. Who looks first need not wait for the worker's next round."""
    screens.look(vm.run_id)
    found = screens.kept(vm.run_id)
    if found is None:
        notify.ring(vm.node.name)
    return found


@signed_in
@require_GET
def vm_screen(request: HttpRequest, vmid: int) -> HttpResponse:
    """The card's inside, asked for every few seconds while somebody sees it."""
    vm = vm_or_404(request, vmid)
    return render(request, "vms/_screen.html", {"vm": vm, "screen": screen_card(request.user, vm)})


@signed_in
@require_GET
def vm_thumbnail(request: HttpRequest, vmid: int) -> HttpResponse:
    """The small picture as PNG. 204 where there is none now: a guest may end while a page asks for it."""
    vm = vm_or_404(request, vmid)
    if not may_vm(request.user, PRIVILEGE, vm):
        raise PermissionDenied(NOT_YOURS)
    try:
        found = screens.kept(vm.run_id) if vm.running and vm.run_id else None
    except VMError:
        found = None  # the card beside it says why
    if found is None or not found.png:
        return HttpResponse(status=204)
    tag = quote_etag(found.digest)
    known = tag in parse_etags(request.headers.get("If-None-Match", ""))
    answer = HttpResponse(status=304) if known else HttpResponse(found.png, content_type="image/png")
    answer["ETag"] = tag
    fresh = request.GET.get("shows") == found.digest
    answer["Cache-Control"] = f"private, max-age={AGE}" if fresh else "private, no-cache"
    return answer


@signed_in
@require_POST
def screenshot(request: HttpRequest, vmid: int) -> HttpResponse:
    """Take one, and go where it will be."""
    vm = vm_or_404(request, vmid)
    try:
        task = screen.take(vm, request.user)
    except VMError as error:
        status = 403 if isinstance(error, AccessError) else 409
        context = {"text": sentence(error), "tone": "error", "vm": vm, "tab": "summary"}
        name = "components/toast.html" if wants_fragment(request) else "vms/screenshot.html"
        return render(request, name, context, status=status)
    response = redirect("vms:screenshot_taken", vmid=vm.vmid, pk=task.pk)
    if wants_fragment(request):
        return HttpResponse(status=204, headers={"HX-Redirect": response["Location"]})
    return response


@signed_in
@require_GET
def screenshot_taken(request: HttpRequest, vmid: int, pk: int) -> HttpResponse:
    """The screenshot on a page. ``?part=picture`` that alone; ``?file=1`` the PNG, 202 until it is there."""
    vm = vm_or_404(request, vmid)
    task = Task.objects.filter(pk=pk, vm=vm, type=screen.TYPE).first()
    if task is None:
        raise Http404("There is no such screenshot, or you may not see it.")
    try:
        png, lost = screen.taken(task, request.user), ""
    except AccessError as error:
        raise PermissionDenied(str(error)) from error
    except VMError as error:
        png, lost = None, sentence(error)
    if request.GET.get("file"):
        return _file(vm, task, png)
    failed = task.status in (Task.Status.ERROR, Task.Status.CANCELLED)
    text = lost or (f"{task.message}" if failed else "")
    if not text and png is None and task.finished:
        text = "The screenshot was kept for an hour and is gone. Take another."
    context = {
        "vm": vm,
        "tab": "summary",
        "task": task,
        "there": png is not None,
        "text": text,
        "tone": "error",
    }
    part = request.GET.get("part") == "picture"
    return render(request, f"vms/{'_screenshot' if part else 'screenshot'}.html", context)


def _file(vm: VM, task: Task, png: bytes | None) -> HttpResponse:
    if png is None:
        status = 404 if task.finished else 202
        return HttpResponse(task.message, status=status, content_type="text/plain")
    name = f"vm-{vm.vmid}-{timezone.localtime(task.created):%Y-%m-%d-%H-%M-%S}.png"
    disposition = {"Content-Disposition": f'inline; filename="{name}"'}
    return HttpResponse(png, content_type="image/png", headers=disposition)
