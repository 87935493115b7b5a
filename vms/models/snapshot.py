"""A snapshot of a VM: its configuration at a moment, its disks as they were, perhaps its memory."""

from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models

SNAPSHOT_NAME = r"[A-Za-z][A-Za-z0-9_-]{1,39}"
"""What a snapshot may be called (PVE); ``current`` and ``pending`` are taken."""


class Snapshot(models.Model):
    """One snapshot.

    ``config`` is the flat mapping the VM had; ``state`` is PVE's ``snapstate``, empty once it is complete.
    ``vmstate`` holds the memory, if it was saved, and ``running`` what is needed to read it again
    (``runningmachine``, ``runningcpu``).
    """

    class State(models.TextChoices):
        PREPARE = "prepare", "Being made"
        DELETE = "delete", "Being deleted"

    vm = models.ForeignKey("vms.VM", on_delete=models.CASCADE, related_name="snapshots")
    name = models.CharField(max_length=40, validators=[RegexValidator(f"^{SNAPSHOT_NAME}$")])
    description = models.TextField(blank=True)
    parent = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="children"
    )
    created = models.DateTimeField(auto_now_add=True)
    config = models.JSONField(default=dict)
    state = models.CharField(max_length=7, choices=State, blank=True)
    vmstate = models.ForeignKey(
        "vms.Volume", on_delete=models.PROTECT, null=True, blank=True, related_name="snapshots"
    )
    running = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["created", "pk"]
        constraints = [models.UniqueConstraint(fields=["vm", "name"], name="one_snapshot_per_name")]

    def __str__(self) -> str:
        return f"{self.name} of {self.vm_id}"
