"""Texts of somebody's own for cloud-init, with every version they had."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Snippet(models.Model):
    """A named text on a storage. Its id is ``<storage>:snippets/<name>``, as in PVE.

    ``role`` says which part of a seed it is written for and so by which rules it is looked at; a VM may use
    it for another part whose rules it keeps too.
    """

    class Role(models.TextChoices):
        USER = "user", "User data"
        NETWORK = "network", "Network settings"
        VENDOR = "vendor", "Vendor data"
        META = "meta", "Metadata"

    storage = models.ForeignKey("vms.Storage", on_delete=models.PROTECT, related_name="snippets")
    name = models.CharField(max_length=120)
    role = models.CharField(max_length=7, choices=Role, default=Role.USER)
    created = models.DateTimeField(auto_now_add=True)
    modified = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["storage", "name"]
        constraints = [models.UniqueConstraint(fields=["storage", "name"], name="one_snippet_per_name")]

    def __str__(self) -> str:
        return self.volid

    @property
    def volid(self) -> str:
        """``local:snippets/user.yaml``"""
        return f"{self.storage.name}:snippets/{self.name}"


class SnippetVersion(models.Model):
    """One version, never changed. The highest number is the one in use; restoring makes a new one."""

    snippet = models.ForeignKey(Snippet, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    text = models.TextField()
    sha256 = models.CharField(max_length=64)
    size = models.PositiveIntegerField(help_text="Bytes.")
    comment = models.CharField(max_length=200, blank=True)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    username = models.CharField(max_length=150, blank=True)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["snippet", "-number"]
        constraints = [models.UniqueConstraint(fields=["snippet", "number"], name="one_version_per_number")]

    def __str__(self) -> str:
        return f"{self.snippet_id} version {self.number}"


class SnippetFile(models.Model):
    """A file in a storage's folder ``snippets`` as one node last found it: our own image of a snippet, or
    something somebody put there."""

    storage = models.ForeignKey("vms.Storage", on_delete=models.CASCADE, related_name="snippet_files")
    node = models.ForeignKey("vms.Node", on_delete=models.CASCADE, related_name="snippet_files")
    name = models.CharField(max_length=255)
    size = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    problem = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["storage", "name"]
        constraints = [
            models.UniqueConstraint(fields=["storage", "node", "name"], name="one_snippet_file_per_name")
        ]

    def __str__(self) -> str:
        return f"{self.storage}:snippets/{self.name} on {self.node}"
