"""A VM's Cloud-Init page: its settings, each with a dialog of its own, its image, and what would be in it."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from vms.config import seeds
from vms.config.vmconfig import VMConfig
from vms.errors import AccessError, ConfigError, VMError
from vms.forms.cloudinit import CUSTOM_LABELS, Sheet
from vms.forms.offers import Offers, texts_for
from vms.models import VM, Task
from vms.models.configuration import config_of, state_digest, with_parts
from vms.operations import cloudinit, configure, snippets
from vms.operations.base import submit
from vms.views import cloudrows
from vms.views.doors import sentence, signed_in, vm_or_404, wants_fragment


def full_vm(request: HttpRequest, vmid: int) -> VM:
    """A VM the user may see, with its drives and cards."""
    found: VM = with_parts(VM.objects.filter(pk=vm_or_404(request, vmid).pk)).get()
    return found


@signed_in
@require_GET
def vm_cloudinit(request: HttpRequest, vmid: int) -> HttpResponse:
    """Settings and image; ``?part=rows`` answers the live part alone."""
    vm = full_vm(request, vmid)
    mapping = config_of(vm)
    places = Offers(vm.node, request.user).disk_places
    context = {
        "vm": vm, "tab": "cloudinit", "page": cloudrows.page_of(vm, mapping), "places": places,
        "reason": cloudrows.reason(request.user, vm), "roles": CUSTOM_LABELS.items(),
        "write_reason": cloudrows.regenerate_reason(request.user, vm),
        "add_reason": cloudrows.add_reason(request.user, vm, places),
        "settings": any(key in mapping for key in (*seeds.KEYS, *(f"ipconfig{n}" for n in range(32)))),
    }  # fmt: skip
    part = request.GET.get("part") == "rows"
    return render(request, "vms/_vm_cloudinit.html" if part else "vms/vm_cloudinit.html", context)


# ---- one row


@signed_in
@require_http_methods(["GET", "POST"])
def cloudinit_edit(request: HttpRequest, vmid: int, row: str) -> HttpResponse:
    """A row's dialog in place, a page without JavaScript; POST asks for the change."""
    vm = full_vm(request, vmid)
    try:
        sheet = Sheet(row, config_of(vm), texts_for(request.user, vm.node))
    except KeyError:
        raise Http404("There is no such setting.") from None
    if request.method == "GET":
        return dialog(request, vm, sheet)
    sheet.fill(request.POST)
    try:
        changes = sheet.changes()
        if not changes:
            return done(request, vm, "Nothing was changed.")
        task = configure.change(
            vm, request.user, set={key: text for key, text in changes.items() if text is not None},
            delete=[key for key, text in changes.items() if text is None],
            digest=request.POST.get("digest", ""),
        )  # fmt: skip
    except ConfigError as error:
        return dialog(request, vm, sheet, sheet.blame(error), 422)
    except VMError as error:
        return dialog(request, vm, sheet, sentence(error), 403 if isinstance(error, AccessError) else 409)
    return done(
        request, vm, f"{sheet.label} changed." if task.finished else f"{sheet.label}: requested.", task
    )


def dialog(request: HttpRequest, vm: VM, sheet: Sheet, said: str = "", status: int = 200) -> HttpResponse:
    """The dialog, its fields alone when something was wrong, or the page that does without."""
    form = sheet.form()
    key = sheet.keys[0].rstrip("0123456789")
    context = {
        "vm": vm, "tab": "cloudinit", "sheet": sheet, "form": form, "said": said, "digest": state_digest(vm),
        "fields": form.group(sheet.values), "reason": cloudrows.reason(request.user, vm, key),
    }  # fmt: skip
    name = "vms/cloudinit_edit.html"
    if wants_fragment(request):
        name = "vms/_cloudinit_fields.html" if status >= 400 else "vms/_cloudinit_dialog.html"
    return render(request, name, context, status=status)


# ---- the image


@signed_in
@require_POST
def cloudinit_add(request: HttpRequest, vmid: int) -> HttpResponse:
    """Add the drive where the guest's kernel sees it (form field ``storage``)."""
    vm = full_vm(request, vmid)
    mapping = config_of(vm)
    try:
        if seeds.drive_of(VMConfig.parse(mapping)):
            return done(request, vm, "The VM has a cloud-init drive already.", status=409)
        slot = seeds.seed_slot(dict.fromkeys(vm.pending, "") | mapping)
        storage = request.POST.get("storage", "")[:63]
        task = configure.change(vm, request.user, set={slot: f"{storage}:cloudinit,media=cdrom"})
    except VMError as error:
        return done(request, vm, sentence(error), status=403 if isinstance(error, AccessError) else 409)
    return done(request, vm, f"Cloud-init drive ({slot}) requested.", task)


@signed_in
@require_POST
def cloudinit_regenerate(request: HttpRequest, vmid: int) -> HttpResponse:
    """Write the image now."""
    vm = vm_or_404(request, vmid)
    try:
        task = submit("qmcloudinit", vm=vm, user=request.user)
    except VMError as error:
        return done(request, vm, sentence(error), status=403 if isinstance(error, AccessError) else 409)
    return done(request, vm, "Regeneration requested.", task)


@signed_in
@require_GET
def cloudinit_dump(request: HttpRequest, vmid: int, role: str) -> HttpResponse:
    """What the image would hold if it were written now. The password is never shown, and a text of somebody's
    own only to who may read it."""
    vm = full_vm(request, vmid)
    mapping = config_of(vm)
    if role not in seeds.ROLES or not seeds.drive_of(VMConfig.parse(mapping)):
        raise Http404("There is no such document.")
    text, said = "", ""
    try:
        snippets.authorise(request.user, mapping)
        text = cloudinit.document(vm, mapping, role)
    except AccessError as error:
        said = f"It holds a text you may not read. {sentence(error)}"
    except VMError as error:
        said = sentence(error)
    context = {
        "vm": vm, "tab": "cloudinit", "text": text, "said": said, "role": role, "title": CUSTOM_LABELS[role],
        "tabs": [
            {"slug": slug, "label": label, "href": reverse("vms:cloudinit_dump", args=[vm.vmid, slug])}
            for slug, label in CUSTOM_LABELS.items()
        ],
        "kind": seeds.kind_of(VMConfig.parse(mapping)),
    }  # fmt: skip
    return render(request, "vms/cloudinit_dump.html", context)


def done(
    request: HttpRequest, vm: VM, text: str, task: Task | None = None, status: int = 200
) -> HttpResponse:
    """What came of it: an echo in place for htmx, a message on the page otherwise."""
    if wants_fragment(request):
        context = {"text": text, "tone": "error" if status >= 400 else "busy"}
        if task is not None:
            context |= {"href": reverse("vms:task", args=[task.pk]), "action": task.label}
        return render(request, "components/toast.html", context, status=status)
    messages.add_message(request, messages.ERROR if status >= 400 else messages.INFO, text)
    return redirect("vms:vm_cloudinit", vmid=vm.vmid)
