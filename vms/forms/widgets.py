"""The controls of option fields. They write the markup Django's own would, without a template for each
``<option>``: a page of the wizard holds some hundred of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django import forms
from django.forms.utils import flatatt
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString


class Text(forms.TextInput):
    """A line of text."""

    def render(
        self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None
    ) -> SafeString:
        text = self.format_value(value)
        given = {} if text is None else {"value": text}
        rest = flatatt(given | self.build_attrs(self.attrs, attrs))
        return format_html('<input type="{}" name="{}"{}>', self.input_type, name, rest)


class Tick(forms.CheckboxInput):
    """A box to tick."""

    def render(
        self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None
    ) -> SafeString:
        rest = flatatt(self.build_attrs(self.attrs, attrs) | {"checked": self.check_test(value)})
        return format_html('<input type="checkbox" name="{}"{}>', name, rest)


class Choice(forms.Select):
    """A list to choose one from, with groups or without. ``choices`` are pairs already."""

    def __init__(self, attrs: dict[str, Any] | None = None, choices: Sequence[Any] = ()) -> None:
        super().__init__(attrs)
        self._choices = choices

    def render(
        self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None
    ) -> SafeString:
        chosen = "" if value is None else str(value)
        rest = flatatt(self.build_attrs(self.attrs, attrs))
        return format_html('<select name="{}"{}>{}</select>', name, rest, _entries(self.choices, chosen))


def _entries(choices: Iterable[Any], chosen: str) -> SafeString:
    return format_html_join("", "{}", ((_entry(value, label, chosen),) for value, label in choices))


def _entry(value: Any, label: Any, chosen: str) -> SafeString:
    if isinstance(label, (list, tuple)):
        return format_html('<optgroup label="{}">{}</optgroup>', value, _entries(label, chosen))
    selected = flatatt({"selected": str(value) == chosen})
    return format_html('<option value="{}"{}>{}</option>', value, selected, label)
