"""Nodes, storages and pools."""

from __future__ import annotations

import json

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from vms.admin.readonly import ReadOnlyAdmin, ReadOnlyInline
from vms.models import Node, Pool, Storage, StorageStatus, Volume

CONTENT = (
    ("images", "Disk images"), ("iso", "ISO images"), ("import", "Images to import"),
    ("snippets", "Snippets"), ("backup", "Backups"),
)  # fmt: skip


class StorageStatusInline(ReadOnlyInline):
    model = StorageStatus
    fields = readonly_fields = ("node", "total", "used", "available", "error", "seen")


@admin.register(Node)
class NodeAdmin(admin.ModelAdmin[Node]):
    """Nodes come by themselves: a worker makes its row at its first start."""

    list_display = ["name", "address", "online", "runs_guests_on", "heartbeat"]
    search_fields = ["name", "address"]
    fields = ["name", "address", "accelerator", "heartbeat", "measured"]
    readonly_fields = ["name", "heartbeat", "measured"]

    @admin.display(boolean=True, description="Worker online")
    def online(self, node: Node) -> bool:
        return node.online

    @admin.display(description="Accelerator")
    def runs_guests_on(self, node: Node) -> str:
        if not node.facts:
            return "not measured yet"
        return "KVM" if node.facts.get("kvm") else f"TCG: {node.facts.get('accel_reason', '')}"

    @admin.display(description="What the worker measured")
    def measured(self, node: Node) -> str:
        return json.dumps(node.facts, indent=1, sort_keys=True)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Node | None = None) -> bool:
        return False


class StorageForm(forms.ModelForm[Storage]):
    """A storage, its contents as boxes to tick."""

    content = forms.MultipleChoiceField(
        choices=CONTENT, widget=forms.CheckboxSelectMultiple, help_text="What may lie on this storage."
    )

    class Meta:
        model = Storage
        fields = ["name", "kind", "path", "content", "shared", "enabled"]

    def clean_path(self) -> str:
        path: str = self.cleaned_data["path"]  # absent from the form, and so from here, once volumes exist
        if not path.startswith("/") or "/../" in f"{path}/" or "\x00" in path:
            raise ValidationError("Write an absolute path without '..', for example /srv/images.")
        return path.rstrip("/") or "/"


@admin.register(Storage)
class StorageAdmin(admin.ModelAdmin[Storage]):
    form = StorageForm
    inlines = [StorageStatusInline]
    list_display = ["name", "kind", "path", "content", "shared", "enabled"]
    list_filter = ["kind", "enabled"]

    def get_readonly_fields(self, request: HttpRequest, obj: Storage | None = None) -> tuple[str, ...]:
        # Volume ids carry the name and files lie under the path: neither moves once volumes exist.
        return ("name", "kind", "path") if obj is not None and obj.volumes.exists() else ()

    def has_delete_permission(self, request: HttpRequest, obj: Storage | None = None) -> bool:
        # Removing a storage never removes files, but its rows would go; volumes and drives forbid it.
        if obj is None:
            return False
        unused = not obj.volumes.exists() and not obj.disks.exists()
        return unused and super().has_delete_permission(request, obj)


@admin.register(Volume)
class VolumeAdmin(ReadOnlyAdmin):
    list_display = ["volid", "content", "format", "size", "vmid", "node", "present", "protected", "verdict"]
    list_filter = ["content", "format", "present", "storage"]
    search_fields = ["name"]
    list_select_related = ["storage", "node"]


@admin.register(Pool)
class PoolAdmin(admin.ModelAdmin[Pool]):
    list_display = ["name", "comment"]
    search_fields = ["name", "comment"]
