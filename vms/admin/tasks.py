"""The task list: every operation, its log, and a way to stop it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from vms.admin.readonly import ReadOnlyAdmin, ReadOnlyInline
from vms.models import Task, TaskLogLine
from vms.tasks import queue


class TaskLogInline(ReadOnlyInline):
    model = TaskLogLine
    fields = readonly_fields = ("at", "level", "text")


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin):
    inlines = [TaskLogInline]
    list_display = ["created", "label", "node", "username", "status", "message", "took"]
    list_filter = ["status", "type", "node"]
    search_fields = ["label", "username", "upid", "=vmid"]
    list_select_related = ["node"]
    date_hierarchy = "created"
    actions = ["cancel"]

    @admin.display(description="Took")
    def took(self, task: Task) -> str:
        return "" if task.seconds is None else f"{task.seconds:.1f} s"

    @admin.action(description="Cancel the selected tasks")
    def cancel(self, request: HttpRequest, tasks: QuerySet[Any]) -> None:
        if not request.user.is_superuser:
            self.message_user(request, "Only an operator may cancel tasks here.", messages.ERROR)
            return
        for task in tasks.select_related("node"):
            if queue.request_cancel(task):
                self.message_user(request, f"{task.label}: asked to stop.")
            else:
                self.message_user(request, f"{task.label} has already ended.", messages.WARNING)
