"""The Options page of a VM. Every row is edited in a dialog that is a page of its own without JavaScript.

GET with fields in the address shows a dialog as it would be with them (``?part=fields`` its inside alone);
only POST asks for anything.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from vms.errors import AccessError, ConfigError, VMError
from vms.forms.bootorder import ordered
from vms.forms.optionsheet import KEYS, OptionSheet
from vms.models import Task
from vms.models.configuration import state_digest
from vms.models.waiting import Waiting
from vms.operations import configure
from vms.operations.protection import note_guard, protected, said_of
from vms.views import words
from vms.views.asking import done, full_vm, refused, remember
from vms.views.command import command_of
from vms.views.device_forms import MACHINERY
from vms.views.devices import Gate, is_disc
from vms.views.doors import sentence, signed_in, wants_fragment
from vms.views.hardware import banner_of
from vms.views.optionrows import lines_of


@signed_in
@require_GET
def vm_options(request: HttpRequest, vmid: int) -> HttpResponse:
    """What is no hardware: name, start at boot, boot order, agent. ``?part=rows`` answers the table alone."""
    vm = full_vm(request, vmid)
    waiting, gate = Waiting.of(vm), Gate(request.user, vm)
    context = {
        "vm": vm, "tab": "options", "lines": lines_of(vm, waiting, gate), "shut": gate.dropping(waiting),
        "notes": waiting.config.get("description", ""),
        "banner": banner_of(request, vm, waiting, command_of(vm)) if waiting.changes else None,
    }  # fmt: skip
    part = request.GET.get("part") == "rows"
    return render(request, f"vms/options/{'rows' if part else 'page'}.html", context)


@signed_in
@require_http_methods(["GET", "POST"])
def option_edit(request: HttpRequest, vmid: int, key: str) -> HttpResponse:
    """Show the dialog of an option, or ask for what it says."""
    vm = full_vm(request, vmid)
    if key not in KEYS:
        raise Http404("There is no such option.")
    sheet = OptionSheet(vm, request.user, key)
    if request.method == "POST":
        sheet.fill(request.POST)
        # A row of the boot order was moved, a fix was taken: nothing is asked for yet.
        return shown(request, sheet) if request.POST.get("go") else asked(request, sheet)
    if set(request.GET) - MACHINERY:
        sheet.fill(request.GET)
    return shown(request, sheet, lenient=True)


def asked(request: HttpRequest, sheet: OptionSheet) -> HttpResponse:
    """Ask for the change, or show what stands in its way on the field it is about."""
    if sheet.form().errors or sheet.blocked():
        return shown(request, sheet, status=422)
    label = words.label_of(sheet.row)
    try:
        task = change(request, sheet)
    except ConfigError as error:
        sheet.blame(error)
        return shown(request, sheet, status=422)
    except VMError as error:
        code = 403 if isinstance(error, AccessError) else 409
        return shown(request, sheet, said=sentence(error), status=code)
    if task is None:
        return done(request, sheet.vm, "Nothing was changed.", tab="options")
    remember(request, sheet.vm, sheet.before)
    return done(request, sheet.vm, f"{label}: {became(sheet, task)}.", task, tab="options")


def became(sheet: OptionSheet, task: Task) -> str:
    """What has become of the change so far, in words."""
    if not task.finished:
        return "requested"
    sheet.vm.refresh_from_db(fields=["pending"])
    return "noted; it waits for the next start" if sheet.row in sheet.vm.pending else "saved"


def change(request: HttpRequest, sheet: OptionSheet) -> Task | None:
    """The task; None when there is nothing to do. The reason of a protection is stored with it."""
    changes, reason = sheet.changes, sheet.reason
    again = reason is not None and reason != sheet.vm.guard.get("reason")
    if again:
        changes = {**changes, "protection": "1"}
    if not changes:
        return None
    with transaction.atomic():
        task = configure.change(
            sheet.vm, request.user, set={key: text for key, text in changes.items() if text is not None},
            delete=[key for key, text in changes.items() if text is None],
            digest=request.POST.get("digest", ""),
        )  # fmt: skip
        if again:
            note_guard(sheet.vm, request.user.get_username(), str(reason))
    return task


def shown(
    request: HttpRequest, sheet: OptionSheet, *, lenient: bool = False, said: str = "", status: int = 200
) -> HttpResponse:
    """The dialog: its inside for a look at what a choice means, in place for htmx, else a page."""
    vm, form = sheet.vm, sheet.form(lenient=lenient)
    context = {
        "vm": vm, "tab": "options", "sheet": sheet, "form": form, "said": said, "ok": "Save",
        "url": reverse("vms:option_edit", args=[vm.vmid, sheet.row]), "blocks": sheet.blocks(form),
        "title": f"Edit: {words.label_of(sheet.row)}", "digest": state_digest(vm), "advice": sheet.advice(),
        "waits": sheet.waits(), "lines": sheet.lines(), "note": note_of(sheet), "entries": entries(sheet),
        "reason": Gate(request.user, vm).reason(sheet.row, sheet.before.get(sheet.row), None),
    }  # fmt: skip
    inside = request.GET.get("part") == "fields" or (wants_fragment(request) and status >= 400)
    name = "fields" if inside else "dialog" if wants_fragment(request) else "alone"
    return render(request, f"vms/options/{name}.html", context, status=status)


def note_of(sheet: OptionSheet) -> str:
    """A sentence that stands on top of the dialog."""
    return said_of(sheet.vm) if sheet.row == "protection" and protected(sheet.vm) else ""


def entries(sheet: OptionSheet) -> list[dict[str, Any]]:
    """The devices of the boot order, each in words."""
    boot = sheet.boot
    if boot is None:
        return []
    places = {key: place for place, key in enumerate(ordered(boot.entries), 1)}
    return [
        {
            "key": entry.key, "on": entry.on, "place": places.get(entry.key, ""),
            "words": device_words(entry.key, sheet.before[entry.key]),
        }
        for entry in boot.entries
    ]  # fmt: skip


def device_words(key: str, text: str) -> str:
    """A device of the boot order: what kind it is and what is in it."""
    if is_disc(text):
        held = text.partition(",")[0]
        return "CD/DVD drive, empty" if held in ("none", "cdrom") else f"CD/DVD drive, {held}"
    return words.words(key, text)


@signed_in
@require_POST
def option_revert(request: HttpRequest, vmid: int, key: str) -> HttpResponse:
    """Drop what waits for the next start on a key."""
    vm = full_vm(request, vmid)
    if key not in words.OPTION_KEYS or key not in Waiting.of(vm).changes:
        return refused(request, vm, "Nothing waits there any more.", 409, tab="options")
    try:
        task = configure.change(vm, request.user, revert=[key])
    except VMError as error:
        code = 403 if isinstance(error, AccessError) else 409
        return refused(request, vm, sentence(error), code, tab="options")
    return done(request, vm, f"{words.label_of(key)}: reverted.", task, tab="options")
