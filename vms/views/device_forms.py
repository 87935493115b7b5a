"""Adding to a machine and editing what it has: each dialog is a page, opened in place with JavaScript.

GET with fields in the address shows the dialog as it would be with them (``?part=fields`` its inside alone),
so an address can carry a device half filled in; only POST asks for anything.
"""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from vms.config.upkeep import is_unused
from vms.errors import AccessError, ConfigError, NotFound, StateError, VMError
from vms.forms import dialogs
from vms.forms.hardware import OptionForm
from vms.forms.panel import Block
from vms.forms.sheet import Sheet
from vms.hardware import is_drive
from vms.models import VM
from vms.models.configuration import state_digest
from vms.operations import configure
from vms.views.asking import asked_for, done, full_vm, refused, remember
from vms.views.devices import ROW_KEYS, Gate, label_of
from vms.views.doors import sentence, signed_in, wants_fragment

COOKIE = "pvelite-advanced"
"""Whether Advanced stands open, as the wizard remembers it."""
MACHINERY = frozenset({"part", "csrfmiddlewaretoken", "digest", "page"})
"""Names in a request that are no field."""


@signed_in
@require_http_methods(["GET", "POST"])
def hardware_add(request: HttpRequest, vmid: int, kind: str) -> HttpResponse:
    """Add a device."""
    if kind not in dialogs.BY_KIND:
        raise Http404("There is no such device.")
    return answer(request, full_vm(request, vmid), kind=kind)


@signed_in
@require_http_methods(["GET", "POST"])
def hardware_edit(request: HttpRequest, vmid: int, row: str) -> HttpResponse:
    """Edit a row; plug a detached disk in again."""
    return answer(request, full_vm(request, vmid), row=row)


def answer(request: HttpRequest, vm: VM, *, kind: str = "", row: str = "") -> HttpResponse:
    """Show a dialog, or ask for what it says."""
    try:
        sheet = Sheet(vm, request.user, kind=kind, row=row)
    except NotFound as error:
        raise Http404(str(error)) from error
    except StateError as error:
        return refused(request, vm, sentence(error), 409)
    if request.method == "POST":
        sheet.fill(request.POST)
        if request.POST.get("go", "").startswith("fix:"):
            return shown(request, sheet)
        return asked(request, sheet)
    if set(request.GET) - MACHINERY:
        sheet.fill(request.GET)
    return shown(request, sheet, lenient=True)


def asked(request: HttpRequest, sheet: Sheet) -> HttpResponse:
    """Ask for the change, or show what stands in its way on the fields it is about."""
    if sheet.form().errors or sheet.blocked():
        return shown(request, sheet, status=422)
    changes = sheet.changes
    if not changes:
        return done(request, sheet.vm, "Nothing was changed.")
    try:
        task = configure.change(
            sheet.vm, request.user, set={key: text for key, text in changes.items() if text is not None},
            delete=[key for key, text in changes.items() if text is None],
            digest=request.POST.get("digest", ""),
        )  # fmt: skip
    except ConfigError as error:
        sheet.blame(error)
        return shown(request, sheet, status=422)
    except VMError as error:
        code = 403 if isinstance(error, AccessError) else 409
        return shown(request, sheet, said=sentence(error), status=code)
    remember(request, sheet.vm, sheet.before)
    return asked_for(request, sheet.vm, title_of(sheet), task)


def shown(
    request: HttpRequest, sheet: Sheet, *, lenient: bool = False, said: str = "", status: int = 200
) -> HttpResponse:
    """The dialog: its inside for a look at what a choice means, in place for htmx, else a page."""
    form = sheet.form(lenient=lenient)
    parts = sheet.blocks(form)
    rare = [part for part in parts if part.advanced or part.folded]
    context = {
        "vm": sheet.vm, "tab": "hardware", "sheet": sheet, "form": form, "url": url_of(sheet), "said": said,
        "title": title_of(sheet), "ok": ok_of(sheet), "blocks": [part for part in parts if part not in rare],
        "advanced": rare, "open": advanced_open(request, form, rare),
        "digest": state_digest(sheet.vm), "advice": sheet.advice(), "waits": sheet.waits(),
        "lines": sheet.lines(), "reason": reason_of(sheet, request.user),
        "volume": volume_of(sheet),
    }  # fmt: skip
    inside = request.GET.get("part") == "fields" or (wants_fragment(request) and status >= 400)
    name = "_device_fields" if inside else "_device_dialog" if wants_fragment(request) else "device"
    return render(request, f"vms/{name}.html", context, status=status)


def advanced_open(request: HttpRequest, form: OptionForm, rare: list[Block]) -> bool:
    """Whether Advanced stands open: as it was left in this browser, and when something in it is wrong."""
    inside = {field.html_name for part in rare for field in part.fields}
    return bool(inside & set(form.errors)) or request.COOKIES.get(COOKIE) == "1"


def title_of(sheet: Sheet) -> str:
    """``Add: Hard disk``, ``Edit: Memory``"""
    if sheet.kind:
        return f"Add: {dialogs.BY_KIND[sheet.kind].label}"
    if is_unused(sheet.row):
        return f"Re-attach: Unused disk ({sheet.row})"
    if sheet.row in dialogs.GROUPS:
        return f"Edit: {dialogs.GROUPS[sheet.row][0]}"
    return f"Edit: {label_of(sheet.row, sheet.before[sheet.row])}"


def ok_of(sheet: Sheet) -> str:
    """The word on the button."""
    return "Add" if sheet.kind else "Re-attach" if is_unused(sheet.row) else "OK"


def volume_of(sheet: Sheet) -> str:
    """The volume a disk dialog is about, which stays as it is."""
    text = sheet.before.get(sheet.row, "")
    return text.partition(",")[0] if ":" in text and (is_drive(sheet.row) or is_unused(sheet.row)) else ""


def url_of(sheet: Sheet) -> str:
    """The dialog's own address."""
    name, what = ("hardware_add", sheet.kind) if sheet.kind else ("hardware_edit", sheet.row)
    return reverse(f"vms:{name}", args=[sheet.vm.vmid, what])


def reason_of(sheet: Sheet, user: Any) -> str:
    """Why the dialog's change cannot be asked for by ``user`` now; "" when it can."""
    gate = Gate(user, sheet.vm)
    if sheet.kind:
        addition = dialogs.BY_KIND[sheet.kind]
        return gate.reason(addition.key, addition.sample, None)
    if sheet.row in dialogs.GROUPS:
        return gate.reason(ROW_KEYS.get(sheet.row, (sheet.row,))[0], None, None)
    return gate.reason(sheet.row, sheet.before[sheet.row], None)
