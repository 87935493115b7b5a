"""*Change bus*: the boot disk's way from IDE or SATA to VirtIO as a card of three steps, and back in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from vms.config.busmove import TARGETS, Move, slow_boot_disk
from vms.config.finding import is_driver_disc
from vms.config.vmconfig import parse_value
from vms.errors import AccessError, VMError
from vms.forms.offers import Offers
from vms.hardware.guest import windows_version
from vms.models import VM, Task
from vms.models.waiting import Waiting
from vms.operations import busmove
from vms.operations.base import submit
from vms.operations.busmove import Stage, move_of, stage_of
from vms.views.asking import asked_for, done, full_vm, refused
from vms.views.devices import Gate
from vms.views.doors import sentence, signed_in
from vms.views.power import VERBS, Control, refusal
from vms.views.tasks import Shown, shown

TITLES = (
    "Add a helper disk and the driver disc",
    "Start the guest and install the driver",
    "Switch the boot disk",
)
PLACE = {Stage.NONE: 0, Stage.ADDING: 0, Stage.COLD: 1, Stage.DRIVER: 1, Stage.SWITCH: 2, Stage.MOVED: 3}
"""Stage → how many of the steps are done."""


@dataclass(frozen=True)
class Step:
    """One step of the card: ``state`` is done, now or later."""

    title: str
    state: str


@dataclass(frozen=True)
class Button:
    """A button of the card: a step (``go``), or a verb of the VM (``post``, or ``dialog`` when it asks)."""

    label: str
    icon: str
    kind: str = ""
    go: str = ""
    post: str = ""
    dialog: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Card:
    """What the card shows now."""

    stage: Stage
    move: Move | None
    disk: str
    runs: bool
    steps: tuple[Step, ...]
    buttons: tuple[Button, ...]
    give_up: Button
    targets: tuple[tuple[str, str], ...]
    storages: tuple[tuple[str, str], ...]
    discs: tuple[tuple[str, str], ...]
    answer: Shown | None

    @property
    def target(self) -> str:
        """The new bus in words."""
        return TARGETS.get(self.move.target, "") if self.move else "VirtIO"


def card_of(vm: VM, waiting: Waiting, gate: Gate, offers: Offers) -> Card | None:
    """The card; None where the boot disk is on a fast bus already and nothing was begun."""
    move = move_of(vm)
    stage = stage_of(vm, waiting, move)
    disk = slow_boot_disk(waiting.effective)
    move = None if stage is Stage.NONE else move
    if move is None and not disk:
        return None
    shut = gate.reason("scsi0", "none", None)
    storages = tuple(offers.storage_choices)
    nowhere = "" if storages or move else "No storage takes disks of yours."
    buttons = tuple(buttons_of(stage, vm, gate, shut or nowhere))
    return Card(
        stage, move, move.disk if move else disk, vm.running, steps_of(stage),
        buttons, Button("Give up", "", "bare", "finish", reason=shut),
        tuple(TARGETS.items()), storages, tuple(driver_discs(offers)), answer_of(vm, stage),
    )  # fmt: skip


def wanted(vm: VM, card: Card | None) -> bool:
    """Whether the Hardware page shows the card unasked: it is under way, or Windows sits on a slow bus."""
    return card is not None and (card.move is not None or bool(windows_version(vm.ostype)))


def steps_of(stage: Stage) -> tuple[Step, ...]:
    """The three steps, as far as they are done."""
    at = PLACE[stage]
    states = ("done" if place < at else "now" if place == at else "later" for place in range(len(TITLES)))
    return tuple(Step(title, state) for title, state in zip(TITLES, states, strict=True))


def buttons_of(stage: Stage, vm: VM, gate: Gate, shut: str) -> Iterator[Button]:
    """What can be done now; the first is what comes next."""
    runs = vm.running
    on = shut or ("The guest runs. Shut it down first." if runs else "")
    if stage is Stage.NONE:
        yield Button("Add helper disk", "plus", "primary", "begin", reason=shut)
    elif stage is Stage.COLD:
        yield verb("reboot", vm, gate, "primary", "Shut down and start")
    elif stage is Stage.DRIVER:
        off = "" if runs else "The guest is not running."
        if not runs:
            yield verb("start", vm, gate, "primary")
        yield Button("The driver is installed", "check", "primary" if runs else "", "seen", reason=shut)
        yield Button("Ask the guest agent", "help", "", "agent", reason=shut or off)
    elif stage is Stage.SWITCH:
        yield Button("Switch the boot disk", "disk", "primary", "switch", reason=on)
        if runs:
            yield verb("shutdown", vm, gate)
    elif stage is Stage.MOVED:
        if not runs:
            yield verb("start", vm, gate, "primary")
        yield Button("It boots: done", "check", "primary" if runs else "", "finish", reason=shut)
        yield Button("Back to the old bus", "reset", "", "back", reason=on)


def verb(name: str, vm: VM, gate: Gate, kind: str = "", label: str = "") -> Button:
    """A verb of the VM as a button of the card."""
    found = Control(VERBS[name], vm.vmid, refusal(VERBS[name], vm, gate.held))
    return Button(
        label or found.verb.label, found.verb.icon, kind, post="" if found.dialog else found.post,
        dialog=found.dialog, reason=found.reason,
    )  # fmt: skip


def driver_discs(offers: Offers) -> list[tuple[str, str]]:
    """The ISO images, those that bring VirtIO drivers (told by their names) first."""
    named = [(row.volid, row.label) for row in offers.isos if row.present]
    return sorted(named, key=lambda pair: not is_driver_disc(parse_value("ide2", f"{pair[0]},media=cdrom")))


def answer_of(vm: VM, stage: Stage) -> Shown | None:
    """The agent's last answer unless it was yes, while the driver is being installed."""
    if stage is not Stage.DRIVER:
        return None
    task = Task.objects.filter(vm=vm, type="qmdriver").select_related("node").order_by("-pk").first()
    return shown(task) if task is not None and task.status != Task.Status.OK else None


