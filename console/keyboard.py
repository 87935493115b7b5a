"""Doors of the keyboard: a text typed into a guest, and the key combinations a user has made."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from console.models import KeyCombination
from vms.access import may_vm
from vms.errors import AccessError, ConfigError, VMError
from vms.models import VM, Task
from vms.operations.keys import PRIVILEGE, TEXT, USUAL, type_text
from vms.qemu.keyboard import CODES, chord
from vms.qemu.layouts import LAYOUTS, offered
from vms.views.doors import sentence, signed_in, task_or_404, vm_or_404

SPEEDS = ((5, "Slow: 5 characters a second"), (USUAL, f"Usual: {USUAL} a second"), (50, "Fast: 50 a second"))


def typed_vm(request: HttpRequest, vmid: int) -> VM:
    """The VM, for who may type into it."""
    vm = vm_or_404(request, vmid)
    if not may_vm(request.user, PRIVILEGE, vm):
        raise PermissionDenied(f"Permission check failed ({vm.path}, {PRIVILEGE})")
    return vm


def typing_context(vm: VM) -> dict[str, Any]:
    """What the fields of a text to type offer."""
    keyboard = str(vm.options.get("keyboard", ""))
    return {"layouts": LAYOUTS.values(), "speeds": SPEEDS, "layout": offered(keyboard), "rate": USUAL}


def combinations(user: Any) -> list[dict[str, str]]:
    """A user's own, as the Keys menu presses them: by a browser's names of the same places."""
    return [
        {"label": row.label, "keys": row.keys, "codes": " ".join(CODES[key] for key in chord(row.keys))}
        for row in KeyCombination.objects.filter(user=user)
    ]


@signed_in
@require_http_methods(["GET", "POST"])
def type_page(request: HttpRequest, vmid: int) -> HttpResponse:
    """Ask for a text, and by POST type it. Who wants JSON gets the task, or why there is none."""
    vm = typed_vm(request, vmid)
    context = {"vm": vm, "tab": "console", "said": "", "text": "", **typing_context(vm)}
    if request.method == "GET":
        return render(request, "console/type.html", context)
    form = request.POST
    json = request.headers.get("Accept", "").startswith("application/json")
    layout, rate = form.get("layout") or context["layout"], form.get("rate") or str(USUAL)
    try:
        if not rate.isascii() or not rate.isdecimal():
            raise ConfigError("rate", "is no number")
        task = type_text(form.get("text", ""), vm=vm, user=request.user, layout=layout, rate=int(rate[:6]))
    except VMError as error:
        code = 403 if isinstance(error, AccessError) else 422 if isinstance(error, ConfigError) else 409
        if json:
            return JsonResponse({"error": sentence(error)}, status=code)
        context |= {"said": sentence(error), "text": form.get("text", ""), "layout": layout, "rate": rate}
        return render(request, "console/type.html", context, status=code)
    if json:
        return JsonResponse(told(task))
    return redirect("vms:task", pk=task.pk)


@signed_in
@require_GET
def type_state(request: HttpRequest, vmid: int, pk: int) -> HttpResponse:
    """How the typing goes, as JSON."""
    vm = typed_vm(request, vmid)
    task = task_or_404(request, pk)
    if task.type != TEXT or task.vm_id != vm.pk:
        raise PermissionDenied("This is another task.")
    return JsonResponse(told(task))


def told(task: Task) -> dict[str, Any]:
    """A task as the console page shows it. ``tone`` is a state's."""
    ended = {Task.Status.OK: "Typed", Task.Status.CANCELLED: "Cancelled; a part was typed"}
    words = ended.get(Task.Status(task.status), task.message) if task.finished else task.message
    return {
        "finished": task.finished,
        "failed": task.status == Task.Status.ERROR,
        "words": words or "Typing",
        "progress": task.progress,
        "state": reverse("console:type_state", args=[task.vmid, task.pk]),
        "cancel": reverse("vms:task_cancel", args=[task.pk]),
        "task": reverse("vms:task", args=[task.pk]),
    }


@signed_in
@require_http_methods(["GET", "POST"])
def keys(request: HttpRequest) -> HttpResponse:
    """A user's own combinations. By POST ``label`` and ``keys`` add one, ``remove`` takes one away."""
    context: dict[str, Any] = {"said": "", "label": "", "keys": "", "most": KeyCombination.MOST}
    status = 200
    if request.method == "POST":
        try:
            change(request.user, request.POST)
            return redirect("console:keys")
        except ConfigError as error:
            status = 422
            posted = {name: request.POST.get(name, "") for name in ("label", "keys")}
            context |= {"said": sentence(error), **posted}
    context["rows"] = list(KeyCombination.objects.filter(user=request.user.pk))
    return render(request, "console/keys.html", context, status=status)


def change(user: Any, form: Any) -> None:
    """Add one, or take one away. Raises :class:`ConfigError`."""
    rows = KeyCombination.objects.filter(user=user)
    if remove := form.get("remove", ""):
        rows.filter(
            pk=int(remove) if remove.isascii() and remove.isdecimal() and len(remove) < 10 else 0
        ).delete()
        return
    words = "-".join(chord(form.get("keys", "")))
    label = " ".join(form.get("label", "").split()) or words
    if len(label) > 40 or not label.isprintable():
        raise ConfigError("label", "has at most 40 characters, and none that cannot be seen")
    with transaction.atomic():
        if rows.filter(keys=words).exists():
            raise ConfigError("keys", f"{words} is in your list already")
        if rows.count() >= KeyCombination.MOST:
            raise ConfigError("keys", f"{KeyCombination.MOST} combinations are the most; remove one first")
        KeyCombination.objects.create(user=user, label=label, keys=words)
