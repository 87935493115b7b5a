"""Property strings: ``virtio=AA:BB:…,bridge=vmbr0,firewall=1`` ⇄ a dataclass.

The rules are PVE's (``reference: pve-common JSONSchema``): comma-separated ``key=value``, one key may be
left out, values never hold a comma, booleans are 0 or 1, the keyless value comes first and the rest is
printed in alphabetical order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self

from vms.errors import ConfigError, ConfigErrors
from vms.schema.option import Option, option_table, options_of, shown

KEPT_LENGTH = 400
"""Longer texts are read anew each time, so that hostile ones fill no memory."""


@dataclass(frozen=True, kw_only=True)
class PropertyString:
    """Base of every option whose value is a property string. Subclasses declare fields with ``opt``."""

    ignored: ClassVar[frozenset[str]] = frozenset()
    """Obsolete sub-keys that are read and dropped without a word."""

    @classmethod
    def parse(cls, text: str, key: str) -> Self:
        """Read ``text``, the value of configuration key ``key``. Raises :class:`ConfigErrors`."""
        return cls._parsed(text, key) if len(text) + len(key) < KEPT_LENGTH else cls._parse(text, key)

    @classmethod
    @lru_cache(8192)  # one request reads the same few texts many times, and a part never changes
    def _parsed(cls, text: str, key: str) -> Self:
        return cls._parse(text, key)

    @classmethod
    def _parse(cls, text: str, key: str) -> Self:
        values, errors = cls._read(cls._split(text, key), key)
        if not errors:
            for option in options_of(cls):
                if option.required and option.attr not in values:
                    errors.append(ConfigError(key, f"{option.label} is missing", part=option.name))
        if errors:
            raise ConfigErrors(errors)
        made = cls(**values)
        made.check_parts(key)
        return made

    @classmethod
    def _split(cls, text: str, key: str) -> list[tuple[str, str]]:
        short = next((option for option in options_of(cls) if option.short), None)
        pairs: list[tuple[str, str]] = []
        for piece in text.split(","):
            if not piece.strip():
                raise ConfigError(
                    key, f"'{shown(text)}' has an empty part; write key=value, separated by commas"
                )
            name, equals, value = piece.partition("=")
            if equals and not (
                short is not None and not pairs and name not in option_table(cls) and "/" in name
            ):
                pairs.append((name.strip(), value.strip()))
            elif short is not None and all(seen != short.name for seen, _ in pairs):
                pairs.append((short.name, piece.strip()))
            else:
                raise ConfigError(key, f"'{shown(piece)}' has no name; write name={shown(piece)}")
        return pairs

    @classmethod
    def _read(cls, pairs: list[tuple[str, str]], key: str) -> tuple[dict[str, Any], list[ConfigError]]:
        table = option_table(cls)
        values: dict[str, Any] = {}
        errors: list[ConfigError] = []
        for name, text in pairs:
            if name in cls.ignored:
                continue
            option = table.get(name)
            if option is None:
                legal = ", ".join(sorted(o.name for o in options_of(cls) if not o.hidden))
                errors.append(ConfigError(key, f"'{shown(name)}' is not known here; known are {legal}"))
                continue
            if option.attr in values:
                errors.append(ConfigError(key, "is given twice", part=option.name))
                continue
            try:
                values[option.attr] = option.parse(text, key, option.name)
            except ConfigError as error:
                errors.append(error)
        return values, errors

    def check_parts(self, key: str) -> None:
        """Rules between the parts of this one string. Raises :class:`ConfigError`."""

    def format(self) -> str:
        """The canonical text: keyless value, required ones, then the rest alphabetically."""
        given = [(o, getattr(self, o.attr)) for o in options_of(type(self))]
        given = [(o, value) for o, value in given if value is not None]
        given.sort(key=lambda pair: (not pair[0].short, not pair[0].required, pair[0].name))
        return ",".join(self._pair(option, value) for option, value in given)

    def _pair(self, option: Option, value: Any) -> str:
        text = option.format(value)
        if "," in text:
            raise ConfigError(option.name, f"'{shown(text)}' holds a comma, which this format cannot carry")
        return text if option.short else f"{option.name}={text}"

    def value(self, name: str) -> Any:
        """The given value of option ``name``, or what its absence means."""
        option = option_table(type(self))[name]
        given = getattr(self, option.attr)
        return option.default if given is None else given
