"""The one-time right to open a screen."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class ConsoleTicket(models.Model):
    """A promise to one browser session: open this VM's console once, within seconds, during this run.

    Only SHA-256 digests are stored, of the token and of the session key: who reads the table can open
    nothing. ``run_id`` is the VM's at the time of minting, so a ticket does not outlive a restart.
    """

    class Kind(models.TextChoices):
        VNC = "vnc", "Screen"
        SERIAL = "serial", "Serial line"
        SPICE = "spice", "SPICE in the page"
        VIEWER = "viewer", "SPICE viewer program"

    digest = models.CharField(max_length=64, unique=True, editable=False)
    session = models.CharField(max_length=64, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="console_tickets", editable=False
    )
    vm = models.ForeignKey("vms.VM", on_delete=models.CASCADE, related_name="console_tickets", editable=False)
    run_id = models.CharField(max_length=32, editable=False)
    kind = models.CharField(max_length=6, choices=Kind, default=Kind.VNC, editable=False)
    port = models.PositiveSmallIntegerField(default=0, editable=False)
    view_only = models.BooleanField(default=False, editable=False)
    address = models.CharField(max_length=45, blank=True, editable=False)
    created = models.DateTimeField(auto_now_add=True)
    expires = models.DateTimeField(db_index=True, editable=False)
    used = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of VM {self.vm_id} for {self.user_id}"


class KeyCombination(models.Model):
    """Keys that one user presses often, by QEMU's names: ``ctrl-alt-f7``. Offered in the Keys menu."""

    MOST = 24
    """Of one user: a menu is not longer than a screen."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="key_combinations"
    )
    label = models.CharField(max_length=40, help_text="What the menu says.")
    keys = models.CharField(max_length=100)

    class Meta:
        ordering = ["label", "pk"]
        constraints = [models.UniqueConstraint(fields=["user", "keys"], name="one_combination_once")]

    def __str__(self) -> str:
        return f"{self.label} ({self.keys})"
