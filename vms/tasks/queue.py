"""The queue is a table: rows are claimed by a conditional UPDATE and end in a definite state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from vms.models import VM, Node, Task, TaskLogLine
from vms.tasks import notify
from vms.tasks.upid import Upid, user_part

CLAIM_LIMIT = 50
"""Rows taken at once; a worker that got this many looks again without waiting."""
UNFINISHED = (Task.Status.QUEUED, Task.Status.RUNNING)


def topics_of(task: Task) -> list[str]:
    """What to hint when ``task`` changes."""
    topics = ["tasks", f"task-{task.pk}"]
    if task.vmid is not None:
        topics.append(f"vm-{task.vmid}")
    return topics


def enqueue(
    type_: str, *, node: Node, vm: VM | None, user: Any, label: str, params: Mapping[str, Any]
) -> Task:
    """Insert a queued row, in the caller's transaction; on commit ring the node and tell the pages."""
    username = user.get_username() if user is not None else "system"
    task = Task.objects.create(
        type=type_, node=node, vm=vm, vmid=vm.vmid if vm else None, user=user, username=username,
        label=label, params=dict(params),
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


def claim(node: Node, boot: str) -> list[int]:
    """Take the waiting rows of ``node`` for worker life ``boot``. Two claimers never get the same row."""
    waiting = Task.objects.filter(node=node, status=Task.Status.QUEUED).order_by("pk")
    taken = []
    for pk in list(waiting.values_list("pk", flat=True)[:CLAIM_LIMIT]):
        mine = Task.objects.filter(pk=pk, status=Task.Status.QUEUED).update(
            status=Task.Status.RUNNING, boot=boot, started=timezone.now()
        )
        if mine:
            taken.append(pk)
    return taken


def finish(task: Task, boot: str, status: Task.Status, *, message: str = "", detail: str = "") -> bool:
    """End a running row of life ``boot``. False when another life has already ended it.

    The log gets PVE's closing line (``TASK OK``, ``TASK WARNINGS: n``, ``TASK ERROR: text``).
    """
    closing = {
        Task.Status.OK: "TASK OK",
        Task.Status.WARNINGS: f"TASK WARNINGS: {task.lines.filter(level=TaskLogLine.Level.WARNING).count()}",
        Task.Status.CANCELLED: "TASK ERROR: cancelled",
    }.get(status, f"TASK ERROR: {message}")
    with transaction.atomic():
        done = Task.objects.filter(pk=task.pk, boot=boot, status=Task.Status.RUNNING).update(
            status=status, message=message, detail=detail, ended=timezone.now(), progress=None
        )
        if done:
            level = TaskLogLine.Level.ERROR if status == Task.Status.ERROR else TaskLogLine.Level.INFO
            TaskLogLine.objects.create(task=task, level=level, text=closing)
    notify.changed(*topics_of(task))
    return bool(done)


def write(task: Task, text: str, level: TaskLogLine.Level = TaskLogLine.Level.INFO) -> None:
    """Add a line to the task's log."""
    TaskLogLine.objects.create(task=task, level=level, text=text)
    notify.changed(f"task-{task.pk}")


def set_progress(task: Task, fraction: float, message: str = "") -> None:
    """Store how far a running task is (0 to 1) and, in words, what it is doing."""
    Task.objects.filter(pk=task.pk, status=Task.Status.RUNNING).update(
        progress=min(1.0, max(0.0, fraction)), message=message
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
            TaskLogLine.objects.create(task=task, level=TaskLogLine.Level.INFO, text="TASK ERROR: cancelled")
        else:
            running = Task.objects.filter(pk=task.pk, status=Task.Status.RUNNING).update(
                cancel_requested=True
            )
    if running:
        notify.ring(task.node.name)
    notify.changed(*topics_of(task))
    return bool(waiting or running)