@signed_in
@require_http_methods(["GET", "POST"])
def hardware_bus(request: HttpRequest, vmid: int) -> HttpResponse:
    """The card as a page; POST takes a step (``go``)."""
    vm = full_vm(request, vmid)
    if request.method == "POST":
        return step(request, vm)
    offers = Offers(vm.node, request.user, vm)
    card = card_of(vm, Waiting.of(vm), Gate(request.user, vm), offers)
    return render(request, "vms/busmove.html", {"vm": vm, "tab": "hardware", "card": card})


def step(request: HttpRequest, vm: VM) -> HttpResponse:
    """Do what was pressed."""
    take = STEPS.get(request.POST.get("go", ""))
    if take is None:
        return refused(request, vm, "There is no such step.", 400)
    words, work = take
    try:
        task = work(vm, request.user, request.POST)
    except VMError as error:
        return refused(request, vm, sentence(error), 403 if isinstance(error, AccessError) else 409)
    return asked_for(request, vm, words, task) if task is not None else done(request, vm, f"{words}: done.")


def _begin(vm: VM, user: Any, data: QueryDict) -> Task:
    given = {name: str(data.get(name, "")) for name in ("target", "storage", "disc")}
    return busmove.begin(vm, user, **given)


STEPS: dict[str, tuple[str, Callable[[VM, Any, QueryDict], Task | None]]] = {
    "begin": ("Helper disk and driver disc", _begin),
    "seen": ("The driver is noted as installed", lambda vm, user, data: busmove.vouch(vm, user)),
    "agent": ("Question to the guest's agent", lambda vm, user, data: submit("qmdriver", vm=vm, user=user)),
    "switch": ("Switch of the boot disk", lambda vm, user, data: busmove.switch(vm, user)),
    "back": ("Boot disk back on its old bus", lambda vm, user, data: busmove.go_back(vm, user)),
    "finish": ("End of the change of the bus", lambda vm, user, data: busmove.finish(vm, user)),
}
"""What each button does, and what the answer calls it."""
