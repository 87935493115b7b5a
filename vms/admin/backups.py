"""Backup jobs, under the rules of the page; the backups themselves are volumes and only looked at."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from vms.errors import ConfigErrors
from vms.models import BackupJob
from vms.operations import jobrows


class BackupJobForm(forms.ModelForm[BackupJob]):
    """A job as its columns; what the rules say stands at the column."""

    class Meta:
        model = BackupJob
        fields = [
            "name", "enabled", "owner", "schedule", "repeat_missed", "storage", "node", "all_vms", "vmids",
            "exclude", "pool", "mode", "compress", "keep", "limit", "notes", "fleecing", "comment",
        ]  # fmt: skip

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        try:
            jobrows.check(self.instance)
        except ConfigErrors as errors:
            for error in errors:
                text = error.text[:1].upper() + error.text[1:] + "."
                self.add_error(error.key if error.key in self.fields else None, text)


@admin.register(BackupJob)
class BackupJobAdmin(admin.ModelAdmin[BackupJob]):
    """Unlike on its page, whose job it is can be chosen here: operators may everything anyhow."""

    form = BackupJobForm
    list_display = ["name", "enabled", "schedule", "storage", "next_run", "last_run", "owner"]
    list_filter = ["enabled", "storage"]
    search_fields = ["name", "comment"]
    readonly_fields = ["last_run", "next_run"]
    autocomplete_fields = ["owner"]

    def save_model(self, request: HttpRequest, obj: BackupJob, form: Any, change: bool) -> None:
        obj.next_run = jobrows.reckon(obj)
        super().save_model(request, obj, form, change)
