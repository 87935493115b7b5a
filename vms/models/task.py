"""What was asked, by whom, and how it ended. The row is the queue and the audit."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Task(models.Model):
    """One submitted operation.

    The row exists before anything happens and always ends in a definite state. ``boot`` is the worker's
    life that claimed it: only that life may finish it. ``params`` never holds a secret.
    """

    class Status(models.TextChoices):
        QUEUED = "queued", "Waiting"
        RUNNING = "running", "Running"
        OK = "ok", "OK"
        WARNINGS = "warnings", "OK, with warnings"
        ERROR = "error", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    ENDED = (Status.OK, Status.WARNINGS, Status.ERROR, Status.CANCELLED)

    upid = models.CharField(max_length=200, unique=True, null=True, blank=True, editable=False)
    type = models.CharField(max_length=32, help_text="PVE's task type, such as qmstart.")
    node = models.ForeignKey("vms.Node", on_delete=models.PROTECT, related_name="tasks")
    vm = models.ForeignKey("vms.VM", on_delete=models.SET_NULL, null=True, blank=True, related_name="tasks")
    vmid = models.PositiveIntegerField(
        null=True, blank=True, db_index=True, help_text="Stays when the VM is gone."
    )
    label = models.CharField(
        max_length=100, blank=True, help_text="What a person reads: 'Start 101 (web-01)'."
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="pvelite_tasks",
    )
    username = models.CharField(max_length=150, blank=True)
    params = models.JSONField(default=dict, blank=True)
    status = models.CharField(max_length=9, choices=Status, default=Status.QUEUED, db_index=True)
    message = models.TextField(blank=True, help_text="Why it failed or waits, in a sentence.")
    detail = models.TextField(
        blank=True, help_text="The raw words behind the message: QEMU's log and command line."
    )
    progress = models.FloatField(null=True, blank=True, help_text="0 to 1.")
    boot = models.CharField(max_length=32, blank=True)
    lock = models.CharField(
        max_length=20, blank=True, help_text="The VM's lock this task holds; given back when it ends."
    )
    cancel_requested = models.BooleanField(default=False)
    created = models.DateTimeField(auto_now_add=True, db_index=True)
    started = models.DateTimeField(null=True, blank=True)
    ended = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["node", "status"])]

    def __str__(self) -> str:
        return f"{self.label or self.type} ({self.get_status_display()})"

    @property
    def finished(self) -> bool:
        return self.status in self.ENDED

    @property
    def seconds(self) -> float | None:
        """How long it ran, or None while it has not ended."""
        if self.ended is None:
            return None
        return max(0.0, (self.ended - (self.started or self.created)).total_seconds())


class TaskLogLine(models.Model):
    """One line a task said."""

    class Level(models.TextChoices):
        INFO = "info", "Info"
        WARNING = "warning", "Warning"
        ERROR = "error", "Error"

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="lines")
    at = models.DateTimeField(auto_now_add=True)
    level = models.CharField(max_length=7, choices=Level, default=Level.INFO)
    text = models.TextField()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.text
