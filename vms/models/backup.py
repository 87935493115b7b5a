"""Backups that make themselves."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models

job_name = RegexValidator(
    r"^[A-Za-z][A-Za-z0-9_-]{1,62}$",
    "A job's name starts with a letter and goes on with letters, digits, hyphen or underscore.",
)


class BackupJob(models.Model):
    """Which VMs are backed up when, where to, and how long what is made is kept.

    ``schedule`` is a calendar event (``sat 02:00``, ``mon..fri 21:00``), ``keep`` PVE's ``prune-backups``
    (``keep-last=3,keep-daily=7``; empty keeps all), ``limit`` KiB/s (0: none). The tasks of a job run in the
    name of ``owner``, whose privileges are asked each time.
    """

    class Mode(models.TextChoices):
        SNAPSHOT = "snapshot", "Snapshot"
        SUSPEND = "suspend", "Suspend"
        STOP = "stop", "Stop"

    name = models.CharField(max_length=63, unique=True, validators=[job_name])
    enabled = models.BooleanField(default=True)
    schedule = models.CharField(max_length=128)
    storage = models.ForeignKey("vms.Storage", on_delete=models.PROTECT, related_name="backup_jobs")
    node = models.ForeignKey("vms.Node", on_delete=models.PROTECT, null=True, blank=True)
    all_vms = models.BooleanField(default=False, help_text="Every VM but those excluded.")
    vmids = models.JSONField(default=list, blank=True)
    exclude = models.JSONField(default=list, blank=True)
    pool = models.ForeignKey("vms.Pool", on_delete=models.PROTECT, null=True, blank=True)
    mode = models.CharField(max_length=8, choices=Mode, default=Mode.SNAPSHOT)
    compress = models.CharField(max_length=8, default="zstd")
    keep = models.CharField(max_length=200, blank=True)
    limit = models.PositiveIntegerField(default=0)
    notes = models.CharField(max_length=1000, blank=True, default="{{guestname}}")
    fleecing = models.ForeignKey(
        "vms.Storage", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    repeat_missed = models.BooleanField(default=False)
    comment = models.CharField(max_length=500, blank=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="backup_jobs")
    last_run = models.DateTimeField(null=True, blank=True)
    next_run = models.DateTimeField(null=True, blank=True, db_index=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
