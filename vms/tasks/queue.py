"""The queue is a table: rows are claimed by a conditional UPDATE and end in a definite state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Case, QuerySet, Value, When
from django.utils import timezone

from vms.models import VM, Node, Task, TaskLogLine
from vms.tasks import notify
from vms.tasks.upid import Upid, user_part

FORCED = {
    "sqlite": ("PRAGMA synchronous=NORMAL", "PRAGMA synchronous=FULL"),
    "postgresql": ("SET synchronous_commit TO off", "RESET synchronous_commit"),
}
"""What lets a connection's commits go ahead of the disk, and what ends that (as in the settings)."""
CLAIM_LIMIT = 50
"""Rows taken at once; a worker that got this many looks again without waiting."""
UNFINISHED = (Task.Status.QUEUED, Task.Status.RUNNING)


SOURCE = "clone-of"
"""The parameter that names another VM, by its VM ID, which a task only reads (what a clone is made of)."""
PARTNER = "target-vmid"
"""The parameter that names another VM, by its VM ID, which a task changes too (who a disk is given to)."""
ONLY_FOR = "only_for"
"""What a draft row made for a task says: the task's number. The row goes when the task comes to nothing."""


@dataclass(frozen=True)
class Claimed:
    """A row taken: its number, its type, the row of the VM it is about (None: about the node) and the rows of
    the VMs it reads and changes besides (None: of no other)."""

    pk: int
    type: str
    vm_id: int | None
    reads: int | None = None
    changes: int | None = None
    task: Task | None = field(default=None, compare=False, repr=False)
    """The row itself, with its user, as it was just before it was taken."""


@dataclass(frozen=True)
class Line:
    """A line of a task's log."""

    text: str
    level: str = TaskLogLine.Level.INFO


def topics_of(task: Task) -> list[str]:
    """What to hint when ``task`` changes."""
    topics = ["tasks", f"task-{task.pk}"]
    if task.vmid is not None:
        topics.append(f"vm-{task.vmid}")
    return topics


def enqueue(
    type_: str,
    *,
    node: Node,
    vm: VM | None,
    user: Any,
    label: str,
    params: Mapping[str, Any],
    lock: str = "",
) -> Task:
    """Insert a queued row, in the caller's transaction; on commit ring the node and tell the pages.

    ``lock`` is the VM's lock the caller took in this task's name: it ends with the task.
    """
    username = user.get_username() if user is not None else "system"
    task = Task.objects.create(
        type=type_, node=node, vm=vm, vmid=vm.vmid if vm else None, user=user, username=username,
        label=label[:100], params=dict(params), lock=lock,
    )  # fmt: skip
    upid = Upid(
        node=node.name, number=task.pk, start=int(task.created.timestamp()), type=type_,
        id=str(vm.vmid) if vm else "", user=user_part(username),
    )  # fmt: skip
    task.upid = str(upid)
    task.save(update_fields=["upid"])

    def tell() -> None:
        notify.ring(node.name)
        notify.changed(*topics_of(task))

    transaction.on_commit(tell)
    return task


def note(
    type_: str,
    *,
    node: Node,
    vm: VM,
    user: Any,
    label: str,
    params: Mapping[str, Any],
    lines: Sequence[Line],
) -> Task:
    """Insert a row for what the door has done itself, in the same transaction: it is born ended, well."""
    task = enqueue(type_, node=node, vm=vm, user=user, label=label, params=params)
    task.status, task.started, task.ended = Task.Status.OK, task.created, timezone.now()
    task.save(update_fields=["status", "started", "ended"])
    add_lines(task, [*lines, _closing(task, Task.Status.OK, "", 0)])
    return task


def claim(node: Node, boot: str) -> list[Claimed]:
    """Take the waiting rows of ``node`` for worker life ``boot``. Two claimers never get the same row."""
    return [row for row in waiting(node) if claim_row(row, boot)]


def waiting(node: Node) -> list[Claimed]:
    """The rows of ``node`` that nobody has taken yet, oldest first, at most :data:`CLAIM_LIMIT`."""
    return _rows(Task.objects.filter(node=node, status=Task.Status.QUEUED).order_by("pk")[:CLAIM_LIMIT])


def claim_row(row: Claimed, boot: str, *, lasting: bool = True) -> datetime | None:
    """Take one waiting row for worker life ``boot``; answers when. None: somebody was faster.

    One that is not ``lasting`` is seen by everybody and outlives every process, but may be lost with the
    machine's power: the row waits again then.
    """
    mine, now = Task.objects.filter(pk=row.pk, status=Task.Status.QUEUED), timezone.now()
    with nullcontext() if lasting else unforced():
        return now if mine.update(status=Task.Status.RUNNING, boot=boot, started=now) else None


