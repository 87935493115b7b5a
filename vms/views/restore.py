"""Restoring a backup, and looking at the configuration it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from vms import access
from vms.backup.manifest import Manifest
from vms.errors import AccessError, ConfigError, ConfigErrors, VMError
from vms.models import VM, Node, Storage, Task, Volume
from vms.operations.archivehead import head_of, shown
from vms.operations.drafts import next_vmid
from vms.operations.protection import SWITCH_OFF, protected, said_of
from vms.operations.restore import restore
from vms.views.backupnow import Place
from vms.views.backups import backup_or_404, home_of, rows_of, where
from vms.views.clone import number
from vms.views.doors import sentence, signed_in, this_node, wants_fragment
from vms.views.refusals import backup_refusal

FIELDS = ("how", "newid", "storage", "unique", "start", "confirm")


@dataclass(frozen=True)
class Part:
    """A disk of the backup: its size, the storage it was on, and what is to be said of that."""

    slot: str
    size: int
    home: str
    note: str


@signed_in
@require_GET
def backup_config(request: HttpRequest, pk: int) -> HttpResponse:
    """The configuration as it stands in the archive, secrets as asterisks."""
    volume = backup_or_404(request, pk)
    text = said = ""
    try:
        text = shown(head_of(volume, this_node())[1])
    except VMError as error:
        said = sentence(error)
    context = {
        "row": rows_of(request.user, [volume])[0], "text": text, "said": said,
        "back": home_of(request, volume),
    }  # fmt: skip
    name = "config_dialog" if wants_fragment(request) else "config"
    return render(request, f"vms/backups/{name}.html", context)


@signed_in
@require_http_methods(["GET", "POST"])
def backup_restore(request: HttpRequest, pk: int) -> HttpResponse:
    """What will happen, disk by disk; POST asks for it and goes where it can be watched."""
    volume = backup_or_404(request, pk)
    there = VM.objects.filter(vmid=volume.vmid or 0).select_related("node", "pool").first()
    if request.method == "GET":
        return asked(request, volume, there, {"how": "new", "start": ""})
    values = {name: request.POST.get(name, "").strip()[:300] for name in FIELDS}
    try:
        task = begin(request, volume, there, values)
    except VMError as error:
        status = 403 if isinstance(error, AccessError) else 422
        return asked(request, volume, there, values, errors_of(error), status)
    address = reverse("vms:task", args=[task.pk])
    if wants_fragment(request):
        return HttpResponse(status=204, headers={"HX-Redirect": address})
    return redirect(address)


def begin(request: HttpRequest, volume: Volume, there: VM | None, values: Mapping[str, str]) -> Task:
    """The task. In place only when the VM's number was typed. Raises :class:`VMError`."""
    params = {name: values[name] for name in ("storage", "unique", "start") if values[name]}
    if values["how"] == "place":
        if there is None:
            raise ConfigError("how", f"There is no VM {volume.vmid} to restore in place.")
        if values["confirm"] != str(there.vmid):
            raise ConfigError("confirm", f"Nothing was restored: type {there.vmid} to confirm.")
        vmid, params = there.vmid, params | {"force": "1"}
    else:
        vmid = number(values["newid"]) or free(volume)
    return restore(volume.volid, request.user, node=where(volume), vmid=vmid, params=params)


def errors_of(error: VMError) -> dict[str, str]:
    """Field → what is wrong with it; the empty field is all of it."""
    found: dict[str, str] = {}
    for single in error.errors if isinstance(error, ConfigErrors) else (error,):
        key = single.key if isinstance(single, ConfigError) else ""
        key = {"vmid": "newid"}.get(key, key)
        text = single.text if key in FIELDS else sentence(single)
        found.setdefault(key if key in FIELDS else "", text[:1].upper() + text[1:])
    return found


def asked(
    request: HttpRequest, volume: Volume, there: VM | None, values: Mapping[str, str],
    errors: Mapping[str, str] | None = None, status: int = 200,
) -> HttpResponse:  # fmt: skip
    """The form: a dialog for htmx, its errors alone after a dialog's POST, a page otherwise."""
    if errors and wants_fragment(request):
        return render(request, "vms/backups/restore_errors.html", {"errors": errors}, status=status)
    row = rows_of(request.user, [volume])[0]
    context: dict[str, Any] = {
        "row": row, "volume": volume, "back": home_of(request, volume), "errors": errors or {},
        "values": {**values, "newid": values.get("newid") or free(volume)},
        "places": places(request.user, where(volume)), "no_place": place_refusal(request.user, there),
        "reason": row.reason or new_refusal(request.user),
    }  # fmt: skip
    if row.vm is not None:
        context["shots"] = list(row.vm.snapshots.order_by("pk").values_list("name", flat=True))
    try:
        manifest, _ = head_of(volume, this_node())
        context |= {"manifest": manifest, "parts": parts(manifest)}
        if row.vm is not None:
            context["now"] = standing(row.vm, manifest)
    except VMError as error:
        context["unread"] = sentence(error)
        if volume.node is None or volume.node == this_node():
            context["reason"] = context["reason"] or "The backup cannot be read."
    name = "restore_dialog" if wants_fragment(request) else "restore"
    return render(request, f"vms/backups/{name}.html", context, status=status)


def free(volume: Volume) -> int:
    """The number to propose: the backup's own when no VM has it, the trash included."""
    own = volume.vmid or 0
    return next_vmid() if not own or VM.everything.filter(vmid=own).exists() else own


def places(user: Any, node: Node) -> list[Place]:
    """The storages the disks may go to, with their room."""
    rows = Storage.objects.filter(enabled=True).prefetch_related("statuses")
    found = []
    for row in rows:
        if "images" in row.content and access.may(user, "Datastore.AllocateSpace", f"/storage/{row.name}"):
            status = next((one for one in row.statuses.all() if one.node_id == node.pk), None)
            found.append(Place(row.name, status.available if status and not status.error else None))
    return found


def new_refusal(user: Any) -> str:
    """Why the user cannot restore at all: neither make a VM nor replace one."""
    able = access.may_somewhere(user, "VM.Allocate") or access.may_somewhere(user, "VM.Backup")
    return "" if able else "You may not: neither VM.Allocate nor VM.Backup is yours."


def place_refusal(user: Any, there: VM | None) -> str:
    """Why the VM that has the backup's number cannot be replaced now; ``-`` when there is none to see."""
    if there is None or not access.may_vm(user, "VM.Audit", there):
        return "-"
    if there.running:
        return "The VM runs. Stop it first."
    if protected(there):
        return f"{said_of(there)} {SWITCH_OFF}"
    return backup_refusal(user, there)


def parts(manifest: Manifest) -> list[Part]:
    """The disks in the backup; a storage that is not here is named, since another has to be chosen then."""
    named = set(Storage.objects.filter(enabled=True).values_list("name", flat=True))
    found = []
    for disk in manifest.disks:
        home = disk.volid.partition(":")[0]
        note = "" if home in named else f"storage {home} is not here: choose another"
        found.append(Part(disk.key, disk.size, home, note))
    return found


def standing(vm: VM, manifest: Manifest) -> list[tuple[str, str, str]]:
    """The drives the VM has now, each with its volume and what becomes of it when it is replaced in place."""
    archived = {disk.key for disk in manifest.disks}
    rows = vm.disks.select_related("volume__storage").order_by("slot")
    own = [(disk.slot, disk.volume) for disk in rows if disk.volume and disk.volume.vmid == vm.vmid]
    return [
        (slot, volume.volid, "is replaced and deleted" if slot in archived else "stays, as an unused disk")
        for slot, volume in own
    ]
