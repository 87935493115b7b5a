"""Questions about a disk: each dialog is a page, opened in place with JavaScript (as in ``device_forms``)."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from vms.errors import AccessError, ConfigError, ConfigErrors, NotFound, StateError, VMError
from vms.forms import diskwork
from vms.forms.diskwork import DiskWork
from vms.forms.fields import sentence as field_sentence
from vms.forms.hardware import OptionForm
from vms.models.configuration import config_of, state_digest
from vms.operations.base import OPERATIONS, parse_params, submit
from vms.views.asking import asked_for, full_vm
from vms.views.device_forms import MACHINERY
from vms.views.devices import Gate, label_of
from vms.views.doors import sentence, signed_in, wants_fragment

URLS = {
    diskwork.Resize: "disk_resize", diskwork.Move: "disk_move", diskwork.Reassign: "disk_reassign",
    diskwork.Import: "disk_import",
}  # fmt: skip


@signed_in
@require_http_methods(["GET", "POST"])
def disk_resize(request: HttpRequest, vmid: int, row: str) -> HttpResponse:
    """Let a disk grow."""
    return answer(request, vmid, diskwork.Resize, row)


@signed_in
@require_http_methods(["GET", "POST"])
def disk_move(request: HttpRequest, vmid: int, row: str) -> HttpResponse:
    """Move a disk to another storage or format."""
    return answer(request, vmid, diskwork.Move, row)


@signed_in
@require_http_methods(["GET", "POST"])
def disk_reassign(request: HttpRequest, vmid: int, row: str) -> HttpResponse:
    """Give a disk to another VM."""
    return answer(request, vmid, diskwork.Reassign, row)


@signed_in
@require_http_methods(["GET", "POST"])
def disk_import(request: HttpRequest, vmid: int) -> HttpResponse:
    """Make a disk of an image."""
    return answer(request, vmid, diskwork.Import)


def answer(request: HttpRequest, vmid: int, kind: type[DiskWork], row: str = "") -> HttpResponse:
    """Show the question, or ask for what was chosen."""
    vm = full_vm(request, vmid)
    data = request.POST if request.method == "POST" else request.GET
    given = {name: str(text) for name, text in data.items() if name not in MACHINERY and name != "shown"}
    for name in data.getlist("shown"):
        given.setdefault(name, "0")
    try:
        work = kind(vm, request.user, row, given)
    except ConfigError as error:
        raise Http404(str(error)) from error
    if request.method == "POST":
        return asked(request, work)
    return shown(request, work, work.form(lenient=True))


def asked(request: HttpRequest, work: DiskWork) -> HttpResponse:
    """Ask for it, or show what stands in its way on the fields it is about."""
    form = work.form()
    if form.errors:
        return shown(request, work, form, status=422)
    try:
        params = work.params(form.texts())
        if work.slot and request.POST.get("digest"):
            params["digest"] = request.POST["digest"]
        task = submit(work.type, vm=work.vm, user=request.user, params=params)
    except ConfigError as error:
        form.blame(blamed(work, error))
        return shown(request, work, form, status=422)
    except VMError as error:
        code = 403 if isinstance(error, AccessError) else 404 if isinstance(error, NotFound) else 409
        return shown(request, work, form, said=sentence(error), status=code)
    return asked_for(request, work.vm, title_of(work), task)


def blamed(work: DiskWork, error: ConfigError) -> dict[str, str]:
    """A refusal's sentences by field."""
    errors = error.errors if isinstance(error, ConfigErrors) else (error,)
    return {work.blamed.get(one.key, one.key): field_sentence(one) for one in errors}


def shown(
    request: HttpRequest, work: DiskWork, form: OptionForm, *, said: str = "", status: int = 200
) -> HttpResponse:
    """The dialog: its inside after a choice, in place for htmx, else a page."""
    parts = work.blocks(form)
    context: dict[str, Any] = {
        "vm": work.vm, "tab": "hardware", "sheet": work, "form": form, "url": url_of(work), "said": said,
        "title": title_of(work), "ok": work.ok, "blocks": [part for part in parts if not part.advanced],
        "advanced": [part for part in parts if part.advanced], "digest": state_digest(work.vm),
        "advice": work.advice(), "reason": reason_of(work),
        "volume": work.volume,
        "open": any(field.errors for part in parts if part.advanced for field in part.fields),
    }  # fmt: skip
    inside = request.GET.get("part") == "fields" or (wants_fragment(request) and status >= 400)
    name = "_device_fields" if inside else "_device_dialog" if wants_fragment(request) else "device"
    return render(request, f"vms/{name}.html", context, status=status)


def title_of(work: DiskWork) -> str:
    """``Resize: Hard disk (scsi0)``"""
    if not work.slot:
        return "Import disk"
    return f"{work.ok}: {label_of(work.slot, config_of(work.vm)[work.slot])}"


def url_of(work: DiskWork) -> str:
    """The dialog's own address."""
    args = [work.vm.vmid, work.slot] if work.slot else [work.vm.vmid]
    return reverse(f"vms:{URLS[type(work)]}", args=args)


def reason_of(work: DiskWork) -> str:
    """Why this cannot be done by the user now, whatever is chosen; "" when it can."""
    gate = Gate(work.user, work.vm)
    if "VM.Config.Disk" not in gate.held:
        return "You may not: VM.Config.Disk on this VM is missing."
    if gate.shut() or work.barred():
        return gate.shut() or work.barred()
    verb = OPERATIONS[work.type]
    try:
        verb.check(work.vm, parse_params(verb.params, work.params(work.values)))
    except StateError as error:
        return sentence(error)
    except ConfigError as error:
        return sentence(VMError(error.text, hint=error.hint)) if error.key == "disk" else ""
    except (VMError, ValueError, KeyError):
        return ""
    return ""
