"""Tasks: the log at the bottom, the list, one task with its live log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from vms import access
from vms.models import Task, TaskLogLine
from vms.tasks.queue import request_cancel
from vms.views.doors import sees_all_tasks, signed_in, task_or_404, wants_fragment
from vms.views.failures import explain
from vms.views.states import State, task_state

PAGE = 50
LOG_ROWS = 25
LINES_AT_ONCE = 1000
"""Lines a fragment carries; the next one goes on after them."""


@dataclass(frozen=True)
class Shown:
    """A task as a row shows it. ``cancel`` is empty when there is nothing to cancel."""

    row: Task
    state: State
    cancel: str


def shown(task: Task) -> Shown:
    """With its state in words."""
    open_ = not task.finished and not task.cancel_requested
    return Shown(task, task_state(task), reverse("vms:task_cancel", args=[task.pk]) if open_ else "")


def visible_tasks(user: Any) -> QuerySet[Task]:
    """The tasks ``user`` may see: all with ``Sys.Audit``, else their own and those of their VMs."""
    tasks = Task.objects.select_related("node").order_by("-pk").defer("detail", "node__facts")
    if sees_all_tasks(user):
        return tasks
    vmids = access.visible_vms(user).order_by().values("vmid")
    return tasks.filter(Q(user=user) | Q(vmid__in=vmids))


def page_of(request: HttpRequest, tasks: QuerySet[Task]) -> Page[Task]:
    """The wanted page, newest first."""
    rows = tasks.select_related("node").order_by("-pk")
    return Paginator(rows, PAGE).get_page(request.GET.get("page"))


@signed_in
@require_GET
def tasks(request: HttpRequest) -> HttpResponse:
    """The list: ``?status=error&q=101`` narrows it, ``?part=rows`` answers the table alone."""
    found = visible_tasks(request.user)
    given = request.GET
    if given.get("status") in Task.Status.values:
        found = found.filter(status=given["status"])
    word = given.get("q", "").strip()[:100]
    if word:
        match = Q(label__icontains=word) | Q(username__icontains=word) | Q(type__icontains=word)
        found = found.filter(
            match | Q(vmid=int(word)) if word.isascii() and word.isdigit() and len(word) < 10 else match
        )
    page = page_of(request, found)
    context = {
        "page": page,
        "tasks": [shown(task) for task in page.object_list],
        "statuses": Task.Status.choices,
        "filtered": bool(word or given.get("status")),
    }
    part = given.get("part") == "rows"
    return render(request, "vms/_task_rows.html" if part else "vms/tasks.html", context)


@signed_in
@require_GET
def task_log(request: HttpRequest) -> HttpResponse:
    """The bar at the bottom of every page: the latest task, the running ones, the last few."""
    rows = [shown(task) for task in visible_tasks(request.user)[:LOG_ROWS]]
    running = [row for row in rows if not row.row.finished]
    return render(
        request,
        "vms/_task_log.html",
        {"tasks": rows, "latest": rows[0] if rows else None, "running": running},
    )


@signed_in
@require_GET
def task(request: HttpRequest, pk: int) -> HttpResponse:
    """One task: how it stands, its log, the raw words behind a failure.

    ``?part=state`` answers the facts alone; ``?part=lines&after=ID`` the log lines that came since.
    """
    row = task_or_404(request, pk)
    part = request.GET.get("part")
    if part == "lines":
        return render(request, "vms/_task_lines.html", lines_of(row, request.GET.get("after", "")))
    failed = row.status == Task.Status.ERROR
    context = {"task": shown(row), "failure": explain(row) if failed else None, **lines_of(row, "")}
    return render(request, "vms/_task_state.html" if part == "state" else "vms/task.html", context)


def lines_of(row: Task, after: str) -> dict[str, Any]:
    """Log lines after line number ``after``, and where the next look begins."""
    start = int(after) if after.isascii() and after.isdigit() and len(after) < 19 else 0
    lines = list(TaskLogLine.objects.filter(task=row, pk__gt=start).order_by("pk")[:LINES_AT_ONCE])
    return {"row": row, "lines": lines, "after": lines[-1].pk if lines else start}


@signed_in
@require_POST
def task_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """Cancel one's own task, or any with ``Sys.Modify`` on its node or ``VM.Allocate`` on its VM."""
    row = task_or_404(request, pk)
    if not may_cancel(request.user, row):
        return said(request, row, "You may not cancel this task: it is not yours.", "error", 403)
    if not request_cancel(row):
        return said(request, row, "The task has ended already; there is nothing to cancel.", "error", 409)
    return said(request, row, "Cancel requested", "busy", 200)


def may_cancel(user: Any, row: Task) -> bool:
    """Who asked for it may take it back."""
    if row.user_id == user.pk or access.may(user, "Sys.Modify", f"/nodes/{row.node.name}"):
        return True
    return row.vm is not None and access.may_vm(user, "VM.Allocate", row.vm)


def said(request: HttpRequest, row: Task, text: str, tone: str, status: int) -> HttpResponse:
    """An echo in place for htmx, a message on the task's page otherwise."""
    if wants_fragment(request):
        return render(request, "components/toast.html", {"text": text, "tone": tone}, status=status)
    messages.add_message(request, messages.ERROR if tone == "error" else messages.INFO, text)
    return redirect("vms:task", pk=row.pk)
