"""Permissions and the audit."""

from __future__ import annotations

from django import forms
from django.contrib import admin

from vms.access import ROLES
from vms.admin.readonly import ReadOnlyAdmin
from vms.models import AclEntry, AuditEntry


class AclEntryForm(forms.ModelForm[AclEntry]):
    """A role from the list on a path."""

    role = forms.ChoiceField(choices=[(name, name) for name in sorted(ROLES)])

    class Meta:
        model = AclEntry
        fields = ["path", "user", "group", "role", "propagate"]


@admin.register(AclEntry)
class AclEntryAdmin(admin.ModelAdmin[AclEntry]):
    form = AclEntryForm
    list_display = ["path", "user", "group", "role", "propagate"]
    list_filter = ["role"]
    search_fields = ["path", "user__username", "group__name"]
    autocomplete_fields = ["user", "group"]


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ["at", "username", "action", "target", "address"]
    list_filter = ["action"]
    search_fields = ["username", "target"]
    date_hierarchy = "at"
