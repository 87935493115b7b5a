"""*Backup now*: where to, how, and what of the VM goes in; POST asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from vms import access
from vms.errors import AccessError, ConfigError, ConfigErrors, VMError
from vms.models import VM, Node
from vms.models.configuration import config_of
from vms.operations import backupplan
from vms.operations.archives import backup_stores
from vms.operations.base import submit
from vms.views.asking import done, full_vm, refused
from vms.views.doors import sentence, signed_in, wants_fragment
from vms.views.refusals import backup_refusal

MODES = (
    ("snapshot", "Snapshot", "The guest goes on; its agent holds its writes for a moment, when it has one."),
    ("suspend", "Suspend", "The guest stands still while the copy begins, and goes on."),
    ("stop", "Stop", "The guest is shut down, started again, and copied from there: the surest copy."),
)
"""PVE's modes, each with what it means for a running guest."""
FIELDS = ("storage", "mode", "compress", "notes-template", "protected")
START = {"mode": "snapshot", "compress": "zstd", "notes-template": "{{guestname}}"}


@dataclass(frozen=True)
class Place:
    """A storage to choose. ``free`` in bytes, ``None`` where nobody has looked; ``reason`` why not it."""

    name: str
    free: int | None
    reason: str = ""


@dataclass(frozen=True)
class Part:
    """A drive and whether it goes into a backup; ``reason`` when it does not."""

    slot: str
    size: int | None
    reason: str = ""


def places(user: Any, node: Node) -> list[Place]:
    """Where ``user`` could put backups made on ``node``; those that cannot be used now come last."""
    found = []
    for storage in backup_stores(node):
        rights = access.privileges(user, f"/storage/{storage.name}")
        if not rights & {"Datastore.AllocateSpace", "Datastore.Audit"}:
            continue
        status = next((one for one in storage.statuses.all() if one.node_id == node.pk), None)
        reason = status.error if status is not None else ""
        if "Datastore.AllocateSpace" not in rights:
            reason = "Datastore.AllocateSpace is missing"
        found.append(Place(storage.name, status.available if status else None, reason))
    return sorted(found, key=lambda place: bool(place.reason))


def parts(vm: VM, config: Mapping[str, str]) -> list[Part]:
    """Every drive of the VM, and whether it goes in."""
    _, left_out = backupplan.chosen(config)
    sizes = {disk.slot: disk.size for disk in vm.disks.all()}
    found = []
    for slot in sorted(sizes):
        why = "not plugged in" if slot.startswith("unused") else left_out.get(slot, "")
        found.append(Part(slot, sizes[slot], "its option Backup is off" if why == "backup=0" else why))
    return found


@signed_in
@require_http_methods(["GET", "POST"])
def backup_now(request: HttpRequest, vmid: int) -> HttpResponse:
    """The dialog, or a page; POST asks for the backup."""
    vm = full_vm(request, vmid)
    if request.method == "GET":
        return asked(request, vm, START)
    values = {name: request.POST.get(name, "").strip() for name in FIELDS}
    try:
        # What is made by hand removes nothing, whatever rules the storage has.
        params = {name: text for name, text in values.items() if text} | {"remove": "0"}
        task = submit("vzdump", vm=vm, user=request.user, params=params)
    except VMError as error:
        status = 403 if isinstance(error, AccessError) else 422
        if wants_fragment(request):
            return refused(request, vm, sentence(error), status, tab="backup")
        return asked(request, vm, values, error, status)
    return done(request, vm, f"{task.label}: requested.", task, tab="backup")


def asked(
    request: HttpRequest, vm: VM, values: Mapping[str, str], error: VMError | None = None, status: int = 200
) -> HttpResponse:
    """The questions before a backup, with what was typed; errors stand at their field."""
    reason = backup_refusal(request.user, vm)
    chosen = places(request.user, vm.node)
    if not reason and not any(not place.reason for place in chosen):
        reason = "There is no storage for backups that you may use."
    said = by_field(error)
    context = {
        "vm": vm, "tab": "backup", "values": values, "reason": reason, "places": chosen, "modes": MODES,
        "parts": parts(vm, config_of(vm)), "errors": said, "error": said.get("", ""),
        "notes": values.get("notes-template", ""),
    }  # fmt: skip
    name = "now_dialog" if wants_fragment(request) else "now"
    return render(request, f"vms/backups/{name}.html", context, status=status)


def by_field(error: VMError | None) -> dict[str, str]:
    """What is wrong by field; what belongs to no field of the form under ""."""
    if error is None:
        return {}
    found: dict[str, str] = {}
    for one in error.errors if isinstance(error, ConfigErrors) else [error]:
        key = one.key if isinstance(one, ConfigError) and one.key in FIELDS else ""
        text = one.text[:1].upper() + one.text[1:] + "." if key else sentence(one)
        found[key.replace("-", "_")] = text
    return found
