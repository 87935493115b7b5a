"""Where images lie, and each image."""

from __future__ import annotations

from typing import Any

from django.core.validators import RegexValidator
from django.db import models

from vms.storage.kinds import KINDS, StorageKind

storage_name = RegexValidator(
    r"^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]$",
    "A storage name starts with a letter and goes on with letters, digits, dot, hyphen or underscore.",
)


def default_content() -> list[str]:
    return ["images", "iso", "import", "snippets", "backup"]


class Storage(models.Model):
    """A place for volumes. ``kind`` is PVE's storage type; ``content`` what may lie there."""

    class Kind(models.TextChoices):
        DIR = "dir", "Directory"
        NFS = "nfs", "NFS or another mounted path"
        BTRFS = "btrfs", "BTRFS"
        LVMTHIN = "lvmthin", "LVM-thin"
        ZFSPOOL = "zfspool", "ZFS"
        RBD = "rbd", "RBD (Ceph)"

    name = models.CharField(max_length=63, unique=True, validators=[storage_name])
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.DIR)
    path = models.CharField(
        max_length=500, blank=True, help_text="Absolute path of the directory, the same on every node."
    )
    options = models.JSONField(
        default=dict,
        blank=True,
        help_text='What this kind needs besides a path, under PVE\'s names: {"vgname": "pve"}.',
    )
    content = models.JSONField(
        default=default_content,
        help_text='What may lie here: ["images", "iso", "import", "snippets", "backup"].',
    )
    shared = models.BooleanField(default=False, help_text="The same volumes are seen from every node.")
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "storages"

    def __str__(self) -> str:
        return self.name

    @property
    def spec(self) -> StorageKind:
        """What holds for every storage of its kind."""
        return KINDS[self.kind]

    @property
    def place(self) -> str:
        """Where it is, in few words: a path, a volume group and its pool."""
        first = [str(self.options.get(name, "")) for name in ("vgname", "thinpool", "pool", "namespace")]
        return self.path or "/".join(part for part in first if part)

    def facts(self) -> dict[str, Any]:
        """What a pure reader (:func:`vms.hardware.volume.resolve`) needs to know of it."""
        return {
            **self.spec.always,
            **self.options,
            "type": self.kind,
            "path": self.path,
            "content": list(self.content),
            "shared": self.shared,
        }


class StorageStatus(models.Model):
    """A storage as one node sees it. Sizes in bytes; ``error`` is empty when it is usable."""

    NEARLY_FULL = 85
    """Percent from which a storage is said to be nearly full."""

    storage = models.ForeignKey(Storage, on_delete=models.CASCADE, related_name="statuses")
    node = models.ForeignKey("vms.Node", on_delete=models.CASCADE, related_name="storage_statuses")
    total = models.BigIntegerField(default=0)
    used = models.BigIntegerField(default=0)
    available = models.BigIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True)
    warning = models.CharField(max_length=500, blank=True, help_text="It can be used, but look at it.")
    seen = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "storage statuses"
        constraints = [
            models.UniqueConstraint(fields=["storage", "node"], name="one_status_per_storage_and_node")
        ]

    def __str__(self) -> str:
        return f"{self.storage} on {self.node}"

    @property
    def percent(self) -> int:
        """Used share, 0–100."""
        return round(100 * self.used / self.total) if self.total else 0

    @property
    def remark(self) -> str:
        """What somebody should look at while the storage can still be used; empty for nothing."""
        if self.warning or self.error or self.percent < self.NEARLY_FULL:
            return self.warning
        return f"The storage is {self.percent} % full; what is written to thin disks may fail soon."


class Volume(models.Model):
    """One image. Its id is ``<storage>:<name>``, as in PVE.

    ``name`` is ``100/vm-100-disk-0.qcow2`` for a disk on a directory, ``iso/debian.iso`` for an ISO,
    ``import/debian-12.qcow2`` for an image that disks are made from.
    ``vmid`` is the owner (the number in the name): only its destroy removes the volume.
    ``base`` is the read-only volume a linked clone lies on; it stays while a clone needs it.
    ``notes``, ``protected``, ``made`` and ``checked`` are a backup's: what its maker wrote, that neither
    retention nor a person removes it, when it was begun, and when it was last verified.
    ``present`` is false once a scan no longer finds the file; the row stays, so that the error can say so.
    """

    class Content(models.TextChoices):
        IMAGES = "images", "Disk image"
        ISO = "iso", "ISO image"
        IMPORT = "import", "Image to import"
        BACKUP = "backup", "Backup"

    storage = models.ForeignKey(Storage, on_delete=models.PROTECT, related_name="volumes")
    node = models.ForeignKey(
        "vms.Node", on_delete=models.PROTECT, null=True, blank=True, help_text="Empty on a shared storage."
    )
    name = models.CharField(max_length=255)
    content = models.CharField(max_length=8, choices=Content)
    format = models.CharField(max_length=8)
    size = models.BigIntegerField(default=0, help_text="Virtual size in bytes.")
    vmid = models.PositiveIntegerField(null=True, blank=True, db_index=True)
    base = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, editable=False, related_name="clones"
    )
    present = models.BooleanField(default=True)
    sha256 = models.CharField(max_length=64, blank=True)
    used = models.BigIntegerField(default=0, help_text="Bytes it takes on the storage.")
    notes = models.TextField(blank=True)
    protected = models.BooleanField(default=False)
    made = models.DateTimeField(null=True, blank=True)
    checked = models.DateTimeField(null=True, blank=True)
    verdict = models.CharField(max_length=500, blank=True, help_text="ok, or what is wrong with it.")
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["storage", "name"]
        constraints = [
            models.UniqueConstraint(fields=["storage", "node", "name"], name="one_volume_per_name"),
            models.UniqueConstraint(
                fields=["storage", "name"], condition=models.Q(node=None), name="one_shared_volume_per_name"
            ),
        ]

    def __str__(self) -> str:
        return self.volid

    @property
    def volid(self) -> str:
        """``local:iso/debian.iso``"""
        return f"{self.storage.name}:{self.name}"

    @property
    def label(self) -> str:
        """What a person calls it: the last part of the name."""
        return self.name.rpartition("/")[2]
