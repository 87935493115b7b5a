"""An option of the schema as a form field.

Nothing about the option is said here: label, help, limits, choices and the check itself come from its
:class:`~vms.schema.option.Option`. A field's value is PVE's *text* ("1", "virtio", ""); the empty text means
that the option is absent.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Self

from django import forms

from vms.errors import ConfigError
from vms.forms.widgets import Choice, Text, Tick
from vms.schema.option import Option

TYPED_LIMIT = 16_384
"""Longer texts are refused unread; nothing a person types comes near it."""

Choices = Sequence[tuple[str, Any]]
"""``(value, label)`` pairs, or ``(group, pairs)`` for a grouped list."""


class Words:
    """What a page shows around a field, besides Django's label and help.

    ``note`` is a live remark (free space, total cores); ``why_not`` says why the field is disabled;
    ``advanced`` fields stand in the part the Advanced toggle opens; ``absent`` ones are not shown at all now.
    ``comparison`` is the words and the template of a table that compares the choices.
    """

    option: Option
    widget: forms.Widget
    note: str = ""
    why_not: str = ""
    advanced: bool = False
    absent: bool = False
    comparison: tuple[str, str] | None = None

    def fresh(self) -> Self:
        """A copy of this field for one page, which may change its words, its control and what it takes."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.widget = copy.copy(self.widget)
        twin.widget.attrs = dict(self.widget.attrs)
        return twin

    @property
    def otherwise(self) -> str:
        return self.option.otherwise

    @property
    def why(self) -> str:
        return self.option.why

    @property
    def unit(self) -> str:
        return self.option.unit

    @property
    def kind(self) -> str:
        return self.option.kind


class OptionField(Words, forms.CharField):
    """A number, a text or a choice. ``inside`` marks a part of a property string, which holds no comma."""

    def __init__(
        self, option: Option, *, required: bool = False, inside: bool = False, choices: Choices | None = None
    ) -> None:
        self.option = option
        self.inside = inside
        self.advanced = option.advanced
        self.offered = choices
        super().__init__(
            label=option.label, help_text=option.help, required=required, strip=True, widget=_widget(self)
        )
        self.error_messages["required"] = f"{option.label} is missing; {_ask(self)}"

    def clean(self, value: Any) -> str:
        """The canonical text. Raises Django's ``ValidationError`` with the schema's own sentence."""
        raw = str(value or "")
        if len(raw) > TYPED_LIMIT:
            raise forms.ValidationError(f"is longer than {TYPED_LIMIT} characters, shorten it")
        text = raw.strip(" ")
        if not text:
            if self.required:
                raise forms.ValidationError(self.error_messages["required"], code="required")
            return ""
        try:
            parsed = self.option.parse(text)
        except ConfigError as error:
            raise forms.ValidationError(sentence(error)) from None
        if self.inside and "," in text:
            raise forms.ValidationError("A comma cannot stand here; remove it.")
        self._offered(text)
        return self.option.format(parsed)

    def _offered(self, text: str) -> None:
        if self.offered is not None and text not in {value for value, _ in flat(self.offered)}:
            raise forms.ValidationError(f"'{text[:60]}' is not offered here; choose one from the list.")


class OptionFlag(Words, forms.BooleanField):
    """A yes or no; its text is "1" or "0"."""

    def __init__(self, option: Option) -> None:
        self.option = option
        self.advanced = option.advanced
        super().__init__(label=option.label, help_text=option.help, required=False, widget=Tick())

    def clean(self, value: Any) -> str:
        return "1" if super().clean(value) else "0"


def form_field(
    option: Option, *, required: bool = False, inside: bool = False, choices: Choices | None = None
) -> OptionField | OptionFlag:
    """The form field of ``option``. ``choices`` narrows or fills what can be chosen here and now."""
    # Making a field is slow and a page asks for a hundred: copies of one that nobody touches are handed out.
    made = _pattern(option, required, inside, choices is not None).fresh()
    if choices is not None and isinstance(made, OptionField):
        made.offered = choices
        made.widget = Choice(choices=list(choices))
    return made


@lru_cache(1024)
def _pattern(option: Option, required: bool, inside: bool, offered: bool) -> OptionField | OptionFlag:
    if offered:
        return OptionField(option, required=required, inside=inside, choices=())
    if option.kind == "bool":
        return OptionFlag(option)
    choices = enum_choices(option, required=required) if option.kind == "enum" else None
    return OptionField(option, required=required, inside=inside, choices=choices)


def enum_choices(option: Option, *, required: bool = False) -> list[tuple[str, str]]:
    """An option's values; first "Default (…)", which leaves the option absent, unless one must be given."""
    labels = dict(option.choices)
    if required:
        return list(option.choices)
    meaning = labels.get(str(option.default), "") if option.default is not None else ""
    return [("", f"Default ({meaning})" if meaning else "Default"), *option.choices]


def flat(choices: Choices) -> list[tuple[str, str]]:
    """Grouped choices without their groups."""
    pairs: list[tuple[str, str]] = []
    for value, label in choices:
        if isinstance(label, (list, tuple)):
            pairs += [(str(v), str(text)) for v, text in label]
        else:
            pairs.append((str(value), str(label)))
    return pairs


def sentence(error: ConfigError) -> str:
    """An error's words, fit to stand under its field."""
    text = error.text[:1].upper() + error.text[1:]
    text = text if text.endswith((".", "…", "?")) else f"{text}."
    return f"{text} {error.hint}".strip()


def _ask(field: OptionField) -> str:
    if field.offered is not None:
        return "choose one."
    return "write a number." if field.option.kind in ("int", "float") else "write one."


def _widget(field: OptionField) -> forms.Widget:
    """The control. Numbers are text with a number pad: a browser empties a wrong ``type=number``."""
    option = field.option
    if field.offered is not None:
        return Choice(choices=list(field.offered))
    attrs: dict[str, Any] = {"autocomplete": "off", "spellcheck": "false"}
    if option.kind in ("int", "float"):
        attrs |= {"inputmode": "numeric" if option.kind == "int" else "decimal", "class": "input-number"}
    placeholder = option.placeholder or (
        option.format(option.default) if option.default is not None and option.kind != "bool" else ""
    )
    if placeholder:
        attrs["placeholder"] = placeholder
    return Text(attrs=attrs)
