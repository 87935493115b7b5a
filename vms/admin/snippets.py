"""Texts of somebody's own for cloud-init: looked at here, written on the page Snippets."""

from __future__ import annotations

from django.contrib import admin

from vms.admin.readonly import ReadOnlyAdmin, ReadOnlyInline
from vms.models import Snippet, SnippetVersion


class VersionInline(ReadOnlyInline):
    model = SnippetVersion
    fields = readonly_fields = ("number", "size", "comment", "username", "created")


@admin.register(Snippet)
class SnippetAdmin(ReadOnlyAdmin):
    """Every text with its history."""

    list_display = ["volid", "role", "modified"]
    list_filter = ["storage", "role"]
    search_fields = ["name"]
    inlines = [VersionInline]
