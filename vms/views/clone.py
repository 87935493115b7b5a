"""Clone: what is asked before it, and how far it is afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from vms import access
from vms.config.cloning import copy_name
from vms.errors import AccessError, ConfigError, ConfigErrors, VMError
from vms.models import VM, Disk, Pool, Snapshot, Storage, StorageStatus, Task, Volume
from vms.models.configuration import with_parts
from vms.models.promised import promised
from vms.operations.clone import clone
from vms.operations.drafts import next_vmid
from vms.operations.template import bases_of
from vms.operations.warmstate import cold_reasons
from vms.templatetags.ui import size
from vms.views.doors import sentence, signed_in, task_or_404, vm_or_404, wants_fragment
from vms.views.power import clone_refusal

FIELDS = ("mode", "newid", "name", "pool", "snapname", "storage", "format", "start")


@dataclass(frozen=True)
class Mode:
    """A way to clone: what it is, what it costs, and why it cannot be chosen now."""

    value: str
    label: str
    words: str
    cost: str
    reason: str = ""


@dataclass(frozen=True)
class Place:
    """A storage as the table shows it.

    ``status`` is what its node last said of it, ``promised`` the bytes its disks may grow to.
    """

    storage: Storage
    status: StorageStatus | None
    promised: int


@signed_in
@require_http_methods(["GET", "POST"])
def vm_clone(request: HttpRequest, vmid: int) -> HttpResponse:
    """The questions, as a dialog or a page; POST asks for the clone and goes where it can be watched."""
    vm = vm_or_404(request, vmid)
    if request.method == "GET":
        return asked(request, vm, {name: request.GET.get(name, "") for name in FIELDS})
    values = {name: request.POST.get(name, "").strip()[:300] for name in FIELDS}
    try:
        task = clone(vm, request.user, newid=number(values["newid"]), params=params_of(values))
    except VMError as error:
        status = 403 if isinstance(error, AccessError) else 422
        return asked(request, vm, values, errors_of(error), status)
    address = reverse("vms:cloning", args=[task.pk])
    if wants_fragment(request):
        return HttpResponse(status=204, headers={"HX-Redirect": address})
    return redirect(address)


def number(text: str) -> int | None:
    """A VM ID somebody typed; None leaves it to us. Raises :class:`ConfigError`."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ConfigError("newid", f"'{text[:20]}' is no VM ID")
    return int(text)


def params_of(values: Mapping[str, str]) -> dict[str, str]:
    """The operation's parameters. What belongs to the other mode is left out, whatever the form sent."""
    params = {name: values[name] for name in ("name", "pool", "start")}
    if values["mode"] == "full":
        return params | {"full": "1"} | {name: values[name] for name in ("snapname", "storage", "format")}
    if values["mode"] == "warm":
        return params | {"full": "0", "warm": "1"}
    return params | {"full": "0"}


def errors_of(error: VMError) -> dict[str, str]:
    """Field → what is wrong with it; the empty field is all of it."""
    found: dict[str, str] = {}
    for single in error.errors if isinstance(error, ConfigErrors) else (error,):
        key = single.key if isinstance(single, ConfigError) else ""
        name = {"vmid": "newid"}.get(key, key)
        known = name in FIELDS
        text = sentence(single) if not known or not isinstance(single, ConfigError) else single.text
        found.setdefault(name if known else "", text[:1].upper() + text[1:])
    return found


def asked(
    request: HttpRequest, vm: VM, values: Mapping[str, str], errors: Mapping[str, str] | None = None,
    status: int = 200,
) -> HttpResponse:  # fmt: skip
    """The form: a dialog for htmx, its errors alone after a dialog's POST, a page otherwise."""
    if errors and wants_fragment(request):
        return render(request, "vms/_clone_errors.html", {"errors": errors}, status=status)
    full = with_parts(VM.objects.filter(pk=vm.pk)).get()
    ways = modes(full)
    chosen = values.get("mode") or next((way.value for way in ways if not way.reason), "full")
    context = {
        "vm": vm, "tab": "summary", "modes": ways, "errors": errors or {},
        "reason": clone_refusal(request.user, vm), "held": held_still(full),
        "values": {**values, "mode": chosen, "newid": values.get("newid") or next_vmid()},
        "proposed": copy_name(vm.name, vm.vmid), "snapshots": snapshots(vm),
        "places": places(request.user, vm), "pools": pools(request.user),
    }  # fmt: skip
    page = "vms/_clone_dialog.html" if wants_fragment(request) else "vms/vm_clone.html"
    return render(request, page, context, status=status)


