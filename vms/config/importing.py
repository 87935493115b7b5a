"""A configuration file from elsewhere, read with suspicion: what it asks for, and what is left out and why.

Pure. Whether the volumes it names exist here is for the operation to find out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vms.config import conffile, seeds
from vms.config.privileged import operators_only
from vms.config.rules import Severity
from vms.config.vmconfig import VMConfig, parse_value
from vms.errors import ConfigError
from vms.hardware import is_drive
from vms.schema.option import shown
from vms.schema.types import Size

LIMIT = 256 << 10
"""Bytes of the largest file that is read; real ones have two or three thousand."""
LINES = 5000

Kind = Literal["disk", "cdrom", "efi", "tpm", "seed"]

OF_THE_MOMENT = frozenset(
    {"lock", "parent", "snaptime", "snapstate", "vmstate", "runningmachine", "runningcpu",
     "running-nets-host-mtu", "digest"}
)  # fmt: skip
"""What a file says of a machine's moment at its old home."""

_OWNER = re.compile(r"(?:^|/)(?:vm|base)-([1-9][0-9]{2,8})-(?:disk-\d+|cloudinit)(?:\.\w+)?$")


@dataclass(frozen=True)
class Note:
    """Something to say before anything is created. ``block`` keeps it from being created."""

    severity: Severity
    text: str
    line: int = 0
    key: str = ""


@dataclass(frozen=True)
class WantedDrive:
    """A drive that names a volume. ``storage`` and ``name`` after mapping; ``size`` in bytes if told."""

    key: str
    kind: Kind
    storage: str
    name: str
    size: int | None
    line: int

    @property
    def volid(self) -> str:
        return f"{self.storage}:{self.name}"


@dataclass
class Reading:
    """What a file holds. ``mapping`` is its main section; drives keep their text, the storage mapped."""

    mapping: dict[str, str] = field(default_factory=dict)
    pending: dict[str, str | None] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    drives: list[WantedDrive] = field(default_factory=list)
    storages: list[str] = field(default_factory=list)
    """The names the file itself uses."""
    snapshots: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    """Keys of the main section nobody here knows: they stay in the file, and the machine never sees them."""
    lines: dict[str, int] = field(default_factory=dict)

    def owner(self) -> int | None:
        """The number its own disks carry."""
        for drive in self.drives:
            match = _OWNER.search(drive.name)
            if match and drive.kind != "cdrom":
                return int(match[1])
        return None


