"""What the Hardware page answers when something was asked for, or refused; what stood there before it."""

from __future__ import annotations

from collections.abc import Mapping

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from vms.config.secrets import masked
from vms.models import VM, Task
from vms.models.configuration import with_parts
from vms.views.doors import vm_or_404, wants_fragment


def full_vm(request: HttpRequest, vmid: int) -> VM:
    """A VM the user may see, with its drives and cards."""
    found: VM = with_parts(VM.objects.filter(pk=vm_or_404(request, vmid).pk)).get()
    return found


def asked_for(request: HttpRequest, vm: VM, what: str, task: Task, *, tab: str = "hardware") -> HttpResponse:
    """*Requested* is not *reached*: the page says what has become of ``what`` so far."""
    if not task.finished:
        return done(request, vm, f"{what}: requested.", task, tab=tab)
    vm.refresh_from_db(fields=["pending"])
    words = "noted; changes wait for a cold start" if vm.pending else "done"
    return done(request, vm, f"{what}: {words}.", task, tab=tab)


def done(
    request: HttpRequest, vm: VM, text: str, task: Task | None = None, *, tab: str = "hardware"
) -> HttpResponse:
    """A sentence about what was asked for: an echo in place for htmx, a message on the page otherwise."""
    if wants_fragment(request):
        context = {"text": text, "tone": "busy", "action": task.label if task else ""}
        context["href"] = reverse("vms:task", args=[task.pk]) if task else ""
        return render(request, "components/toast.html", context)
    messages.info(request, text)
    return redirect(f"vms:vm_{tab}", vmid=vm.vmid)


def refused(request: HttpRequest, vm: VM, text: str, status: int, *, tab: str = "hardware") -> HttpResponse:
    """The sentence why not: an echo in place for htmx, a message on the page otherwise."""
    if wants_fragment(request):
        answer = render(request, "components/toast.html", {"text": text, "tone": "error"}, status=status)
        if request.method == "GET":
            # What was asked for is a dialog; there is none to put the sentence into.
            answer["HX-Retarget"], answer["HX-Reswap"] = "#toasts", "beforeend"
        return answer
    messages.error(request, text)
    return redirect(f"vms:vm_{tab}", vmid=vm.vmid)


def remember(request: HttpRequest, vm: VM, before: Mapping[str, str]) -> None:
    """Keep in this browser's session what stood before a change: the command is marked with it."""
    request.session[f"before-{vm.vmid}"] = masked(before)


def remembered(request: HttpRequest, vm: VM) -> Mapping[str, str] | None:
    """What stood before the last change that was asked for in this browser."""
    found = request.session.get(f"before-{vm.vmid}")
    return found if isinstance(found, dict) else None
