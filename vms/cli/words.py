"""The options of a machine as words of a command line: ``--memory 2048 --net0 virtio,bridge=vmbr0``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from vms.config.upkeep import holds_volume
from vms.errors import ConfigError
from vms.hardware import OPTIONS, SLOTS
from vms.operations.wish import OF_OPERATIONS
from vms.schema.option import Option

_PREFIX = "option "
_SIZE = re.compile(r"[0-9]+(\.[0-9]+)?(,.*)?")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Every option that may be set, each with its help."""
    parser.allow_abbrev = False  # 'net' is short for nothing here
    group = parser.add_argument_group("options of the machine")
    for option in OPTIONS.values():
        if option.name not in OF_OPERATIONS:
            _add(group, option)
    for slot in SLOTS:
        if slot.name == "unused":
            continue
        first, *others = slot.keys()
        text = f"{slot.part.__doc__ or slot.name} Also --{others[0]} to --{others[-1]}."
        group.add_argument(f"--{first}", dest=_PREFIX + first, metavar="TEXT", help=text.replace("%", "%%"))
        for key in others:
            group.add_argument(f"--{key}", dest=_PREFIX + key, metavar="TEXT", help=argparse.SUPPRESS)


def _add(group: argparse._ArgumentGroup, option: Option) -> None:
    unit = f" ({option.unit})" if option.unit else ""
    text = f"{option.help or option.label}{unit}".replace("%", "%%")
    flag, dest = f"--{option.name}", _PREFIX + option.name
    if option.kind == "bool":
        group.add_argument(flag, dest=dest, nargs="?", const="1", metavar="0|1", help=text)
    else:
        group.add_argument(flag, dest=dest, metavar=option.kind.upper(), help=text)


def given(options: argparse.Namespace, storage: str = "local") -> dict[str, str]:
    """The options that were given, key → text. A new disk that names no storage (``--scsi0 32``) is made on
    ``storage``."""
    found = dict(_given(options))
    return {
        key: f"{storage}:{text}" if holds_volume(key) and _SIZE.fullmatch(text) else text
        for key, text in found.items()
    }


def _given(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    for name, text in vars(options).items():
        if name.startswith(_PREFIX) and text is not None:
            yield name.removeprefix(_PREFIX), str(text)


def keys(text: str | None) -> list[str]:
    """A list of keys: ``net1,scsi2``. Raises :class:`ConfigError` for a word that is none."""
    words = [word for word in re.split(r"[,; ]+", text or "") if word]
    for word in words:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", word):
            raise ConfigError(word, "is no option")
    return words
