"""A network card of a VM."""

from __future__ import annotations

from django.db import models


class Nic(models.Model):
    """One ``netN``. No bridge means user-mode networking. ``options``: its other properties, PVE's keys."""

    vm = models.ForeignKey("vms.VM", on_delete=models.CASCADE, related_name="nics")
    slot = models.CharField(max_length=8)
    model = models.CharField(max_length=20, default="virtio")
    mac = models.CharField(max_length=17, unique=True, null=True, blank=True)
    bridge = models.CharField(max_length=20, blank=True)
    tag = models.PositiveIntegerField(null=True, blank=True)
    options = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["slot"]
        constraints = [models.UniqueConstraint(fields=["vm", "slot"], name="one_nic_per_slot")]

    def __str__(self) -> str:
        return f"{self.slot} of {self.vm_id}"
