"""A host that runs guests."""

from __future__ import annotations

from datetime import timedelta

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone

HEARTBEAT_LIMIT = timedelta(seconds=15)
"""A worker beats every 5 s; three missed beats mean the node's state is not known."""

node_name = RegexValidator(
    r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$",
    "A node name is a host label: letters, digits and inner hyphens.",
)


class Node(models.Model):
    """One host with a worker.

    ``facts`` is what the worker measured at its start (:class:`vms.hardware.context.NodeFacts` as JSON);
    ``usage`` is the last look at how busy it is (:mod:`vms.worker.meter`);
    ``boot`` identifies the worker's present life, so that rows of an earlier life can be told apart.
    """

    class Accelerator(models.TextChoices):
        AUTO = "auto", "By probe"
        KVM = "kvm", "KVM, whatever the probe says"
        TCG = "tcg", "TCG (emulation)"

    name = models.CharField(max_length=63, unique=True, validators=[node_name])
    address = models.CharField(
        max_length=255, blank=True, help_text="Where browsers and other nodes reach it."
    )
    accelerator = models.CharField(
        max_length=4,
        choices=Accelerator,
        default=Accelerator.AUTO,
        help_text="By probe, a node uses KVM when it really runs guests and emulation (TCG) otherwise.",
    )
    facts = models.JSONField(default=dict, blank=True, editable=False)
    balloon_target = models.PositiveSmallIntegerField(
        default=80,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text="Percent of the node's memory in use above which guests with a minimum give memory back.",
    )
    usage = models.JSONField(default=dict, blank=True, editable=False)
    boot = models.CharField(max_length=32, blank=True, editable=False)
    heartbeat = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def online(self) -> bool:
        """Whether its worker has been heard of lately. Only then is a shown VM state an observed one."""
        return self.heartbeat is not None and timezone.now() - self.heartbeat < HEARTBEAT_LIMIT
