"""An option told to machines (JSON Schema) and to people (help)."""

from __future__ import annotations

from typing import Any

from vms.schema.option import Option, options_of

_TYPES = {"bool": "boolean", "int": "integer", "float": "number", "enum": "string", "str": "string"}


def json_schema(option: Option) -> dict[str, Any]:
    """The JSON Schema of one option's value."""
    found: dict[str, Any] = {"type": _TYPES[option.kind], "title": option.label}
    if option.help:
        found["description"] = option.help
    if option.choices:
        found["enum"] = [value for value, _ in option.choices]
    for name, value in (
        ("default", option.default),
        ("minimum", option.minimum),
        ("maximum", option.maximum),
        ("maxLength", option.max_length),
        ("pattern", f"^(?:{option.pattern})$" if option.pattern else None),
    ):
        if value is not None:
            found[name] = value
    return found


def part_schema(cls: type) -> dict[str, Any]:
    """The JSON Schema of a dataclass of options, as an object."""
    options = options_of(cls)
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {option.name: json_schema(option) for option in options},
        "required": [option.name for option in options if option.required],
    }


def help_text(option: Option) -> str:
    """The three sentences of an option, with its limits."""
    limits = ""
    if option.minimum is not None or option.maximum is not None:
        low = "" if option.minimum is None else f"{option.minimum:g}"
        high = "" if option.maximum is None else f"{option.maximum:.0f}"
        unit = f" {option.unit}" if option.unit else ""
        limits = f"Allowed: {low} … {high}{unit}."
    return " ".join(filter(None, (option.help, option.otherwise, option.why, limits)))
