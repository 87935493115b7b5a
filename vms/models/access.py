"""Who was given what, and what was done about it."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models

acl_path = RegexValidator(
    r"^/$|^(/[A-Za-z0-9._-]+)+$",
    "A path looks like / or /vms/101 or /storage/local, without a slash at the end.",
)


class AclEntry(models.Model):
    """A role given to a user or a group on a path (PVE's ACL)."""

    path = models.CharField(max_length=200, validators=[acl_path])
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="acl_entries"
    )
    group = models.ForeignKey(
        "auth.Group", on_delete=models.CASCADE, null=True, blank=True, related_name="acl_entries"
    )
    role = models.CharField(max_length=40)
    propagate = models.BooleanField(default=True, help_text="Also below the path.")

    class Meta:
        ordering = ["path"]
        verbose_name = "permission"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(user__isnull=False, group__isnull=True)
                | models.Q(user__isnull=True, group__isnull=False),
                name="acl_entry_for_one_user_or_one_group",
            )
        ]

    def __str__(self) -> str:
        return f"{self.role} on {self.path} for {self.user or self.group}"


class AuditEntry(models.Model):
    """What is no task and still has to be known: logins, permissions, uploads, consoles."""

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    username = models.CharField(max_length=150, blank=True)
    action = models.CharField(max_length=40)
    target = models.CharField(max_length=200, blank=True)
    address = models.CharField(max_length=45, blank=True)

    class Meta:
        ordering = ["-pk"]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.action} {self.target}"
