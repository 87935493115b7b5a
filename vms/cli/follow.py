"""Following a task from a terminal: its log as it grows, and its end as an exit code."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from vms.models import Task, TaskLogLine

INTERVAL = 0.1
"""Seconds between looks. The row is the truth; a terminal needs no bell."""
OFFLINE_AFTER = 5.0
"""Seconds a task may wait before we look whether its node's worker is alive."""


def follow(task: Task, out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    """Print the task's lines until it ends. 0 for OK (warnings included), 1 for anything else.

    On a terminal the progress of a long task stands on one line that is redrawn.
    """
    shown, told, begun = 0, False, time.monotonic()
    bar = out.isatty()
    while True:
        task.refresh_from_db()
        for line in TaskLogLine.objects.filter(task=task, pk__gt=shown):
            target = err if line.level == TaskLogLine.Level.ERROR else out
            clear = "\r\033[K" if bar else ""
            print(f"{clear}{line.text}", file=target, flush=True)
            shown = line.pk
        if task.finished:
            if task.status == Task.Status.ERROR and task.detail:
                print(task.detail, file=err, flush=True)
            return 0 if task.status in (Task.Status.OK, Task.Status.WARNINGS) else 1
        if bar and task.progress is not None:
            print(f"\r\033[K{_bar(task.progress)} {task.message}", end="", file=out, flush=True)
        waits = task.status == Task.Status.QUEUED and time.monotonic() - begun > OFFLINE_AFTER
        if waits and not told and not task.node.online:
            print(f"Waiting: the worker of node {task.node.name} is not running.", file=err, flush=True)
            told = True
        time.sleep(INTERVAL)


def _bar(fraction: float, width: int = 30) -> str:
    done = round(fraction * width)
    return f"[{'#' * done}{'.' * (width - done)}] {fraction:4.0%}"
