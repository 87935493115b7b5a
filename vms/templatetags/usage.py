"""Shares and rates in words."""

from __future__ import annotations

from typing import Any

from django import template

from vms.templatetags.ui import size

register = template.Library()


@register.filter
def percent(value: Any) -> str:
    """A share of 1 as ``3.2 %``."""
    if value in (None, ""):
        return "unknown"
    number = float(value) * 100
    return f"{number:.1f} %" if number < 10 else f"{number:.0f} %"


@register.filter
def rate(value: Any) -> str:
    """Bytes a second as ``1.5 MiB/s``."""
    return "unknown" if value in (None, "") else f"{size(float(value))}/s"