def snapshots(vm: VM) -> list[Snapshot]:
    """The moments it can be cloned from, newest first."""
    return [] if vm.template else list(Snapshot.objects.filter(vm=vm, state="").order_by("-pk"))


def modes(vm: VM) -> list[Mode]:
    """The ways to clone this VM, the one to prefer first."""
    own = [
        disk.volume for disk in vm.disks.all() if disk.volume and disk.volume.content == Volume.Content.IMAGES
    ]
    total = sum(volume.size for volume in own)
    why_not = "" if vm.template else "Only a template has linked clones. Convert the VM to a template first."
    if vm.template and not bases_of(vm) and own:
        why_not = "None of its disks is a base."
    linked = Mode(
        "linked", "Linked clone", "Lies on the template's disks and stores only what it changes. "
        "The template stays as long as the clone does.",
        f"Ready in a moment, {0.2 * max(len(own), 1):.1f} MiB to begin with.", why_not,
    )  # fmt: skip
    full = Mode(
        "full", "Full clone", "Copies every disk. Stands alone, on any storage and in any format.",
        f"Takes as long as the copy does, up to {size(total)}.",
    )  # fmt: skip
    if vm.template and vm.vmstate_id:
        reasons = "; ".join(cold_reasons(vm))
        warm = Mode(
            "warm", "Warm clone", "Linked, and it does not boot: it goes on from the template's saved "
            "memory, with a name, addresses and keys of its own.",
            "Runs in under a second.", f"The saved memory no longer fits: {reasons}." if reasons else "",
        )  # fmt: skip
        return [warm, linked, full]
    return [linked, full] if vm.template else [full, linked]


def held_still(vm: VM) -> str:
    """What cloning does to a guest that runs."""
    if not vm.running or vm.template:
        return ""
    return (
        "The VM runs. Its disks are mirrored meanwhile; at the end its agent freezes the file systems for a "
        "moment, or, without one, the guest stands still."
    )


def places(user: Any, vm: VM) -> list[Place]:
    """The storages a full clone may go to, with their room."""
    statuses = {row.storage_id: row for row in StorageStatus.objects.filter(node=vm.node)}
    sums = promised(vm.node)
    return [
        Place(row, statuses.get(row.pk), sums.get(row.pk, 0))
        for row in Storage.objects.filter(enabled=True)
        if "images" in row.content and access.may(user, "Datastore.AllocateSpace", f"/storage/{row.name}")
    ]


def pools(user: Any) -> list[Pool]:
    """The pools a clone may be put into."""
    return [pool for pool in Pool.objects.all() if access.may(user, "VM.Allocate", f"/pool/{pool.name}")]


@signed_in
@require_GET
def cloning(request: HttpRequest, pk: int) -> HttpResponse:
    """How far a clone is; once it is there, its own page."""
    task = task_or_404(request, pk)
    if task.type != "qmclone":
        return go(request, reverse("vms:task", args=[task.pk]))
    done = VM.objects.filter(pk=task.vm_id).first() if task.vm_id else None
    there = task.status in (Task.Status.OK, Task.Status.WARNINGS)
    if done is not None and (there or done.running):  # a warm one may still be at its settings
        return go(request, landing(done))
    again = reverse("vms:vm_clone", args=[source]) if (source := task.params.get("clone-of")) else ""
    context = {
        "task": task,
        "lines": task.lines.all(),
        "url": request.path,
        "again": again,
        "values": task.params,
    }
    part = "vms/_cloning.html" if wants_fragment(request) else "vms/cloning.html"
    return render(request, part, context)


def landing(vm: VM) -> str:
    """Where somebody who made this clone goes on: its cloud-init settings, while it has not read them yet."""
    seeds = Disk.objects.filter(vm=vm, media="cdrom", volume__name__contains=f"vm-{vm.vmid}-cloudinit")
    fresh = not vm.running and seeds.exists()
    return reverse("vms:vm_cloudinit" if fresh else "vms:vm_summary", args=[vm.vmid])


def go(request: HttpRequest, address: str) -> HttpResponse:
    """Send the browser there, also when htmx asked."""
    if wants_fragment(request):
        return HttpResponse(status=204, headers={"HX-Redirect": address})
    return redirect(address)
