"""Nodes, storages and pools."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from vms.admin.readonly import ReadOnlyAdmin, ReadOnlyInline
from vms.errors import ConfigError, ConfigErrors
from vms.models import Node, Pool, Storage, StorageStatus, Volume
from vms.operations.storages import CONTENT_WORDS, Wish, check_new, checked

CONTENT = tuple(CONTENT_WORDS.items())


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
        fields = ["name", "kind", "path", "options", "content", "shared", "enabled"]

    def clean(self) -> dict[str, Any]:
        """The same check as at every other door; what kind and place a storage has stays once it is used."""
        found = super().clean() or {}
        options = found.get("options", self.instance.options) or {}
        if not isinstance(options, dict) or self.errors:
            raise ValidationError("The options are a JSON object of PVE's names.")
        path = found.get("path", self.instance.path)
        texts = {str(key): str(value) for key, value in ({"path": path} | options).items() if value != ""}
        wish = Wish(
            name=found.get("name", self.instance.name), kind=found.get("kind", self.instance.kind),
            options=texts, content=tuple(found.get("content", ())),
        )  # fmt: skip
        try:
            parsed = checked(wish)
            check_new(wish, parsed, self.instance if self.instance.pk else None)
        except (ConfigError, ConfigErrors) as error:
            for single in error.errors if isinstance(error, ConfigErrors) else (error,):
                known = {"storage": "name", "type": "kind"}.get(single.key, single.key)
                name = known if known in self.fields else "options" if "options" in self.fields else None
                self.add_error(name, single.text if name else str(single))
            return found
        if "path" in self.fields:
            found["path"] = str(parsed.pop("path", ""))
            found["options"] = parsed
        return found


@admin.register(Storage)
class StorageAdmin(admin.ModelAdmin[Storage]):
    form = StorageForm
    inlines = [StorageStatusInline]
    list_display = ["name", "kind", "path", "content", "shared", "enabled"]
    list_filter = ["kind", "enabled"]

    def get_readonly_fields(self, request: HttpRequest, obj: Storage | None = None) -> tuple[str, ...]:
        # Volume ids carry the name and files lie under the path: neither moves once volumes exist.
        return ("name", "kind", "path", "options") if obj is not None and obj.volumes.exists() else ()

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
