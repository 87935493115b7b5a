"""The text file of a machine: main section, pending changes, snapshots, special sections.

Reading is lenient, as on the peer: a line that makes no sense is dropped with a warning, never an error. A
key that nobody here knows is kept apart, and written again where it belongs: somebody else may know it.
Writing is canonical: keys in byte order, description first, sections in a fixed order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from vms.config.vmconfig import ALIASES, parse_value
from vms.errors import ConfigError
from vms.hardware import OPTIONS, is_drive, known, part_of
from vms.schema.option import CONTROL, FALSE_WORDS, TRUE_WORDS, shown

_KEY = re.compile(r"([A-Za-z][A-Za-z0-9_-]*[0-9]*):[ \t]*(.*)")
_HEADER = re.compile(r"\[([^\]]*)\]\s*")
_SNAPSHOT = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,39}")
_SPECIAL = ("cloudinit", "fleecing")
_SNAPSHOT_ONLY = ("snapstate",)
KEPT_KEY, KEPT_TEXT = 60, 4096
"""The longest key and value that are kept although nobody knows them."""


@dataclass
class Section:
    """One snapshot's section. ``kept`` are the keys nobody here knows."""

    values: dict[str, str] = field(default_factory=dict)
    description: str = ""
    kept: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """What could not be read: the line's number from 1, the section ("" is the main one), the key if it has
    one, and why. ``kept``: the line is not lost, only not understood."""

    line: int
    section: str
    key: str
    text: str
    kept: bool = False


