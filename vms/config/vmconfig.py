"""A configuration, parsed and checked: the flat mapping of PVE key → PVE text, with typed access."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Self

from vms.errors import ConfigError, ConfigErrors
from vms.hardware import DRIVE_SLOTS, OPTIONS, SLOTS, part_of, slot_of
from vms.schema.option import CONTROL, shown
from vms.schema.propstring import PropertyString

ALIASES = {"cdrom": "ide2"}
"""Keys that are read under another name."""


def parse_value(key: str, text: str) -> Any:
    """The typed value of one key. Raises :class:`ConfigError` or :class:`ConfigErrors` on that key."""
    part = part_of(key)
    if part is not None:
        if CONTROL.search(text):
            raise ConfigError(key, "holds a control character or line break, remove it")
        return part.parse(text, key)
    option = OPTIONS.get(key)
    if option is None:
        raise ConfigError(key, f"'{shown(key)}' is no option of a virtual machine")
    if key == "description":
        # Notes are the one text with several lines.
        option.parse(text.replace("\n", " ").replace("\t", " ").replace("\r", " "), key)
        return text
    return option.parse(text, key)


@cache
def _default(key: str) -> Any:
    """What the absence of a plain key means."""
    default, part = OPTIONS[key].default, part_of(key)
    return part.parse(str(default), key) if part is not None and default is not None else default


class VMConfig:
    """One machine's configuration. ``mapping`` is what was given, key by key, text by text."""

    def __init__(self, mapping: Mapping[str, str], values: Mapping[str, Any]) -> None:
        self.mapping: Mapping[str, str] = MappingProxyType(dict(mapping))
        self._values = MappingProxyType(dict(values))
        self._slots: dict[str, tuple[tuple[str, int, Any], ...]] = {}

    @classmethod
    def parse(cls, mapping: Mapping[str, str]) -> Self:
        """Parse every value. Raises :class:`ConfigErrors` with one error per wrong value."""
        values: dict[str, Any] = {}
        errors: list[ConfigError] = []
        kept: dict[str, str] = {}
        for given, text in mapping.items():
            key = ALIASES.get(given, given)
            kept[key] = text
            try:
                values[key] = parse_value(key, text)
            except ConfigErrors as error:
                errors.extend(error)
            except ConfigError as error:
                errors.append(error)
        if errors:
            raise ConfigErrors(errors)
        return cls(kept, values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def get(self, key: str) -> Any:
        """The parsed value of ``key``, or ``None`` when absent."""
        return self._values.get(key)

    def value(self, key: str) -> Any:
        """The parsed value of ``key``, or what its absence means."""
        found = self._values.get(key)
        if found is None and key == "sockets":
            found = self._values.get("smp")
        if found is not None or key not in OPTIONS:
            return found
        return _default(key)

    def part(self, key: str, kind: type[PropertyString]) -> Any:
        """The part at ``key``, an empty one of ``kind`` when absent."""
        found = self._values.get(key)
        return kind() if found is None else found

    def slots(self, name: str) -> Iterator[tuple[str, int, Any]]:
        """``(key, index, part)`` of every used slot of a kind, lowest index first."""
        if name not in self._slots:
            slot = next((slot for slot in SLOTS if slot.name == name), None)
            keys = slot.keys() if slot is not None else []
            used = [(key, index) for index, key in enumerate(keys) if key in self._values]
            self._slots[name] = tuple((key, index, self._values[key]) for key, index in used)
        yield from self._slots[name]

    def drives(self) -> Iterator[tuple[str, int, Any]]:
        """``(key, index, drive)`` of every disk and CD drive, in QEMU's order."""
        for name in DRIVE_SLOTS:
            yield from self.slots(name)

    def restricted(self, keep: Callable[[str], bool]) -> VMConfig:
        """This configuration with only the keys that ``keep`` accepts."""
        return VMConfig(
            {key: text for key, text in self.mapping.items() if keep(key)},
            {key: value for key, value in self._values.items() if keep(key)},
        )

    def canonical(self) -> dict[str, str]:
        """The mapping with every property string in its canonical spelling."""
        return {
            key: value.format() if isinstance(value, PropertyString) else self.mapping[key]
            for key, value in self._values.items()
        }


def free_slot(mapping: Mapping[str, str], name: str) -> str:
    """The lowest unused key of a slot kind. Raises :class:`ConfigError` when all are taken."""
    for slot in SLOTS:
        if slot.name == name:
            keys = slot.keys()
            for key in keys:
                if key not in mapping:
                    return key
    raise ConfigError(name, f"all places for {name} are taken")


__all__ = ["VMConfig", "free_slot", "parse_value", "slot_of"]
