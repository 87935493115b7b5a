"""Tickets as operators may see them: who, what and when; nothing that opens anything."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from console.models import ConsoleTicket


@admin.register(ConsoleTicket)
class ConsoleTicketAdmin(admin.ModelAdmin[ConsoleTicket]):
    """Read only."""

    list_display = ("vm", "kind", "port", "view_only", "user", "address", "created", "used")
    list_filter = ("kind", "view_only")
    list_select_related = ("vm", "user")
    fields = readonly_fields = (
        "vm", "kind", "port", "view_only", "user", "address", "created", "expires", "used",
    )  # fmt: skip

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