@contextmanager
def unforced() -> Iterator[None]:
    """What this thread commits meanwhile does not wait for the disk. Not inside a transaction."""
    before, after = FORCED[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(before)
        try:
            yield
        finally:
            cursor.execute(after)


def _rows(tasks: QuerySet[Task]) -> list[Claimed]:
    """The rows as a worker takes them. One query more where one of them is about another VM too."""
    found = list(tasks.select_related("user"))
    wanted = {str(task.params[key]) for task in found for key in (SOURCE, PARTNER) if key in task.params}
    others = VM.everything.filter(vmid__in=[int(vmid) for vmid in wanted if vmid.isdecimal()])
    known = {str(vmid): pk for vmid, pk in others.values_list("vmid", "pk")} if wanted else {}
    return [
        Claimed(
            task.pk, task.type, task.vm_id, known.get(str(task.params.get(SOURCE))),
            known.get(str(task.params.get(PARTNER))), task,
        )
        for task in found
    ]  # fmt: skip


def inherit(node: Node, boot: str) -> list[Claimed]:
    """Take over the rows an earlier life of this node's worker left running. Call once, holding its lock."""
    left = Task.objects.filter(node=node, status=Task.Status.RUNNING).exclude(boot=boot).order_by("pk")
    found = _rows(left)
    Task.objects.filter(pk__in=[row.pk for row in found], status=Task.Status.RUNNING).update(boot=boot)
    return found


def cancellations(node: Node, boot: str) -> list[int]:
    """The running rows of life ``boot`` that somebody wants stopped."""
    rows = Task.objects.filter(node=node, boot=boot, status=Task.Status.RUNNING, cancel_requested=True)
    return list(rows.values_list("pk", flat=True))


def finish(
    task: Task,
    boot: str,
    status: Task.Status,
    *,
    message: str = "",
    detail: str = "",
    lines: Sequence[Line] = (),
    also: Sequence[Callable[[], None]] = (),
) -> bool:
    """End a running row of life ``boot``. False when another life has already ended it.

    The log gets ``lines`` and PVE's closing line (``TASK OK``, ``TASK WARNINGS: n``, ``TASK ERROR: text``);
    the VM gets its lock back. ``also`` is done in the same transaction.
    """
    with transaction.atomic():
        done = Task.objects.filter(pk=task.pk, boot=boot, status=Task.Status.RUNNING).update(
            status=status, message=message, detail=detail, ended=timezone.now(), progress=None
        )
        if done:
            warned = [line for line in lines if line.level == TaskLogLine.Level.WARNING]
            add_lines(task, [*lines, _closing(task, status, message, len(warned))])
            release(task)
            for work in also:
                work()
    if not done:
        return False
    notify.changed(*topics_of(task))
    return True


def _closing(task: Task, status: Task.Status, message: str, warned: int) -> Line:
    """PVE's last line of a log."""
    if status == Task.Status.OK:
        return Line("TASK OK")
    if status == Task.Status.WARNINGS:
        before = task.lines.filter(level=TaskLogLine.Level.WARNING).count()
        return Line(f"TASK WARNINGS: {before + warned}")
    if status == Task.Status.CANCELLED:
        return Line(f"TASK ERROR: {message or 'cancelled'}", TaskLogLine.Level.ERROR)
    return Line(f"TASK ERROR: {message}", TaskLogLine.Level.ERROR)


def release(task: Task) -> None:
    """Give back the VM's lock a task held. What is hibernated is locked again as it was; a row that was there
    for this task alone goes."""
    if task.lock and task.vm_id is not None:
        asleep = When(vmstate__isnull=False, template=False, then=Value("suspended"))
        VM.everything.filter(pk=task.vm_id, lock=task.lock).update(lock=Case(asleep, default=Value("")))
        made = {f"draft__{ONLY_FOR}": task.pk}
        VM.everything.filter(pk=task.vm_id, stage=VM.Stage.DRAFT, **made).delete()


def add_lines(task: Task, lines: Sequence[Line]) -> None:
    """Add lines to the task's log, in order."""
    TaskLogLine.objects.bulk_create(
        [TaskLogLine(task_id=task.pk, level=line.level, text=line.text) for line in lines]
    )


def write(task: Task, *lines: Line) -> None:
    """Add lines to the task's log and tell who reads it."""
    add_lines(task, lines)
    notify.changed(f"task-{task.pk}")


def set_progress(task: Task, fraction: float | None, message: str = "") -> None:
    """Store how far a running task is (0 to 1; None: not known) and, in words, what it does or waits for."""
    Task.objects.filter(pk=task.pk, status=Task.Status.RUNNING).update(
        progress=None if fraction is None else min(1.0, max(0.0, fraction)), message=message
    )
    notify.changed("tasks", f"task-{task.pk}")


def request_cancel(task: Task) -> bool:
    """Cancel a waiting row at once; ask the worker to stop a running one. False when it has ended."""
    with transaction.atomic():
        waiting = Task.objects.filter(pk=task.pk, status=Task.Status.QUEUED).update(
            status=Task.Status.CANCELLED, ended=timezone.now(), message="Cancelled before it began."
        )
        running = 0
        if waiting:
            add_lines(task, [Line("TASK ERROR: cancelled", TaskLogLine.Level.ERROR)])
            release(task)
        else:
            running = Task.objects.filter(pk=task.pk, status=Task.Status.RUNNING).update(
                cancel_requested=True
            )
    if running:
        notify.ring(task.node.name)
    notify.changed(*topics_of(task))
    return bool(waiting or running)