def decode(data: bytes) -> str:
    """The file's text. Raises :class:`ConfigError` when it is too large or no UTF-8."""
    if len(data) > LIMIT:
        raise ConfigError("file", f"has {len(data)} bytes; a configuration has at most {LIMIT}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError("file", f"line {line} is no UTF-8 text; is this a configuration?") from None


def read(text: str, storage_map: Mapping[str, str], *, operator: bool) -> Reading:
    """What ``text`` asks for. ``operator``: the importer may set what reaches into the host.

    Raises :class:`ConfigError` for a text that is too large or says nothing at all.
    """
    if len(text) > LIMIT or text.count("\n") > LINES:
        raise ConfigError("file", f"is too large: at most {LIMIT} bytes and {LINES} lines are read")
    parsed = conffile.parse(text)
    if not (parsed.main or parsed.kept):
        raise ConfigError("file", "holds no configuration: not one line says 'key: value' as it should")
    found = Reading(mapping=dict(parsed.main), lines=dict(parsed.lines))
    found.snapshots = sorted(parsed.snapshots)
    if parsed.description:
        found.mapping["description"] = parsed.description
    for problem in parsed.problems:
        where = f"[{problem.section}] " if problem.section else ""
        text = f"{where}{problem.text}; left out"
        if problem.kept and not problem.section:
            text = f"'{problem.key}' is not understood here; kept in the file, it does nothing"
        found.notes.append(Note("warn", text, problem.line, problem.key))
    found.kept = dict(parsed.kept)
    _leave_out(found, operator)
    _drives(found, storage_map)
    _pending(found, parsed, operator)
    _sections(found, parsed)
    return found


def _leave_out(found: Reading, operator: bool) -> None:
    for key in sorted(found.mapping):
        line = found.lines.get(key, 0)
        if key in OF_THE_MOMENT:
            text = f"'{key}' belongs to the machine's moment at its old home; left out"
            found.notes.append(Note("info", text, line, key))
        elif not operator and operators_only(key, found.mapping[key]):
            text = f"'{key}' reaches into the node; only an operator may set it; left out"
            found.notes.append(Note("warn", text, line, key))
        else:
            continue
        del found.mapping[key]
    if "smp" in found.mapping:
        number = found.mapping.pop("smp")
        if "sockets" not in found.mapping:
            found.mapping["sockets"] = number
            found.mapping.pop("cores", None)
        found.notes.append(Note("info", "'smp' was written as 'sockets'", found.lines.get("smp", 0), "smp"))


def _drives(found: Reading, storage_map: Mapping[str, str]) -> None:
    names: dict[str, None] = {}
    for key in sorted(found.mapping):
        if not (is_drive(key) or key in ("efidisk0", "tpmstate0") or key.startswith("unused")):
            continue
        part = parse_value(key, found.mapping[key])
        if part.file in ("none", "cdrom") or part.file.startswith("/"):
            continue
        storage, _, name = part.file.partition(":")
        names[storage] = None
        there = storage_map.get(storage, storage)
        if there != storage:
            found.mapping[key] = replace(part, file=f"{there}:{name}").format()
        size = Size.parse(part.size).bytes if getattr(part, "size", None) else None
        found.drives.append(WantedDrive(key, _kind(key, part), there, name, size, found.lines.get(key, 0)))
    if "cicustom" in found.mapping:
        texts: Any = parse_value("cicustom", found.mapping["cicustom"])
        moved: dict[str, Any] = {}
        for role, volid in seeds.named(VMConfig.parse({"cicustom": found.mapping["cicustom"]})).items():
            storage, _, name = volid.partition(":")
            names[storage] = None
            moved[role] = f"{storage_map.get(storage, storage)}:{name}"
        found.mapping["cicustom"] = replace(texts, **moved).format()
    if "vmstatestorage" in found.mapping:
        old = found.mapping["vmstatestorage"]
        names[old] = None
        found.mapping["vmstatestorage"] = storage_map.get(old, old)
    found.storages = list(names)


def _kind(key: str, part: Any) -> Kind:
    if key == "efidisk0":
        return "efi"
    if key == "tpmstate0":
        return "tpm"
    if getattr(part, "is_cloudinit", False):
        return "seed"
    return "cdrom" if getattr(part, "is_cdrom", False) else "disk"


def _pending(found: Reading, parsed: conffile.ConfFile, operator: bool) -> None:
    for key, text in parsed.pending.items():
        if key in OF_THE_MOMENT or is_drive(key) or key in ("efidisk0", "tpmstate0"):
            found.notes.append(Note("warn", f"the pending change of '{key}' is left out", 0, key))
        elif not operator and operators_only(key, text):
            found.notes.append(
                Note("warn", f"the pending change of '{key}' is an operator's; left out", 0, key)
            )
        else:
            found.pending[key] = text
    for word in parsed.pending_delete:
        key = word.removeprefix("!")
        if is_drive(key) or key in ("efidisk0", "tpmstate0"):
            found.notes.append(Note("warn", f"the pending removal of '{key}' is left out", 0, key))
        elif key in found.mapping:
            found.pending[key] = None


def _sections(found: Reading, parsed: conffile.ConfFile) -> None:
    if found.snapshots:
        names = ", ".join(found.snapshots)
        text = f"{len(found.snapshots)} snapshots are not imported: {shown(names)}; their disks' states stay"
        found.notes.append(Note("warn", text))
    if found.pending:
        found.notes.append(Note("info", f"{len(found.pending)} pending changes come along"))


def without_drive(mapping: Mapping[str, str], key: str) -> dict[str, str]:
    """The configuration without a drive, and without it in the boot order."""
    found = {name: text for name, text in mapping.items() if name != key}
    if found.get("bootdisk") == key:
        del found["bootdisk"]
    boot = found.get("boot", "")
    if boot.startswith("order="):
        left = [name for name in boot.removeprefix("order=").split(";") if name != key]
        found["boot"] = f"order={';'.join(left)}"
        if not left:
            del found["boot"]
    return found


def anew(mapping: Mapping[str, str]) -> dict[str, str]:
    """The configuration without what makes a machine itself: addresses, UUIDs."""
    config = VMConfig.parse(mapping)
    found = dict(mapping)
    for key, _, net in config.slots("net"):
        found[key] = replace(net, macaddr=None).format()
    smbios = config.get("smbios1")
    if smbios is not None and smbios.uuid:
        found["smbios1"] = replace(smbios, uuid=None).format()
        if not found["smbios1"]:
            del found["smbios1"]
    if found.get("vmgenid", "0") not in ("0", "1"):
        found["vmgenid"] = "1"
    return found


def candidates(drive: WantedDrive) -> Iterator[str]:
    """The names its volume may have on a directory: a block storage's have neither folder nor ending."""
    yield drive.name
    match = _OWNER.fullmatch(drive.name)
    if match and "/" not in drive.name:
        leaf = drive.name.replace("base-", "vm-", 1)
        for ending in ("raw", "qcow2"):
            yield f"{match[1]}/{leaf}.{ending}"
