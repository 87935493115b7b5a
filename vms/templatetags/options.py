"""The words around an option's field, which are the same on every page: rendered once a process."""

from __future__ import annotations

from functools import lru_cache

from django import template
from django.forms import BoundField
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag
def option_help(field: BoundField) -> SafeString:
    """One line of help with the longer words and the comparison of the choices behind it."""
    words = field.field
    longer = (getattr(words, "otherwise", ""), getattr(words, "why", ""))
    return _help(
        field.auto_id, field.html_name, str(field.help_text), longer, getattr(words, "comparison", None)
    )


@lru_cache(4096)
def _help(
    auto_id: str, name: str, text: str, longer: tuple[str, str], comparison: tuple[str, str] | None
) -> SafeString:
    context = {
        "auto_id": auto_id, "name": name, "text": text, "otherwise": longer[0], "why": longer[1],
        "comparison": comparison,
    }  # fmt: skip
    return render_to_string("components/option_help.html", context)
