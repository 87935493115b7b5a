"""The Snapshots page: the tree of what a VM was, and the questions before anything is done with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from vms import access
from vms.config.secrets import masked
from vms.errors import AccessError, ConfigError, VMError
from vms.models import VM, Snapshot, StorageStatus
from vms.models.configuration import config_of
from vms.operations import rollback, saving, snapdisks, snaprows
from vms.operations.base import holder, submit
from vms.operations.snaprows import Entry, tree_of
from vms.views.asking import done, full_vm, refused
from vms.views.doors import sentence, signed_in, vm_or_404, wants_fragment
from vms.views.states import asleep

SPEED = 500 << 20
"""Bytes a second that memory is written with on an ordinary disk: what the pause is guessed from."""
VERBS = {"rollback": "qmrollback", "remove": "qmdelsnapshot", "edit": ""}
"""What can be done with a snapshot → the task; a description is changed at once."""


@dataclass(frozen=True)
class Row:
    """A line of the tree as it is drawn.

    ``twigs`` are the columns left of its dot: ``line``, ``tee``, ``corner`` or nothing. ``up`` and ``down``
    say whether a line goes from the dot to the one above or below in its own column.
    """

    entry: Entry
    twigs: tuple[str, ...]
    up: bool
    down: bool
    rollback: str
    change: str


@signed_in
@require_GET
def vm_snapshots(request: HttpRequest, vmid: int) -> HttpResponse:
    """The tree; ``?part=rows`` answers it alone."""
    vm = vm_or_404(request, vmid)
    rows = rows_of(request.user, vm)
    context = {
        "vm": vm, "tab": "snapshots", "rows": rows, "count": len(rows) - 1,
        "reason": take_refusal(request.user, vm),
    }  # fmt: skip
    part = request.GET.get("part") == "rows"
    return render(request, "vms/snapshots/rows.html" if part else "vms/snapshots/page.html", context)


def rows_of(user: Any, vm: VM) -> list[Row]:
    """The tree, a chain in one column; only where two go on from the same one does a column more begin."""
    entries = tree_of(vm)
    below: dict[str, list[Entry]] = {}
    for entry in entries:
        below.setdefault(entry.parent, []).append(entry)
    why = refusal(user, vm, "VM.Snapshot", "VM.Snapshot.Rollback"), refusal(user, vm, "VM.Snapshot")

    def draw(entry: Entry, twigs: tuple[str, ...], up: bool) -> Iterable[Row]:
        children = below.get(entry.name, []) if entry.snapshot else []
        state = entry.snapshot.state if entry.snapshot else ""
        unfit = f"It is not whole (snapstate = {state})." if state else ""
        yield Row(entry, twigs, up, bool(children), why[0] or unfit, why[1])
        left = tuple({"tee": "line", "corner": ""}.get(twig, twig) for twig in twigs)
        for number, child in enumerate(children, 1):
            if len(children) == 1:
                yield from draw(child, left, True)
            else:
                yield from draw(child, (*left, "corner" if number == len(children) else "tee"), False)

    return [row for root in below.get("", []) for row in draw(root, (), False)]


def refusal(user: Any, vm: VM, *privileges: str) -> str:
    """Why nothing can be done with the VM's snapshots now, in a sentence; empty when it can."""
    held = access.privileges(user, vm.path, pool=vm.pool.name if vm.pool else "")
    if not held.intersection(privileges):
        return f"You may not: {' or '.join(privileges)} on this VM is missing."
    if not vm.node.online:
        return f"Node {vm.node.name} is offline: nothing there can be changed now."
    if asleep(vm):
        return "The VM is hibernated. Resume it first, or discard its saved memory."
    return f"The VM is locked ({vm.lock}) by {holder(vm)}." if vm.lock else ""


def take_refusal(user: Any, vm: VM) -> str:
    """Why no snapshot can be taken now."""
    if vm.template:
        return "A template has no snapshots."
    return refusal(user, vm, "VM.Snapshot")


# ---- taking one


@signed_in
@require_http_methods(["GET", "POST"])
def snapshot_take(request: HttpRequest, vmid: int) -> HttpResponse:
    """What it costs and what it leaves out, as a dialog or a page; POST asks for it."""
    vm = full_vm(request, vmid)
    given = {name: request.POST.get(name, "") for name in ("snapname", "description", "vmstate")}
    if request.method == "POST":
        try:
            params = {name: text.strip() for name, text in given.items() if text.strip()}
            task = submit("qmsnapshot", vm=vm, user=request.user, params=params)
        except VMError as error:
            if wants_fragment(request):
                return refused(request, vm, of_field(error), status_of(error), tab="snapshots")
            return asked(request, vm, given, of_field(error), status_of(error))
        return done(request, vm, f"Snapshot {params['snapname']}: requested.", task, tab="snapshots")
    return asked(request, vm, {"snapname": "", "description": "", "vmstate": "1"})


def of_field(error: VMError) -> str:
    """The sentence, with the field called what it is called on the page."""
    if isinstance(error, ConfigError) and error.key == "snapname":
        error = ConfigError("name", error.text, hint=error.hint)
    return sentence(error)


