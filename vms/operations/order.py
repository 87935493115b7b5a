"""In which order a node's guests start and stop, and how long is waited between them.

The rules are PVE's: ``startup: order=2,up=30,down=60``. Low numbers start first, guests without a number come
last, ties go by VM ID; stopping is the same list backwards. Guests of one number form a group, whose members
may start side by side; the next group waits for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from vms.errors import ConfigError
from vms.hardware.guest import Startup
from vms.models import VM, Node

UP_DELAY = 3
"""Seconds between two launches, unless the guest launched first says otherwise."""
DOWN_TIMEOUT = 180
"""Seconds a guest gets to shut down with its node, unless it says otherwise."""
MOST_WORKERS = 8


@dataclass(frozen=True)
class Turn:
    """A guest and its turn. ``order`` None: after all numbered ones; ``up`` and ``down`` None: the usual."""

    vm: VM
    order: int | None = None
    up: int | None = None
    down: int | None = None

    @property
    def delay(self) -> int:
        """Seconds from its launch to the next one."""
        return UP_DELAY if self.up is None else self.up

    @property
    def onboot(self) -> bool:
        """Whether it starts with the node."""
        return str(self.vm.options.get("onboot", "0")) == "1"

    def timeout(self, otherwise: int = DOWN_TIMEOUT) -> int:
        """Seconds it gets to shut down with its node."""
        return otherwise if self.down is None else self.down


def turn_of(vm: VM) -> Turn:
    """The guest's turn. A text that cannot be read counts as none: a node that starts does not stop at it."""
    text = str(vm.options.get("startup", ""))
    try:
        said = Startup.parse(text, "startup") if text else Startup()
    except ConfigError:
        said = Startup()
    return Turn(vm, said.order, said.up, said.down)


def starting(vms: Iterable[VM]) -> list[list[Turn]]:
    """The groups in which ``vms`` start, first group first."""
    turns = sorted((turn_of(vm) for vm in vms), key=lambda turn: (rank(turn), turn.vm.vmid))
    return [list(group) for _, group in groupby(turns, key=rank)]


def stopping(vms: Iterable[VM]) -> list[list[Turn]]:
    """The groups in which ``vms`` stop: :func:`starting`, backwards."""
    return [group[::-1] for group in reversed(starting(vms))]


def rank(turn: Turn) -> tuple[bool, int]:
    """What sorts groups: their number, none last."""
    return (turn.order is None, turn.order or 0)


def workers(threads: int) -> int:
    """How many guests start or stop side by side on a node with so many processor threads."""
    return min(max(1, threads - 1), MOST_WORKERS)


def guests_of(node: Node, only: Iterable[int] | None = None) -> list[VM]:
    """The node's VMs, templates aside; ``only`` some of them, by VM ID."""
    rows = VM.objects.filter(node=node, template=False).select_related("node", "pool")
    return list(rows if only is None else rows.filter(vmid__in=list(only)))


@dataclass(frozen=True)
class Step:
    """A turn in time. ``at``: seconds after the first launch, at the earliest; ``first``: a group begins."""

    turn: Turn
    at: int
    first: bool


def timeline(groups: Iterable[list[Turn]]) -> list[Step]:
    """When each guest of ``groups`` is launched at the earliest: a group that takes long delays the next."""
    steps: list[Step] = []
    at = 0
    for group in groups:
        for place, turn in enumerate(group):
            steps.append(Step(turn, at, place == 0))
            at += turn.delay
    return steps