@dataclass
class ConfFile:
    """A whole file. ``snapshots`` and ``special`` map a section's name to it; ``pending_delete`` lists the
    keys to remove at the next start (with a leading ``!`` when the volume goes too). ``kept`` are keys of the
    main section that nobody here knows, ``pending_kept`` those of the pending one. ``warnings`` say what was
    not understood while reading, ``unknown`` what of the main section was dropped as (key, reason),
    ``problems`` all of it with line numbers; ``lines`` tells where each key of the main section stands."""

    main: dict[str, str] = field(default_factory=dict)
    description: str = ""
    pending: dict[str, str] = field(default_factory=dict)
    pending_delete: list[str] = field(default_factory=list)
    pending_description: str | None = None
    kept: dict[str, str] = field(default_factory=dict)
    pending_kept: dict[str, str] = field(default_factory=dict)
    snapshots: dict[str, Section] = field(default_factory=dict)
    special: dict[str, dict[str, str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    unknown: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    def warn(self, reading: _Reading, text: str, key: str = "", *, kept: bool = False) -> None:
        """Note what was not understood, and where."""
        self.warnings.append(text)
        section = "" if reading.kind == "main" else (reading.name or reading.kind.upper())
        self.problems.append(Problem(reading.line, section, key, text, kept))


@dataclass
class _Reading:
    """A section while its lines are being read."""

    kind: str
    name: str = ""
    line: int = 0
    values: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)


def parse(text: str) -> ConfFile:
    """Read a file's text. Never raises; what could not be read is in ``warnings``."""
    found = ConfFile()
    reading = _Reading("main")
    for number, line in enumerate(text.split("\n"), 1):
        line, reading.line = line.rstrip("\r"), number
        header = _HEADER.fullmatch(line)
        if header:
            _finish(found, reading)
            reading = _header(found, reading, header[1])
        elif line.strip() and reading.kind != "skip":
            _line(found, reading, line)
    _finish(found, reading)
    return found


def _header(found: ConfFile, before: _Reading, name: str) -> _Reading:
    lower = name.lower()
    if lower == "pending":
        if found.pending or found.pending_delete or found.pending_kept:
            found.warn(before, "duplicate section: pending")
        return _Reading("pending")
    if lower.startswith("special:") and lower[8:] in _SPECIAL:
        if lower[8:] in found.special:
            found.warn(before, f"duplicate special section: {lower[8:]}")
        return _Reading("special", lower[8:])
    if _SNAPSHOT.fullmatch(name):
        if name in found.snapshots:
            found.warn(before, f"duplicate snapshot section: {name}")
        return _Reading("snapshot", name)
    found.warn(before, f"skipping unknown section: '{shown(name)}'")
    return _Reading("skip")


def _line(found: ConfFile, reading: _Reading, line: str) -> None:
    if line.startswith("#"):
        reading.notes.append(unquote(line[1:], errors="replace"))
        return
    match = _KEY.fullmatch(line.rstrip())
    if match is None:
        _drop(found, reading, "", f"unable to parse config: {shown(line)}")
        return
    key, value = match[1], match[2].strip()
    if CONTROL.search(value):
        _drop(found, reading, key, f"unable to parse value of '{shown(key)}' - it holds a control character")
    elif key == "description":
        reading.notes.append(unquote(value, errors="replace"))
    elif key == "delete":
        if reading.kind == "pending":
            reading.delete = [word for word in re.split(r"[,; ]+", value) if word]
        else:
            _drop(found, reading, key, "property 'delete' is only allowed in [PENDING]")
    elif reading.kind == "special":
        reading.values[key] = value
    elif key in _SNAPSHOT_ONLY and reading.kind == "main":
        found.warn(reading, f"'{key}' belongs to snapshots and was dropped", key)
    else:
        _value(found, reading, ALIASES.get(key, key), value)


def _value(found: ConfFile, reading: _Reading, key: str, value: str) -> None:
    if not known(key):
        what = f"unable to parse value of '{shown(key)}' - unknown setting '{shown(key)}'"
        if len(key) > KEPT_KEY or len(value) > KEPT_TEXT:
            _drop(found, reading, key, what)
        else:
            reading.kept[key] = value
            found.warn(reading, what, key, kept=True)
        return
    try:
        reading.values[key] = stored(key, value)
        if reading.kind == "main":
            found.lines[key] = reading.line
    except ConfigError as error:
        where = f"{error.part}: " if error.part else ""
        _drop(found, reading, key, f"unable to parse value of '{key}' - {where}{error.text}")


def stored(key: str, text: str) -> str:
    """The text a file keeps for a value. Raises :class:`ConfigError` when its type is wrong.

    Limits of plain keys are left to whoever uses the value, as on the peer; property strings are checked.
    """
    if key == "args":
        return text
    if part_of(key) is not None:
        parse_value(key, text)
        return text
    option = OPTIONS[key]
    word = text.lower()
    if option.kind == "bool":
        if word in TRUE_WORDS or word in FALSE_WORDS:
            return "1" if word in TRUE_WORDS else "0"
        raise ConfigError(key, f"type check ('boolean') failed - got '{shown(text)}'")
    if option.kind == "int":
        if re.fullmatch(r"[0-9]{1,18}", text):
            return str(int(text))
        raise ConfigError(key, f"type check ('integer') failed - got '{shown(text)}'")
    if option.kind == "float":
        if re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?", text):
            return text
        raise ConfigError(key, f"type check ('number') failed - got '{shown(text)}'")
    if option.check is not None:
        parse_value(key, text)
    elif len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    return text


def _drop(found: ConfFile, reading: _Reading, key: str, what: str) -> None:
    found.warn(reading, what, key)
    if reading.kind == "main":
        found.unknown.append((key or "file", what))


def _finish(found: ConfFile, reading: _Reading) -> None:
    notes = "\n".join(reading.notes).rstrip()
    if reading.kind == "main":
        found.main, found.description, found.kept = reading.values, notes, reading.kept
    elif reading.kind == "pending":
        found.pending, found.pending_delete = reading.values, reading.delete
        found.pending_kept = reading.kept
        found.pending_description = notes if reading.notes else None
    elif reading.kind == "snapshot":
        found.snapshots[reading.name] = Section(reading.values, notes, reading.kept)
    elif reading.kind == "special":
        found.special[reading.name] = reading.values


def format(conf: ConfFile) -> str:
    """The canonical text of a file. Raises :class:`ConfigError` for a value that cannot be written."""
    main = _modern(conf.main)
    if "pending" in {name.lower() for name in conf.snapshots}:
        raise ConfigError("snapshot", "'pending' is no name for a snapshot")
    used = _used_volumes(main) | _used_volumes(conf.pending)
    main = {k: v for k, v in main.items() if not (k.startswith("unused") and _volume(k, v) in used)}
    blocks = [_section("", with_kept(main, conf.kept), conf.description)]
    if conf.pending or conf.pending_delete or conf.pending_kept:
        pending = with_kept(conf.pending, conf.pending_kept)
        if conf.pending_delete:
            pending["delete"] = ",".join(conf.pending_delete)
        lone = "#\n" if conf.pending_description == "" else ""
        blocks.append(_section("PENDING", pending, conf.pending_description or "", lone))
    for name in sorted(conf.special):
        if name != "cloudinit" or _has_cloudinit(main):
            blocks.append(_section(f"special:{name}", conf.special[name], ""))
    for name in sorted(conf.snapshots):
        snapshot = conf.snapshots[name]
        blocks.append(_section(name, with_kept(snapshot.values, snapshot.kept), snapshot.description))
    return "\n".join(blocks)


def with_kept(values: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """A section's keys and those nobody here knew when they were read, in order. What is known today is what
    ``values`` say."""
    found = {key: text for key, text in kept.items() if not known(key)} | dict(values)
    return dict(sorted(found.items()))


def _section(name: str, values: Mapping[str, str], description: str, notes: str = "") -> str:
    head = f"[{name}]\n" if name else ""
    if description:
        notes = "".join(f"#{encoded(line)}\n" for line in description.split("\n"))
    body = []
    for key in sorted(values):
        if CONTROL.search(values[key]):
            raise ConfigError(key, "holds a control character or line break, remove it")
        body.append(f"{key}: {values[key]}\n")
    return head + notes + "".join(body)


def encoded(text: str) -> str:
    """One line of notes as the file holds it: control signs, ``:``, ``%`` and all but ASCII as %XX."""
    return "".join(
        chr(byte) if 32 <= byte < 127 and byte not in (0x25, 0x3A) else f"%{byte:02X}"
        for byte in text.encode("utf-8", errors="replace")
    )


def _modern(values: Mapping[str, str]) -> dict[str, str]:
    found = dict(values)
    if "smp" in found:
        number = found.pop("smp")
        if "sockets" not in found:
            found["sockets"] = number
            found.pop("cores", None)
    return found


def _volume(key: str, text: str) -> str:
    try:
        return str(getattr(parse_value(key, text), "file", ""))
    except ConfigError:
        return ""


def _used_volumes(values: Mapping[str, str]) -> set[str]:
    keys = [key for key in values if is_drive(key) or key in ("efidisk0", "tpmstate0")]
    return {_volume(key, values[key]) for key in keys} - {"", "none", "cdrom"}


def _has_cloudinit(values: Mapping[str, str]) -> bool:
    for key in filter(is_drive, values):
        try:
            if parse_value(key, values[key]).is_cloudinit:
                return True
        except ConfigError:
            continue
    return False


__all__ = ["ConfFile", "Problem", "Section", "encoded", "format", "parse", "stored", "with_kept"]
