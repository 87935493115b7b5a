"""The controls' markup is what Django's own templates would write."""

from __future__ import annotations

import re
from typing import Any

import django
import pytest
from django.conf import settings

if not settings.configured:
    django.setup()

from django import forms

from vms.forms.fields import form_field
from vms.forms.hardware import option_at
from vms.forms.widgets import Choice, Text, Tick

ATTRS = {"id": "f-x", "disabled": True, "aria-describedby": "x_helptext", "hidden": False}
CHOICES = [("", "Default <x>"), ("Group & co", [("a", 'A "1"'), ("b", "B")]), ("c", "C")]


def words(markup: str) -> list[str]:
    """The markup without blanks between tags, and with attributes in no order."""
    return sorted(re.findall(r"[^\s<>]+", re.sub(r">\s+<", "><", markup)))


@pytest.mark.parametrize("value", ["", "a", "c", "zz", None])
def test_a_list(value: str | None) -> None:
    theirs = forms.Select(choices=CHOICES, attrs={"class": "wide"}).render("x", value, ATTRS)
    assert words(Choice(choices=CHOICES, attrs={"class": "wide"}).render("x", value, ATTRS)) == words(theirs)


@pytest.mark.parametrize("value", ["", None, '">&<script>', "1"])
def test_a_line(value: str | None) -> None:
    theirs = forms.TextInput(attrs={"placeholder": "a,b"}).render("x", value, ATTRS)
    assert words(Text(attrs={"placeholder": "a,b"}).render("x", value, ATTRS)) == words(theirs)


@pytest.mark.parametrize("value", [True, False, None])
def test_a_tick(value: Any) -> None:
    assert words(Tick().render("x", value, ATTRS)) == words(forms.CheckboxInput().render("x", value, ATTRS))


def test_fields_of_one_option_do_not_share_what_a_page_changes() -> None:
    first, second = form_field(option_at("cores")), form_field(option_at("cores"))
    first.widget.attrs["placeholder"] = "8"
    first.note = "Many."
    first.required = True
    assert (second.widget.attrs.get("placeholder"), second.note, second.required) == ("1", "", False)
