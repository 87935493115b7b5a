"""The verbs on a VM: which are offered now, why the others are not, and the one door that asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from vms import access
from vms.config.warmth import refusals
from vms.errors import AccessError, VMError
from vms.models import VM, Disk, Task, Volume
from vms.models.configuration import config_of
from vms.operations.backuprights import handled
from vms.operations.base import OPERATIONS, holder, submit
from vms.operations.destroy import owned
from vms.operations.protection import SWITCH_OFF, protected, said_of
from vms.operations.saving import blockers
from vms.operations.warmstate import warm
from vms.schema.option import options_of
from vms.tasks.queue import UNFINISHED
from vms.views.doors import sentence, signed_in, vm_or_404, wants_fragment
from vms.views.refusals import backup_refusal
from vms.views.screens import screens
from vms.views.snapshots import take_refusal
from vms.views.states import asleep, vm_state
from vms.views.tasks import Shown, shown


@dataclass(frozen=True)
class Verb:
    """A button. ``type`` is the task it asks for; ``asks`` what has to be confirmed first, if anything.

    ``also`` is a second privilege it needs.
    """

    name: str
    type: str
    label: str
    icon: str
    asks: str = ""
    danger: bool = False
    privilege: str = "VM.PowerMgmt"
    also: str = ""


VERBS: Mapping[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("start", "qmstart", "Start", "play"),
        Verb("resume", "qmresume", "Resume", "play"),
        Verb(
            "shutdown", "qmshutdown", "Shutdown", "power",
            "The guest is asked to shut down: by its agent when that answers, else by the power button.",
        ),
        Verb(
            "reboot", "qmreboot", "Reboot", "reboot",
            "The guest is shut down, pending changes are applied, and it is started again.",
        ),
        Verb("pause", "qmpause", "Pause", "pause"),
        Verb("hibernate", "qmsuspend", "Hibernate", "state-suspended", also="VM.Config.Disk"),
        Verb(
            "stop", "qmstop", "Stop", "stop",
            "The power is cut at once. What the guest has not written to disk is lost.", danger=True,
        ),
        Verb(
            "reset", "qmreset", "Reset", "reset",
            "The reset button is pressed. What the guest has not written to disk is lost.", danger=True,
        ),
        Verb(
            "discard", "qmdiscard", "Discard saved memory", "trash",
            "What the guest had in its memory is lost, as in a power cut. The next start boots.",
            danger=True, also="VM.Config.Disk",
        ),
        Verb(
            "template", "qmtemplate", "Convert to template", "template",
            "Its disks become read-only, and it is never started again: its clones are. "
            "There is no way back but a full clone.", privilege="VM.Allocate",
        ),
        Verb(
            "warm", "qmwarm", "Warm up", "play",
            "The template's guest is booted once, out of sight, and its memory is kept. Clones can then "
            "go on from there in under a second instead of booting.",
            privilege="VM.Allocate", also="VM.PowerMgmt",
        ),
        Verb(
            "cool", "qmcool", "Discard warm state", "trash",
            "The saved memory is deleted. Clones boot again; those that run are not touched.",
            danger=True, privilege="VM.Allocate",
        ),
        Verb("destroy", "qmdestroy", "Remove", "trash", "typed", danger=True, privilege="VM.Allocate"),
    )
}  # fmt: skip

NO_ALLOCATE = "You may not create VMs: no role of yours has VM.Allocate."
OF_TEMPLATES = frozenset({"destroy", "warm", "cool"})
CAN_RESUME = (VM.Status.PAUSED, VM.Status.PRELAUNCH, VM.Status.SUSPENDED)


@dataclass(frozen=True)
class Control:
    """A verb as it stands in a toolbar now. ``reason`` is empty when it can be used."""

    verb: Verb
    vmid: int
    reason: str

    @property
    def post(self) -> str:
        return reverse("vms:vm_action", args=[self.vmid, self.verb.name])

    @property
    def dialog(self) -> str:
        """The address of the question, for verbs that ask one."""
        return reverse("vms:vm_ask", args=[self.vmid, self.verb.name]) if self.verb.asks else ""


def refusal(verb: Verb, vm: VM, privileges: frozenset[str]) -> str:
    """Why ``verb`` cannot be used now, in a sentence; empty when it can."""
    for needed in filter(None, (verb.privilege, verb.also)):
        if needed not in privileges:
            return f"You may not: {needed} on this VM is missing."
    if not vm.node.online:
        return f"Node {vm.node.name} is offline: nothing there can be changed now."
    if vm.lock and vm.lock not in OPERATIONS[verb.type].accepts_locks:
        if asleep(vm):
            return "The VM is hibernated. Resume it first, or discard its saved memory."
        return f"The VM is locked ({vm.lock}) by {holder(vm)}."
    if vm.template and verb.name not in OF_TEMPLATES:
        return "It is a template already." if verb.name == "template" else "A template is never started."
    return _wrong_state(verb.name, vm)


def _wrong_state(name: str, vm: VM) -> str:
    paused = vm.status in CAN_RESUME
    if name == "start" and vm.running:
        return "The VM runs already."
    if name == "resume" and not paused and not asleep(vm):
        return "The VM is not paused."
    if name == "discard":
        return "" if asleep(vm) else "The VM is not hibernated."
    if name == "destroy":
        if protected(vm):
            return f"{said_of(vm)} {SWITCH_OFF}"
        return "The VM runs. Stop it first." if vm.running else ""
    if name == "warm":
        return "It is warm already. Discard that state first." if vm.vmstate_id else not_warm(vm)
    if name == "cool":
        return "" if warm(vm) else "It keeps no warm state."
    if name == "template":
        if vm.running:
            return "The VM runs. Shut it down first."
        return "It has snapshots. Delete them first." if vm.snapshots.exists() else ""
    if name in ("shutdown", "reboot", "pause", "hibernate", "stop", "reset") and not vm.running:
        return "The VM is not running."
    if name in ("shutdown", "reboot") and paused:
        return "The VM is paused. Resume it first, or stop it."
    if name == "pause" and paused:
        return "The VM is paused already."
    stuck = blockers(vm.options) if name == "hibernate" else []
    return f"The memory cannot be saved with: {', '.join(stuck)}." if stuck else ""


def not_warm(vm: VM) -> str:
    """Why a template's guest cannot be kept warm, or not now; empty when it can."""
    if not vm.template:
        return "It is no template."
    if vm.running:
        return "It is being warmed up."
    return next((f"{error}." for error in refusals(config_of(vm))), "")


