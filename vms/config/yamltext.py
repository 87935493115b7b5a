"""Texts, numbers, lists and mappings as YAML that every reader of YAML understands alike.

A text stands bare only where no version of YAML takes it for something else (``yes``, ``1:30``, ``~``); any
other is quoted, everything beyond ASCII escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_BARE = re.compile(r"[A-Za-z][A-Za-z0-9_]*([ ./@+-]+[A-Za-z0-9_/+]+)*=*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def document(mapping: Mapping[str, Any]) -> str:
    """A mapping as a whole document, a key a line, with a line feed at its end."""
    return "\n".join([*_mapping(mapping, ""), ""])


def _mapping(mapping: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{scalar(key)}:"
            yield from _mapping(value, f"{indent}  ")
        elif isinstance(value, (list, tuple)) and value:
            yield f"{indent}{scalar(key)}:"
            yield from _sequence(value, f"{indent}  ")
        else:
            yield f"{indent}{scalar(key)}: {scalar(value)}"


def _sequence(values: Sequence[Any], indent: str) -> Iterator[str]:
    for value in values:
        if value and isinstance(value, (Mapping, list, tuple)):
            first, *rest = _inside(value, f"{indent}  ")
            yield f"{indent}- {first.lstrip()}"
            yield from rest
        else:
            yield f"{indent}- {scalar(value)}"


def _inside(value: Mapping[str, Any] | Sequence[Any], indent: str) -> Iterator[str]:
    return _mapping(value, indent) if isinstance(value, Mapping) else _sequence(value, indent)


def scalar(value: Any) -> str:
    """One value on one line. Raises ``TypeError`` for what has no such form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (Mapping, list, tuple)) and not value:
        return "{}" if isinstance(value, Mapping) else "[]"
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is no value of a document")
    if _BARE.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return f'"{"".join(_sign(sign) for sign in value)}"'


def _sign(sign: str) -> str:
    if sign in _SHORT:
        return _SHORT[sign]
    number = ord(sign)
    if 32 <= number < 127:
        return sign
    if number < 0x100:
        return f"\\x{number:02X}"
    return f"\\u{number:04X}" if number < 0x10000 else f"\\U{number:08X}"
