"""States in words: what a page says about a VM, a task, a node. Icon and word, never colour alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from vms.models import VM, Task


@dataclass(frozen=True)
class State:
    """``tone`` chooses the colour (running, stopped, paused, suspended, error, busy, unknown).

    ``symbol`` names a symbol of the sprite when the tone's own would mislead.
    """

    word: str
    tone: str
    symbol: str = ""

    @property
    def icon(self) -> str:
        """The symbol of the sprite that goes with it."""
        return self.symbol or f"state-{self.tone}"


_VM_TONES = {
    VM.Status.STOPPED: "stopped",
    VM.Status.RUNNING: "running",
    VM.Status.PAUSED: "paused",
    VM.Status.PRELAUNCH: "paused",
    VM.Status.SUSPENDED: "suspended",
    VM.Status.IO_ERROR: "error",
    VM.Status.INTERNAL_ERROR: "error",
    VM.Status.GUEST_PANICKED: "error",
    VM.Status.SHUTDOWN: "stopped",
    VM.Status.UNKNOWN: "unknown",
}
_TASK_TONES = {
    Task.Status.QUEUED: "busy",
    Task.Status.RUNNING: "busy",
    Task.Status.OK: "running",
    Task.Status.WARNINGS: "paused",
    Task.Status.ERROR: "error",
    Task.Status.CANCELLED: "stopped",
}

_TASK_SYMBOLS = {
    Task.Status.QUEUED: "clock",
    Task.Status.OK: "check",
    Task.Status.WARNINGS: "alert",
    Task.Status.CANCELLED: "close",
}


TEMPLATE = State("Template", "stopped", "template")


def vm_state(vm: VM) -> State:
    """The VM's state; a template's is to be one. On a silent node only the last known one can be told."""
    return listed_state(vm.status, vm.node.online, vm.lock, vm.template)


def listed_state(status: str, online: bool, lock: str, template: bool) -> State:
    """:func:`vm_state` for the bare columns of a list."""
    if template:
        runs = status not in (VM.Status.STOPPED, VM.Status.UNKNOWN)
        return State("Warming up", "busy", "template") if runs else TEMPLATE
    return state_of(status, online, lock == "suspended")


def asleep(vm: VM) -> bool:
    """Whether it is hibernated: no process, its memory saved."""
    return vm.lock == "suspended"


@cache
def state_of(value: str, online: bool, asleep: bool = False) -> State:
    """:func:`vm_state` for a bare status. ``asleep``: no process because it is hibernated."""
    status = VM.Status(value)
    if asleep and status == VM.Status.STOPPED:
        status = VM.Status.SUSPENDED
    if not online and status != VM.Status.UNKNOWN:
        return State(f"Unknown, was {status.label.lower()}", "unknown")
    return State(str(status.label), _VM_TONES[status])


def task_state(task: Task) -> State:
    """How a task stands."""
    status = Task.Status(task.status)
    if status == Task.Status.RUNNING and task.cancel_requested:
        return State("Cancelling", "busy")
    return State(str(status.label), _TASK_TONES[status], _TASK_SYMBOLS.get(status, ""))