def toolbar(user: Any, vm: VM) -> dict[str, Any]:
    """What the VM's title and toolbar show. Start or Resume, never both (PVE)."""
    privileges = access.privileges(user, vm.path, pool=vm.pool.name if vm.pool else "")
    controls = {name: Control(verb, vm.vmid, refusal(verb, vm, privileges)) for name, verb in VERBS.items()}
    first = "resume" if vm.status in CAN_RESUME or asleep(vm) else "start"
    console = "" if "VM.Console" in privileges else "You may not: VM.Console on this VM is missing."
    if vm.template:
        console = "A template has no console."
    return {
        "first": controls[first],
        "shutdown": controls["shutdown"],
        "others": [controls[name] for name in ("reboot", "pause", "hibernate", "stop", "reset")],
        "discard": controls["discard"] if asleep(vm) else None,
        "destroy": controls["destroy"],
        "template": controls["template"],
        "warm": controls["cool" if warm(vm) else "warm"] if vm.template else None,
        "clone_reason": clone_refusal(user, vm),
        "console_reason": console,
        "screens": screens(vm, console),
        "snapshot_reason": take_refusal(user, vm),
        "backup_reason": backup_refusal(user, vm),
        "duplicate_reason": "" if access.may_somewhere(user, "VM.Allocate") else NO_ALLOCATE,
        "state": vm_state(vm),
        "doing": being_done(vm),
        "tags_reason": tags_reason(vm, privileges),
    }


def tags_reason(vm: VM, privileges: frozenset[str]) -> str:
    """Why the tags cannot be changed now; "" when they can."""
    if "VM.Config.Options" not in privileges:
        return "You may not: VM.Config.Options on this VM is missing."
    return f"The VM is locked ({vm.lock}): another operation is working on it." if vm.lock else ""


def clone_refusal(user: Any, vm: VM) -> str:
    """Why the VM cannot be cloned by this user now, in a sentence; empty when it can."""
    if not access.may_vm(user, "VM.Clone", vm):
        return "You may not: VM.Clone on this VM is missing."
    if not access.may_somewhere(user, "VM.Allocate"):
        return NO_ALLOCATE
    if not vm.node.online:
        return f"Node {vm.node.name} is offline: nothing there can be changed now."
    return f"The VM is locked ({vm.lock}) by {holder(vm)}." if vm.lock else ""


def being_done(vm: VM) -> Shown | None:
    """The oldest task on the VM that has not ended: what is being done to it, or waits to be."""
    task = Task.objects.filter(vm=vm, status__in=UNFINISHED).order_by("pk").first()
    return shown(task) if task is not None else None


