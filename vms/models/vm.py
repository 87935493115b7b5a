"""A virtual machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.urls import reverse

if TYPE_CHECKING:
    from django.db.models.query import QuerySet

VMID_MIN, VMID_MAX = 100, 999_999_999
"""Legal VM IDs (PVE)."""


class DefinedManager(models.Manager["VM"]):
    """The VMs that exist: neither drafts nor trash."""

    def get_queryset(self) -> QuerySet[VM]:
        return super().get_queryset().filter(stage=VM.Stage.DEFINED)


class VM(models.Model):
    """A machine, or the draft of one.

    ``status`` is what was last observed of its process, ``lock`` what is being done to it (PVE's words),
    ``launch`` the record of its present or last run: pid, start time, machine version, configuration.
    ``options`` holds every configuration key that has no column, ``pending`` what waits for a cold start.
    ``usage`` is the last look at how busy it is (:mod:`vms.worker.meter`).
    ``parent`` is the snapshot the current state comes from. ``vmstate`` holds saved memory (of a hibernated
    VM, or of a template whose clones begin running) and ``saved`` what is needed to read it again.
    ``guard`` says why and by whom protection was switched on; ``trash`` who threw the VM away and when, and
    ``purge_after`` when it goes for good. ``seed`` is what the cloud-init drive was last made from:
    ``values``, the keys as :func:`vms.config.seeds.sources` gives them; ``custom``, part → SHA-256 of the
    text somebody wrote for it; ``written``, when (ISO 8601).
    ``foreign`` holds keys of an imported file that nobody here knows: they stand in the VM's file and do
    nothing.
    Read the configuration with :func:`vms.models.configuration.config_of`; write it with ``save_config``.
    """

    class Stage(models.TextChoices):
        DRAFT = "draft", "Draft"
        DEFINED = "defined", "Defined"
        TRASH = "trash", "In the trash"

    class Status(models.TextChoices):
        STOPPED = "stopped", "Stopped"
        RUNNING = "running", "Running"
        PAUSED = "paused", "Paused"
        PRELAUNCH = "prelaunch", "Not started yet"
        SUSPENDED = "suspended", "Suspended"
        IO_ERROR = "io-error", "Disk error"
        INTERNAL_ERROR = "internal-error", "QEMU error"
        GUEST_PANICKED = "guest-panicked", "Guest crashed"
        SHUTDOWN = "shutdown", "Powered off"
        UNKNOWN = "unknown", "Unknown"

    vmid = models.PositiveIntegerField(
        "VM ID", unique=True, validators=[MinValueValidator(VMID_MIN), MaxValueValidator(VMID_MAX)]
    )
    node = models.ForeignKey("vms.Node", on_delete=models.PROTECT, related_name="vms")
    pool = models.ForeignKey("vms.Pool", on_delete=models.SET_NULL, null=True, blank=True, related_name="vms")
    stage = models.CharField(max_length=7, choices=Stage, default=Stage.DRAFT, db_index=True)
    name = models.CharField(max_length=253, blank=True)
    tags = models.CharField(max_length=500, blank=True, help_text="Lower case, sorted, parted by ';'.")
    ostype = models.CharField(max_length=8, blank=True)
    template = models.BooleanField(default=False)
    cores = models.PositiveIntegerField(null=True, blank=True)
    memory = models.PositiveBigIntegerField(null=True, blank=True, help_text="MiB.")
    options = models.JSONField(default=dict, blank=True)
    pending = models.JSONField(default=dict, blank=True)
    foreign = models.JSONField(default=dict, blank=True, editable=False)
    digest = models.CharField(max_length=40, blank=True, editable=False)
    parent = models.ForeignKey(
        "vms.Snapshot", on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )
    vmstate = models.ForeignKey(
        "vms.Volume", on_delete=models.PROTECT, null=True, blank=True, editable=False, related_name="states"
    )
    saved = models.JSONField(default=dict, blank=True, editable=False)
    guard = models.JSONField(default=dict, blank=True, editable=False)
    trash = models.JSONField(default=dict, blank=True, editable=False)
    seed = models.JSONField(default=dict, blank=True, editable=False)
    purge_after = models.DateTimeField(null=True, blank=True, db_index=True, editable=False)

    status = models.CharField(max_length=16, choices=Status, default=Status.STOPPED, editable=False)
    status_since = models.DateTimeField(null=True, blank=True, editable=False)
    lock = models.CharField(max_length=20, blank=True, editable=False)
    run_id = models.CharField(max_length=32, blank=True, editable=False)
    launch = models.JSONField(default=dict, blank=True, editable=False)
    usage = models.JSONField(default=dict, blank=True, editable=False)
    agent = models.JSONField(default=dict, blank=True, editable=False)

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="vms"
    )
    draft = models.JSONField(default=dict, blank=True, editable=False)
    created = models.DateTimeField(auto_now_add=True)
    modified = models.DateTimeField(auto_now=True)

    everything = models.Manager()
    objects = DefinedManager()

    class Meta:
        ordering = ["vmid"]
        verbose_name = "VM"
        base_manager_name = "everything"
        default_manager_name = "objects"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(vmid__gte=VMID_MIN, vmid__lte=VMID_MAX), name="vmid_in_pve_range"
            )
        ]

    def __str__(self) -> str:
        return f"{self.vmid} ({self.display_name})"

    def get_absolute_url(self) -> str:
        return reverse("vms:vm_summary", args=[self.vmid])

    @property
    def display_name(self) -> str:
        """Its name, or PVE's stand-in for a nameless VM."""
        return self.name or f"VM {self.vmid}"

    @property
    def path(self) -> str:
        """Its place in the tree of privileges."""
        return f"/vms/{self.vmid}"

    @property
    def running(self) -> bool:
        """Whether a QEMU process was last seen (running, paused or in trouble)."""
        return self.status not in (self.Status.STOPPED, self.Status.UNKNOWN)

    @property
    def tag_list(self) -> list[str]:
        return [tag for tag in self.tags.split(";") if tag]
