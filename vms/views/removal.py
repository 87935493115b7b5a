"""Taking something out of a machine, dropping what waits, taking a rule's advice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_POST

from vms.config.rules import findings
from vms.config.upkeep import boot_devices, is_unused
from vms.config.vmconfig import VMConfig
from vms.errors import AccessError, VMError
from vms.forms.dialogs import GROUPS, is_seed
from vms.forms.sheet import name_of, waits_of
from vms.models import VM, Disk
from vms.models.configuration import state_digest
from vms.models.usage import facts_in_use
from vms.models.waiting import Waiting
from vms.operations import configure
from vms.views.asking import asked_for, full_vm, refused, remember
from vms.views.devices import ROW_KEYS, Gate, is_disc, keeps_volume, kind_of, label_of
from vms.views.doors import sentence, signed_in, wants_fragment

LOSSES = {
    "efidisk0": "The firmware keeps its boot entries and Secure Boot keys on it; without it every start "
    "forgets them.",
    "tpmstate0": "The guest's keys are on it: an encrypted system opens only with its recovery key then.",
    "net": "Its MAC address is given up; a card added later gets another one.",
    "usb": "The device goes back to the node.",
    "hostpci": "The device goes back to the node.",
    "serial": "A text console on this port is gone.",
}


@signed_in
@require_http_methods(["GET", "POST"])
def hardware_remove(request: HttpRequest, vmid: int, row: str) -> HttpResponse:
    """Detach a disk, remove a device, delete a detached volume: first what happens, then do it."""
    vm = full_vm(request, vmid)
    waiting = Waiting.of(vm)
    text = waiting.changes.get(row) or waiting.config.get(row)
    if row in GROUPS or text is None:
        raise Http404("There is no such device.")
    if request.method == "POST":
        return asked(request, vm, f"{verb_of(row, text)}: {label_of(row, text)}", delete=[row])
    context = {
        "vm": vm, "tab": "hardware", "row": row, "label": label_of(row, text), "verb": verb_of(row, text),
        "volume": text.partition(",")[0] if ":" in text.partition(",")[0] else "", "size": size_of(vm, row),
        "words": words_of(row, text, waiting.effective), "waits": waits_of(vm, waiting, {row: None}),
        "danger": is_unused(row), "digest": state_digest(vm),
        "reason": Gate(request.user, vm).reason(row, text, None),
    }  # fmt: skip
    name = "_remove_dialog" if wants_fragment(request) else "remove"
    return render(request, f"vms/{name}.html", context)


def verb_of(row: str, text: str) -> str:
    """Detach what stays with the machine, remove the rest."""
    return "Detach" if keeps_volume(row, text) else "Remove"


def size_of(vm: VM, row: str) -> int | None:
    """Bytes of the volume in ``row``."""
    disk: Disk | None = next((disk for disk in vm.disks.all() if disk.slot == row), None)
    return disk.size if disk is not None else None


def words_of(row: str, text: str, mapping: Mapping[str, str]) -> list[str]:
    """What happens, in sentences."""
    found = []
    if is_unused(row):
        found.append("The volume and everything on it are removed for good. This cannot be undone.")
    elif keeps_volume(row, text):
        found.append("The volume stays with the machine as an unused disk and can be plugged in again.")
    elif is_seed(row, text):
        found.append("The settings stay; a drive with them can be added again.")
    elif is_disc(text):
        found.append("The image in it stays on its storage.")
    found += [LOSSES[name] for name in (row, kind_of(row)) if name in LOSSES][:1]
    if row in (boot_devices(mapping) or ()):
        found.append("It is in the boot order and leaves it.")
    return found


@signed_in
@require_POST
def hardware_revert(request: HttpRequest, vmid: int, row: str) -> HttpResponse:
    """Drop what waits for the next start in a row; in all of them for ``all``."""
    vm = full_vm(request, vmid)
    changes = Waiting.of(vm).changes
    keys = [key for key in changes if row == "all" or key in ROW_KEYS.get(row, (row,))]
    tab = "options" if request.POST.get("tab") == "options" else "hardware"
    if not keys:
        return refused(request, vm, "Nothing waits there any more.", 409, tab=tab)
    return asked(request, vm, f"Revert: {', '.join(keys)}", tab=tab, revert=keys)


@signed_in
@require_POST
def hardware_fix(request: HttpRequest, vmid: int) -> HttpResponse:
    """Make the change a finding offers."""
    vm = full_vm(request, vmid)
    rule, mapping = request.POST.get("rule", ""), Waiting.of(vm).effective
    found = findings(VMConfig.parse(mapping), facts_in_use(vm.node, vm))
    fix = next((item.fix for item in found if name_of(item) == rule and item.fix), None)
    if fix is None:
        return refused(request, vm, "That was settled already.", 409)
    texts = {key: text for key, text in fix.items() if text is not None}
    gone = [key for key, text in fix.items() if text is None and key in mapping]
    return asked(request, vm, "Fix", set=texts, delete=gone)


def asked(request: HttpRequest, vm: VM, words: str, *, tab: str = "hardware", **wish: Any) -> HttpResponse:
    """Ask for a change of the configuration; answer with the task or the sentence why not."""
    before = Waiting.of(vm).effective
    try:
        task = configure.change(vm, request.user, digest=request.POST.get("digest", ""), **wish)
    except VMError as error:
        code = 403 if isinstance(error, AccessError) else 409
        return refused(request, vm, sentence(error), code, tab=tab)
    remember(request, vm, before)
    return asked_for(request, vm, words, task, tab=tab)