@signed_in
@require_GET
def vm_ask(request: HttpRequest, vmid: int, verb: str) -> HttpResponse:
    """The question before a verb that loses something: a dialog in place, a page without JavaScript."""
    vm = vm_or_404(request, vmid)
    if verb not in VERBS or not VERBS[verb].asks:
        raise Http404
    chosen = VERBS[verb]
    context: dict[str, Any] = {
        "vm": vm, "verb": chosen, "tab": "summary", "reason": toolbar_reason(request, vm, chosen),
        "questions": [option for option in options_of(OPERATIONS[chosen.type].params)
                      if not (option.hidden or option.advanced)],
    }  # fmt: skip
    if chosen.name == "destroy":
        context.update(what_goes(vm), backups=backups_seen(request.user, vm))
    if wants_fragment(request):
        return render(request, "vms/_ask_dialog.html", context)
    return render(request, "vms/vm_ask.html", context)


def toolbar_reason(request: HttpRequest, vm: VM, verb: Verb) -> str:
    """:func:`refusal` for the asking user."""
    return refusal(verb, vm, access.privileges(request.user, vm.path, pool=vm.pool.name if vm.pool else ""))


def what_goes(vm: VM) -> dict[str, Any]:
    """Every volume and snapshot that a destroy removes, and what stays, with their sizes."""
    disks = Disk.objects.filter(vm=vm, volume__isnull=False).select_related("volume__storage")
    slots = {disk.volume_id: disk.slot for disk in disks}
    own = owned(vm)
    goes = [
        {"slot": slots.get(row.pk, "saved state"), "volid": row.volid, "size": row.size}
        for row in sorted(own, key=lambda row: slots.get(row.pk, "~"))
    ]
    gone = {row.pk for row in own}
    stays = [
        {"slot": disk.slot, "volid": disk.volume.volid, "size": disk.volume.size}
        for disk in disks.order_by("slot")
        if disk.volume is not None and disk.volume_id not in gone
    ]
    return {
        "goes": goes, "stays": stays, "total": sum(row.size for row in own),
        "snapshots": list(vm.snapshots.values_list("name", flat=True)), "days": settings.CONF.trash_days,
    }  # fmt: skip


def backups_seen(user: Any, vm: VM) -> list[Volume]:
    """The VM's backups that this user may handle, newest first. They outlive it."""
    rows = Volume.objects.filter(content=Volume.Content.BACKUP, vmid=vm.vmid).select_related("storage")
    return list(handled(user, rows.order_by("-made")))


@signed_in
@require_POST
def vm_action(request: HttpRequest, vmid: int, verb: str) -> HttpResponse:
    """Ask for a verb. Answers with a task, or with the sentence why not."""
    vm = vm_or_404(request, vmid)
    if verb not in VERBS:
        raise Http404
    chosen = VERBS[verb]
    if chosen.name == "destroy" and request.POST.get("confirm", "").strip() != str(vm.vmid):
        return refused(request, vm, f"Nothing was removed: type {vm.vmid} to confirm.", 422)
    try:
        task = submit(chosen.type, vm=vm, user=request.user, params=params_of(request, chosen))
    except VMError as error:
        return refused(request, vm, sentence(error), 403 if isinstance(error, AccessError) else 409)
    return accepted(request, vm, chosen, task)


def params_of(request: HttpRequest, verb: Verb) -> dict[str, str]:
    """The parameters the form gave, of those the verb knows."""
    known = {option.name for option in options_of(OPERATIONS[verb.type].params)}
    return {name: str(value) for name, value in request.POST.items() if name in known and value != ""}


def refused(request: HttpRequest, vm: VM, text: str, status: int) -> HttpResponse:
    """The sentence why not: an echo in place for htmx, a message on the VM's page otherwise."""
    if wants_fragment(request):
        context = {"text": text, "tone": "error"}
        return render(request, "components/toast.html", context, status=status)
    messages.error(request, text)
    return redirect("vms:vm_summary", vmid=vm.vmid)


def accepted(request: HttpRequest, vm: VM, verb: Verb, task: Task) -> HttpResponse:
    """*Requested* is not *reached*: the page says only that the task exists."""
    address = reverse("vms:task", args=[task.pk])
    if verb.name == "destroy":
        # The VM's page is about to have nothing to show.
        if wants_fragment(request):
            return HttpResponse(status=204, headers={"HX-Redirect": address})
        return redirect(address)
    if wants_fragment(request):
        context = {"text": f"{verb.label} requested", "tone": "busy", "href": address, "action": task.label}
        return render(request, "components/toast.html", context)
    messages.info(request, f"{verb.label} requested.")
    return redirect("vms:vm_summary", vmid=vm.vmid)
