"""Options by name: found in the schema, read from a configuration, written into it.

A name is a configuration key (``cores``) or a part of one (``cpu.cputype``, ``net0.tag``). Values are texts,
"" meaning absent; yes/no options always read as "1" or "0".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from django import forms

from vms.errors import ConfigError
from vms.forms.fields import OptionField, OptionFlag
from vms.hardware import OPTIONS, part_of
from vms.schema.option import Option, option_table, options_of
from vms.schema.propstring import PropertyString


def split_name(name: str) -> tuple[str, str]:
    """``cpu.cputype`` → ``("cpu", "cputype")``; a plain key has no part."""
    key, _, part = name.partition(".")
    return key, part


def option_at(name: str) -> Option:
    """The declared option called ``name``. Raises ``KeyError`` when the schema has none."""
    key, part = split_name(name)
    if not part:
        return OPTIONS[key]
    return option_table(_kind(key))[part]


def _kind(key: str) -> type[PropertyString]:
    kind = part_of(key)
    if kind is None:
        raise KeyError(f"{key} is no property string")
    return kind


def decompose(key: str, text: str) -> dict[str, str]:
    """The parts of a property string as texts; an option not given is not there. Raises ConfigErrors."""
    if not text:
        return {}
    part = _kind(key).parse(text, key)
    given = {option.name: (option, getattr(part, option.attr)) for option in options_of(type(part))}
    return {name: option.format(value) for name, (option, value) in given.items() if value is not None}


def compose(key: str, values: Mapping[str, str], base: str = "") -> str:
    """``base`` with ``values`` laid over it, in canonical form; a part of "" is taken out.

    Parts that are not named in ``values`` stay as they are. Empty when nothing is left.
    Raises :class:`ConfigError` on the part at fault.
    """
    kind = _kind(key)
    table = option_table(kind)
    texts = {**decompose(key, base), **values}
    parsed: dict[str, Any] = {}
    for name, text in texts.items():
        if text != "":
            if "," in text:
                raise ConfigError(key, "a comma cannot stand here; remove it", part=name)
            parsed[table[name].attr] = table[name].parse(text, key, name)
    if not parsed:
        return ""
    for option in options_of(kind):
        if option.required and option.attr not in parsed:
            raise ConfigError(key, f"{option.label} is missing", part=option.name)
    made = kind(**parsed)
    made.check_parts(key)
    return made.format()


def read(mapping: Mapping[str, str], name: str) -> str:
    """The text of option ``name`` in a configuration. Unreadable values read as absent."""
    key, part = split_name(name)
    option = option_at(name)
    text = mapping.get(key, "")
    if part:
        try:
            text = decompose(key, text).get(option.name, "")
        except ConfigError:
            text = ""
    return _flag(option, text) if option.kind == "bool" else text


def _flag(option: Option, text: str) -> str:
    if text == "":
        return "1" if option.default else "0"
    return "1" if option.parse(text) else "0"


def stored(option: Option, text: str) -> str:
    """What a configuration holds for a form's ``text``: nothing where absence means the same."""
    if option.kind == "bool" and text == ("1" if option.default else "0"):
        return ""
    return text


def write(mapping: MutableMapping[str, str], name: str, text: str) -> None:
    """Put option ``name`` into a configuration; "" (or a yes/no's default) takes it out."""
    key, part = split_name(name)
    value = stored(option_at(name), text)
    if part:
        value = compose(key, {part: value}, mapping.get(key, ""))
    if value == "":
        mapping.pop(key, None)
    else:
        mapping[key] = value


class OptionForm(forms.Form):
    """A form of option fields, always bound: ``values`` are texts as :func:`read` gives them."""

    use_required_attribute = False

    def __init__(
        self, fields: Mapping[str, OptionField | OptionFlag], values: Mapping[str, str], *, prefix: str = "f"
    ) -> None:
        data = {name: text for name, text in values.items() if not _unticked(fields.get(name), text)}
        super().__init__(data=data, auto_id=f"{prefix}-%s")
        for name, field in fields.items():
            if field.absent:
                continue
            self.fields[name] = field
            if field.why_not:
                field.widget.attrs |= {"disabled": True, "title": field.why_not}

    def blame(self, errors: Mapping[str, str]) -> None:
        """Put ``errors`` (field → sentence) on their fields; those of unknown fields on the form."""
        self.full_clean()
        for name, text in errors.items():
            if name in self.fields and not self.fields[name].widget.attrs.get("disabled"):
                if name not in self.errors:
                    self.add_error(name, text)
            else:
                self.add_error(None, text)

    def texts(self) -> dict[str, str]:
        """The canonical texts of all fields without an error."""
        self.full_clean()
        return {name: str(value) for name, value in self.cleaned_data.items()}

    def group(self, names: Iterable[str]) -> list[forms.BoundField]:
        """The bound fields of ``names`` that are shown, in that order."""
        return [self[name] for name in names if name in self.fields]


def _unticked(field: OptionField | OptionFlag | None, text: str) -> bool:
    return isinstance(field, OptionFlag) and text in ("", "0")
