"""A drive of a VM: disk, CD-ROM, EFI variables, TPM state or a detached volume."""

from __future__ import annotations

from django.db import models

GIB = 1 << 30
FIRMWARE_SIZE = 4 << 20
"""Bytes at most of EFI variables and of a TPM's state; what is asked of them (``local:1``) means nothing."""


class Disk(models.Model):
    """One drive slot.

    A drive points at a ``volume``; before creation it has a ``storage`` and a ``size`` instead (the volume
    is allocated by the create task); anything else (``none``, ``cdrom``, a host device) stands in ``source``.
    ``options`` holds the drive's other properties under PVE's own keys.
    """

    vm = models.ForeignKey("vms.VM", on_delete=models.CASCADE, related_name="disks")
    slot = models.CharField(max_length=12)
    volume = models.ForeignKey(
        "vms.Volume", on_delete=models.PROTECT, null=True, blank=True, related_name="disks"
    )
    storage = models.ForeignKey(
        "vms.Storage", on_delete=models.PROTECT, null=True, blank=True, related_name="disks"
    )
    source = models.CharField(max_length=500, blank=True)
    size = models.BigIntegerField(null=True, blank=True, help_text="Bytes.")
    media = models.CharField(max_length=5, default="disk", choices=[("disk", "Disk"), ("cdrom", "CD-ROM")])
    options = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["slot"]
        constraints = [models.UniqueConstraint(fields=["vm", "slot"], name="one_drive_per_slot")]

    def __str__(self) -> str:
        return f"{self.slot} of {self.vm_id}"

    @property
    def file(self) -> str:
        """The first part of the configuration value: volume id, ``storage:GiB``, ``none``, ``cdrom``."""
        if self.volume is not None:
            return self.volume.volid
        if self.source:
            return self.source
        if self.storage is not None:
            gib = f"{(self.size or 0) / GIB:.6f}".rstrip("0").rstrip(".")
            return f"{self.storage.name}:{gib or '0'}"
        return "none"

    @property
    def new_size(self) -> int:
        """Bytes a volume that is yet to be made may grow to."""
        return FIRMWARE_SIZE if self.slot in ("efidisk0", "tpmstate0") else self.size or 0
