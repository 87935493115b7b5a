"""The catalogue of failures: what went wrong in words, what was already undone, what to do next.

The raw text stays with it. An unknown failure still has its own sentence as cause.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vms.models import VM, Task, TaskLogLine
from vms.operations.agent import TYPE as AGENT


@dataclass(frozen=True)
class Entry:
    """One known failure. ``pattern`` is looked for in the message, then in the raw words."""

    pattern: str
    title: str
    next: str


CATALOGUE = (
    Entry(
        r"kvm.*(permission denied|no such file)|could not access kvm",
        "The processor's virtualisation cannot be used",
        "Look at the node's page for what the probe found; load the kvm module or switch the node to TCG.",
    ),
    Entry(
        r"no room|no space left|disk quota|storage is full",
        "The storage is full",
        "Free space on the storage or choose another one, then try again.",
    ),
    Entry(
        r"failed to get .*lock|another process using the image",
        "Another process uses a disk of this VM",
        "Find what has the image open (a backup, another QEMU) and end it, then start again.",
    ),
    Entry(
        r"could not open .*no such file|is missing|vanished|there is no volume|does not exist",
        "A disk or an ISO is not there any more",
        "Open Hardware and choose another medium, or put the file back and rescan the storage.",
    ),
    Entry(
        r"cannot allocate memory|cannot set up guest memory|out of memory",
        "The node has not enough memory",
        "Give this VM less memory, or stop another VM first.",
    ),
    Entry(
        r"bridge.*(missing|no such|not exist)|there is no bridge",
        "The network bridge is not there",
        "Create the bridge on the node or choose another one in Hardware.",
    ),
    Entry(
        r"tpm|swtpm",
        "The TPM could not be started",
        "Look into the raw text; the swtpm package has to be installed on the node.",
    ),
    Entry(
        r"ovmf|efidisk|efi ",
        "The UEFI firmware could not be set up",
        "The ovmf package has to be installed on the node; the raw text names the missing file.",
    ),
    Entry(
        r"got timeout|did not shut down|powerdown failed",
        "The guest did not shut down in time",
        "It goes on running. Shut it down from inside, or use Stop to cut its power.",
    ),
    Entry(
        r"worker was restarted|ended with the worker",
        "The worker was restarted in the middle",
        "Look at the VM's state above, then ask for it again if it is still wanted.",
    ),
    Entry(
        r"permission check failed",
        "The right to do this is gone",
        "Ask an operator for the privilege that the cause names.",
    ),
    Entry(
        r"is not supported|invalid parameter|property .* not found|is not a valid|unknown",
        "QEMU does not know a setting",
        "The raw text names it. Change it in Hardware, or use a newer machine version.",
    ),
)


@dataclass(frozen=True)
class Failure:
    """A failed task, explained."""

    task: Task
    title: str
    cause: str
    undone: list[str]
    next: str


def explain(task: Task) -> Failure:
    """The catalogue's words for a failed task."""
    entry = next((each for each in CATALOGUE if re.search(each.pattern, task.message, re.IGNORECASE)), None)
    if entry is None:
        entry = next(
            (each for each in CATALOGUE if re.search(each.pattern, task.detail, re.IGNORECASE)), None
        )
    title = entry.title if entry else f"{task.label or task.type} failed"
    step = entry.next if entry else "Read the task's log; the raw text has the exact words."
    return Failure(task, title, task.message or "It gave no reason.", undone_by(task), step)


def undone_by(task: Task) -> list[str]:
    """What the runner took back, from the task's own log."""
    lines = TaskLogLine.objects.filter(task=task, text__istartswith="undo").values_list("text", flat=True)
    return [re.sub(r"^undo(ne|ing)?[:\s]+", "", text, flags=re.IGNORECASE) for text in lines]


def last_failure(vm: VM) -> Failure | None:
    """The VM's latest ended task, if it failed: an error that something later has mended is history.

    What a guest's agent refused (a file that is not there) is no failure of the VM.
    """
    ended = Task.objects.filter(vm=vm, status__in=Task.ENDED).exclude(status=Task.Status.CANCELLED)
    ended = ended.exclude(type=AGENT)
    task = ended.select_related("node").order_by("-pk").first()
    return explain(task) if task is not None and task.status == Task.Status.ERROR else None
