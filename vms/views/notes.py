"""Notes: a text in Markdown, written beside its preview."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from vms.errors import AccessError, ConfigError, VMError
from vms.forms.fields import sentence as field_sentence
from vms.models.configuration import config_of, state_digest
from vms.operations import configure
from vms.views.asking import done, full_vm
from vms.views.devices import Gate
from vms.views.doors import sentence, signed_in

LIMIT = 8192
"""Characters of a note, as in PVE."""


@signed_in
@require_http_methods(["GET", "POST"])
def vm_notes(request: HttpRequest, vmid: int) -> HttpResponse:
    """The notes to be edited. A POST with ``preview`` only shows them (``part=preview``: that alone)."""
    vm = full_vm(request, vmid)
    before = config_of(vm).get("description", "")
    text = str(request.POST.get("notes", before)).replace("\r\n", "\n").rstrip()
    context = {
        "vm": vm, "tab": "options", "text": text[: 2 * LIMIT], "limit": LIMIT, "digest": state_digest(vm),
        "reason": Gate(request.user, vm).reason("description", before or None, None), "error": "", "said": "",
    }  # fmt: skip
    if "preview" in request.POST:
        part = request.POST.get("part") == "preview"
        return render(request, f"vms/notes/{'preview' if part else 'page'}.html", context)
    if request.method == "GET":
        return render(request, "vms/notes/page.html", context)
    if text == before:
        return done(request, vm, "Nothing was changed.", tab="summary")
    wish = {"set": {"description": text}} if text else {"delete": ["description"]}
    try:
        task = configure.change(vm, request.user, digest=request.POST.get("digest", ""), **wish)
    except ConfigError as error:
        context["error"] = field_sentence(error)
        return render(request, "vms/notes/page.html", context, status=422)
    except VMError as error:
        context["said"] = sentence(error)
        code = 403 if isinstance(error, AccessError) else 409
        return render(request, "vms/notes/page.html", context, status=code)
    return done(request, vm, "Notes: saved.", task, tab="summary")