def status_of(error: VMError) -> int:
    """403 for a missing right, 422 for everything else that was asked in vain."""
    return 403 if isinstance(error, AccessError) else 422


def asked(
    request: HttpRequest, vm: VM, values: Mapping[str, str], error: str = "", status: int = 200
) -> HttpResponse:
    """The questions before a snapshot."""
    context = {
        "vm": vm, "tab": "snapshots", "values": values, "error": error, **cost_of(vm),
        "reason": take_refusal(request.user, vm),
    }  # fmt: skip
    name = "take_dialog" if wants_fragment(request) else "take"
    return render(request, f"vms/snapshots/{name}.html", context, status=status)


def cost_of(vm: VM) -> dict[str, Any]:
    """What a snapshot of the VM takes in and leaves out, and what its memory would cost."""
    config = config_of(vm)
    disks = snapdisks.volumes_in(config)
    drives = {disk.slot for disk in vm.disks.all()}
    agent = config.get("agent", "0").split(",")
    found: dict[str, Any] = {
        "disks": sorted(disks), "stuck": snapdisks.refusals(vm, config),
        "drives_out": sorted(slot for slot in drives - disks.keys() if not slot.startswith("unused")),
        "unused": sorted(slot for slot in drives if slot.startswith("unused")),
        "agent": agent[0].removeprefix("enabled=") in ("1", "on", "yes") and "freeze-fs=0" not in agent,
    }  # fmt: skip
    if vm.running:
        found["memory"] = memory_of(vm, config)
    return found


def memory_of(vm: VM, config: Mapping[str, str]) -> dict[str, Any]:
    """What saving the memory takes: room, where, how long the guest stands still, or why it cannot be."""
    size, reason, storage = saving.room_for(config), "", None
    try:
        saving.check_movable(config)
        storage = saving.choose_storage(vm, config)
        saving.check_room(vm, storage, size)
    except VMError as error:
        reason = sentence(error)
    status = StorageStatus.objects.filter(storage=storage, node=vm.node).first() if storage else None
    return {
        "size": size, "storage": storage, "reason": reason, "seconds": max(1, round(size / SPEED)),
        "free": status.available if status is not None and status.total else None,
    }  # fmt: skip


# ---- with one


@signed_in
@require_http_methods(["GET", "POST"])
def snapshot_ask(request: HttpRequest, vmid: int, name: str, verb: str) -> HttpResponse:
    """Roll back, remove, edit: first what is lost, then do it."""
    vm = full_vm(request, vmid)
    made = Snapshot.objects.filter(vm=vm, name=name).select_related("parent", "vmstate").first()
    if made is None or verb not in VERBS:
        raise Http404("There is no such snapshot.")
    if request.method == "POST":
        return do(request, vm, made, verb)
    privileges = ("VM.Snapshot", "VM.Snapshot.Rollback") if verb == "rollback" else ("VM.Snapshot",)
    reason = refusal(request.user, vm, *privileges)
    if verb == "edit" and access.may_vm(request.user, "VM.Snapshot", vm):
        reason = ""  # words can be changed at any time
    context = {
        "vm": vm, "tab": "snapshots", "made": made, "verb": verb,
        "reason": reason,
        "children": [child.name for child in made.children.all()],
        "action": reverse("vms:snapshot_ask", args=[vm.vmid, made.name, verb]),
    }  # fmt: skip
    if verb == "rollback":
        context |= lost_by(vm, made)
    form = "ask_dialog" if wants_fragment(request) else "ask"
    return render(request, f"vms/snapshots/{form}.html", context)


def lost_by(vm: VM, made: Snapshot) -> dict[str, Any]:
    """What a rollback takes away and changes."""
    now, then = masked(config_of(vm)), masked({key: str(text) for key, text in made.config.items()})
    younger = snapdisks.lost_with(made, vm)
    changes = [
        (key, now.get(key, ""), then.get(key, ""))
        for key, _, _ in rollback.changed_since(vm, made)
        if not key.startswith("unused") and key not in younger
    ]
    return {
        "reverted": sorted(snapdisks.volumes_in(made.config)), "younger": sorted(younger), "changes": changes,
        "waiting": sorted(vm.pending),
        "later": Snapshot.objects.filter(vm=vm, created__gt=made.created).count(),
    }  # fmt: skip


def do(request: HttpRequest, vm: VM, made: Snapshot, verb: str) -> HttpResponse:
    """The task, the new description, or the sentence why not."""
    try:
        if verb == "edit":
            text = request.POST.get("description", "").replace("\r\n", "\n").strip()
            snaprows.describe(vm, request.user, made.name, text)
            return done(request, vm, f"Snapshot {made.name}: saved.", tab="snapshots")
        flag = "start" if verb == "rollback" else "force"
        params = {"snapname": made.name, flag: "1" if flag in request.POST else "0"}
        task = submit(VERBS[verb], vm=vm, user=request.user, params=params)
    except VMError as error:
        return refused(request, vm, sentence(error), status_of(error), tab="snapshots")
    return done(request, vm, f"{task.label}: requested.", task, tab="snapshots")
