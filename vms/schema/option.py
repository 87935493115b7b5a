"""How one option is declared.

An option is said once, as a dataclass field made by :func:`opt`; parsing, formatting, limits, the form
field, the REST and ``qm`` parameter and the manual all read the :class:`Option` that follows from it.
Standard library only.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from vms.errors import ConfigError

TRUE_WORDS = frozenset({"1", "on", "yes", "true"})
FALSE_WORDS = frozenset({"0", "off", "no", "false"})
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BREAKS = {ord("\n"): " ", ord("\t"): " "}
"""A control character: no value may hold one."""

Kind = Literal["bool", "int", "float", "enum", "str"]
"""What a value is. ``str`` covers every text with a check of its own (MAC, size, volume id)."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option, as everybody who reads the schema sees it.

    ``name`` is PVE's spelling (``detect_zeroes``, ``pre-enrolled-keys``); ``attr`` the Python attribute.
    ``default`` is what an absent option means, in Python's type; ``None`` where absence has no value.
    ``help``, ``otherwise`` and ``why`` are the three sentences every field carries: what it is, what
    happens if you choose otherwise, and why our default is what it is.
    """

    name: str
    attr: str
    kind: Kind
    label: str
    default: Any = None
    required: bool = False
    short: bool = False
    help: str = ""
    otherwise: str = ""
    why: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    max_length: int | None = None
    pattern: str = ""
    pattern_text: str = ""
    unit: str = ""
    placeholder: str = ""
    advanced: bool = False
    hidden: bool = False
    aliases: tuple[str, ...] = ()
    lines: bool = False
    check: Callable[[str], str] | None = field(default=None, compare=False)

    def parse(self, text: str, key: str = "", part: str = "") -> Any:
        """The Python value of ``text``. Raises :class:`ConfigError` on ``key`` (or our name)."""

        def wrong(what: str, hint: str = "") -> ConfigError:
            return ConfigError(key or self.name, what, part=part, hint=hint)

        if self.max_length is not None and len(text) > self.max_length:
            raise wrong(f"is {len(text)} characters long, at most {self.max_length} are allowed")
        if self.lines:
            text = text.replace("\r\n", "\n")
        if CONTROL.search(text.translate(_BREAKS) if self.lines else text):
            raise wrong("holds a control character or line break, remove it")
        if self.kind == "bool":
            word = text.strip().lower()
            if word in TRUE_WORDS:
                return True
            if word in FALSE_WORDS:
                return False
            raise wrong(f"'{shown(text)}' is neither yes nor no, write 1 or 0")
        if self.kind in ("int", "float"):
            return self._number(text, wrong)
        if self.kind == "enum":
            if text in dict(self.choices):
                return text
            legal = ", ".join(value for value, _ in self.choices)
            raise wrong(f"'{shown(text)}' is not one of {legal}")
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise wrong(f"'{shown(text)}' is not {self.pattern_text or 'of the expected form'}")
        if self.check is not None:
            try:
                return self.check(text)
            except ValueError as error:
                raise wrong(str(error)) from None
        return text

    def _number(self, text: str, wrong: Callable[[str], ConfigError]) -> int | float:
        shape = r"-?[0-9]{1,18}" if self.kind == "int" else r"-?[0-9]{1,18}(\.[0-9]{1,9})?"
        if not re.fullmatch(shape, text.strip()):
            what = "a whole number" if self.kind == "int" else "a number"
            raise wrong(f"'{shown(text)}' is not {what}")
        value: int | float = int(text) if self.kind == "int" else float(text)
        unit = f" {self.unit}" if self.unit else ""
        if self.minimum is not None and value < self.minimum:
            raise wrong(f"{text} is below the smallest allowed value, {self.minimum:g}{unit}")
        if self.maximum is not None and value > self.maximum:
            raise wrong(f"{text} is above the largest allowed value, {self.maximum:.0f}{unit}")
        return value

    def format(self, value: Any) -> str:
        """The text that :meth:`parse` reads back as ``value``."""
        if self.kind == "bool":
            return "1" if value else "0"
        if self.kind == "float":
            return f"{value:.9f}".rstrip("0").rstrip(".")
        return str(value)


def shown(text: str) -> str:
    """``text`` fit for an error message: short, control characters escaped."""
    clean = text.encode("unicode_escape").decode("ascii") if CONTROL.search(text) else text
    return clean if len(clean) <= 60 else clean[:57] + "…"


def opt(
    label: str,
    *,
    default: Any = None,
    required: bool = False,
    key: str = "",
    short: bool = False,
    help: str = "",
    otherwise: str = "",
    why: str = "",
    labels: Mapping[str, str] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    max_length: int | None = None,
    pattern: str = "",
    pattern_text: str = "",
    unit: str = "",
    placeholder: str = "",
    advanced: bool = False,
    hidden: bool = False,
    aliases: tuple[str, ...] = (),
    lines: bool = False,
    check: Callable[[str], str] | None = None,
) -> Any:
    """Declare one option of a dataclass.

    ``key`` is PVE's spelling when Python cannot spell it (``pre-enrolled-keys``); ``short`` marks the one
    option of a property string that may be written without its name; ``labels`` names the values of a
    ``Literal``; ``check`` turns text into its canonical text or raises ``ValueError`` with a sentence.
    ``required`` options have no default. ``hidden`` ones are legal but offered in no form. ``lines`` allows
    several lines of text.
    """
    metadata = {
        "label": label,
        "required": required,
        "key": key,
        "short": short,
        "help": help,
        "otherwise": otherwise,
        "why": why,
        "labels": dict(labels or {}),
        "minimum": minimum,
        "maximum": maximum,
        "max_length": max_length,
        "pattern": pattern,
        "pattern_text": pattern_text,
        "unit": unit,
        "placeholder": placeholder,
        "advanced": advanced,
        "hidden": hidden,
        "aliases": aliases,
        "lines": lines,
        "check": check,
        "meaning": default,
    }
    # Absent is not default: the attribute holds None until a value was really given.
    return field(default=dataclasses.MISSING if required else None, metadata=metadata)


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...]]:
    """The kind of a field's type, and a ``Literal``'s values."""
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None)]
        annotation = inner[0]
    if get_origin(annotation) is Literal:
        return "enum", tuple(str(value) for value in get_args(annotation))
    names: dict[Any, Kind] = {bool: "bool", int: "int", float: "float"}
    return names.get(annotation, "str"), ()


def options_of(cls: type) -> tuple[Option, ...]:
    """The options a dataclass declares with :func:`opt`, in declaration order (cached per class)."""
    return _options_of(cls)


@cache
def _options_of(cls: type) -> tuple[Option, ...]:
    hints = typing.get_type_hints(cls)
    found = []
    for item in dataclasses.fields(cls):
        meta = dict(item.metadata)
        if "label" not in meta:
            continue
        kind, values = _kind(hints[item.name])
        labels, default, name = meta.pop("labels"), meta.pop("meaning"), meta.pop("key")
        found.append(
            Option(
                name=name or item.name,
                attr=item.name,
                kind=kind,
                default=default,
                choices=tuple((value, labels.get(value, value)) for value in values),
                **meta,
            )
        )
    return tuple(found)


def option_table(cls: type) -> Mapping[str, Option]:
    """Name (and every alias) → option of a dataclass (cached per class)."""
    return _option_table(cls)


@cache
def _option_table(cls: type) -> Mapping[str, Option]:
    table: dict[str, Option] = {}
    for option in options_of(cls):
        for name in (option.name, *option.aliases):
            table[name] = option
    return types.MappingProxyType(table)
