"""What a backup says of itself: ``manifest.json``, its first member.

An archive may come from anywhere, so the text is a stranger's: :func:`parse` takes what is written here, in
these bounds, and nothing else. ``docs/backup-format.md`` describes the whole file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from vms.errors import StorageError
from vms.hardware import is_drive

FORMAT = "pvelite-backup"
VERSION, VERSIONS = 2, (1, 2)
"""What is written, and what is read; the first version had other sums (:mod:`vms.backup.sums`)."""
MEMBER = "manifest.json"
CONF = "qemu.conf"
SUMS = "checksums.json"
"""The members that are no disks."""

LIMIT = 256 << 10
"""Bytes of the largest manifest, and of the longest configuration, that is read."""
SIZE_LIMIT = 1 << 46
"""Bytes of the largest disk: 64 TiB, more than a qcow2 of ordinary clusters holds."""
DISKS = 64

Mode = Literal["stop", "suspend", "snapshot"]

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_PLAIN = re.compile(r"[^\x00-\x1f\x7f]*")
_FORMAT = re.compile(r"[a-z0-9]{1,12}")
_VOLID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*:[^\x00-\x20\x7f,]+")


@dataclass(frozen=True, kw_only=True)
class ArchivedDisk:
    """One disk. ``key`` is the drive it was in (``scsi0``), ``volid`` and ``format`` what it was on its
    storage, ``size`` in bytes what the guest saw, ``member`` the archive's member (``scsi0.raw``)."""

    key: str
    volid: str
    format: str
    size: int
    member: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One backup. ``begun`` is the moment its data is of; ``consistent``: the guest was off, or its file
    systems stood still at that moment."""

    vmid: int
    name: str
    node: str
    begun: datetime
    mode: Mode
    consistent: bool
    product: str
    disks: tuple[ArchivedDisk, ...]
    version: int = VERSION

    def format(self) -> bytes:
        """The text as it stands in an archive.

        Raises :class:`StorageError` for what :func:`parse` would refuse: better now than at the restore.
        """
        disks = [
            {"key": disk.key, "volid": disk.volid, "format": disk.format, "size": disk.size,
             "member": disk.member}
            for disk in self.disks
        ]  # fmt: skip
        told = {
            "format": FORMAT, "version": self.version, "vmid": self.vmid, "name": self.name,
            "node": self.node, "begun": self.begun.astimezone(UTC).strftime(_TIME), "mode": self.mode,
            "consistent": self.consistent, "product": self.product, "disks": disks,
        }  # fmt: skip
        text = json.dumps(told, indent=1).encode() + b"\n"
        parse(text)
        return text

    @property
    def size(self) -> int:
        """Bytes of all disks together, as the guest saw them."""
        return sum(disk.size for disk in self.disks)

    def disk(self, member: str) -> ArchivedDisk | None:
        """The disk that is that member."""
        return next((disk for disk in self.disks if disk.member == member), None)


def member_of(key: str) -> str:
    """What the disk in drive ``key`` is called in an archive."""
    return f"{key}.raw"


def archivable(key: str) -> bool:
    """Whether what is in ``key`` can be a disk of an archive: a drive, EFI variables, a TPM's state."""
    return key in ("efidisk0", "tpmstate0") or (is_drive(key) and not key.startswith("unused"))


def parse(data: bytes) -> Manifest:
    """The manifest that ``data`` is. Raises :class:`StorageError` saying what is wrong with it."""
    found = parse_json(data, MEMBER, LIMIT)
    if found.get("format") != FORMAT:
        raise _wrong("it is no backup of pvelite's")
    version = found.get("version")
    if version is True or version not in VERSIONS:
        raise _wrong(f"its version is {_shown(version)}, this program reads up to {VERSION}")
    names = {"format", "version", *(name for name in Manifest.__dataclass_fields__)}
    if set(found) != names:
        odd = sorted(set(found) ^ names)
        raise _wrong(f"{_shown(odd[0])} is {'missing' if odd[0] in names else 'not expected'}")
    rows = found["disks"]
    if not isinstance(rows, list) or len(rows) > DISKS:
        raise _wrong(f"'disks' is no list of at most {DISKS}")
    disks = tuple(_disk(row) for row in rows)
    if len({disk.key for disk in disks}) != len(disks):
        raise _wrong("it names a drive twice")
    if not isinstance(found["consistent"], bool):
        raise _wrong("'consistent' is neither true nor false")
    return Manifest(
        vmid=_number(found, "vmid", 100, 999_999_999), name=_text(found, "name", 255),
        node=_text(found, "node", 63), begun=_time(found), mode=_mode(found),
        consistent=found["consistent"], product=_text(found, "product", 100), disks=disks,
        version=version,
    )  # fmt: skip


def parse_json(data: bytes, member: str, limit: int) -> dict[str, Any]:
    """The mapping that the text of ``member`` is. Raises :class:`StorageError`."""
    if len(data) > limit:
        raise StorageError(f"{member}: has {len(data)} bytes, at most {limit} are read")
    try:
        found = json.loads(data.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{member}: is no JSON text ({str(error)[:100]})") from None
    if not isinstance(found, dict):
        raise StorageError(f"{member}: is no JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _disk(row: object) -> ArchivedDisk:
    names = set(ArchivedDisk.__dataclass_fields__)
    if not isinstance(row, dict) or set(row) != names:
        raise _wrong(f"a disk has to have {', '.join(sorted(names))}")
    key = _text(row, "key", 16)
    if not archivable(key):
        raise _wrong(f"{_shown(key)} is no drive that holds a disk")
    if row["member"] != member_of(key):
        raise _wrong(f"the disk {key} has to be the member '{member_of(key)}', not {_shown(row['member'])}")
    volid, fmt = _text(row, "volid", 400), _text(row, "format", 12)
    if not _VOLID.fullmatch(volid) or not _FORMAT.fullmatch(fmt):
        raise _wrong(f"{key}: 'volid' or 'format' is no such thing")
    size = _number(row, "size", 1, SIZE_LIMIT)
    return ArchivedDisk(key=key, volid=volid, format=fmt, size=size, member=member_of(key))


def _text(found: dict[str, Any], name: str, length: int) -> str:
    text = found[name]
    if not isinstance(text, str) or len(text) > length or not _PLAIN.fullmatch(text):
        raise _wrong(f"'{name}' is no text of at most {length} plain characters")
    return text


def _number(found: dict[str, Any], name: str, least: int, most: int) -> int:
    number = found[name]
    if type(number) is not int or not least <= number <= most:
        raise _wrong(f"'{name}' is no whole number from {least} to {most}")
    return number


def _time(found: dict[str, Any]) -> datetime:
    text = _text(found, "begun", 32)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment.astimezone(UTC).strftime(_TIME) != text:
        raise _wrong("'begun' is no time such as 2026-01-31T23:59:00Z")
    return moment


def _mode(found: dict[str, Any]) -> Mode:
    mode: Any = found["mode"]
    if mode not in get_args(Mode):
        raise _wrong(f"'mode' is none of {', '.join(get_args(Mode))}")
    answer: Mode = mode
    return answer


def _shown(value: object) -> str:
    return repr(value)[:80]


def _wrong(text: str) -> StorageError:
    return StorageError(f"{MEMBER}: {text}")
