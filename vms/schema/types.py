"""Kinds of text with rules of their own: sizes, MAC addresses, volume ids, CPU lists.

Each checker takes a text and answers its canonical form, or raises ``ValueError`` with a sentence that says
what is wrong. They are given to ``opt(check=…)``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from vms.schema.option import shown

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

LARGEST_SIZE = 1 << 60
"""Bytes. No storage here holds more, and the sum of many still fits the database's 64 bits."""


@dataclass(frozen=True)
class Size:
    """An amount of bytes, written the way Proxmox writes it (``32G``, ``528K``)."""

    bytes: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read ``1536M`` or ``1.5G``. Raises ``ValueError``."""
        match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([KMGT]?)(?:i?B)?", text)
        if match is None:
            raise ValueError(f"'{shown(text)}' is not a size; write a number and K, M, G or T, like 32G")
        number, unit = match[1], _UNITS[match[2]]
        found = int(number) * unit if "." not in number else int(float(number) * unit)
        if found > LARGEST_SIZE:
            raise ValueError(f"'{shown(text)}' is more than {LARGEST_SIZE >> 40}T, larger than any disk")
        return cls(found)

    def __str__(self) -> str:
        for unit in "TGMK":
            if self.bytes and self.bytes % _UNITS[unit] == 0:
                return f"{self.bytes // _UNITS[unit]}{unit}"
        return str(self.bytes)


@dataclass(frozen=True)
class VolumeId:
    """``storage:name``. ``name`` is what that storage calls the volume."""

    storage: str
    name: str

    @classmethod
    def parse(cls, text: str) -> VolumeId:
        """Split a volume id. Raises ``ValueError``."""
        match = re.fullmatch(r"([A-Za-z][A-Za-z0-9._-]*):(\S.*)", text)
        if match is None:
            raise ValueError(f"'{shown(text)}' is not a volume; write storage:name")
        if ".." in match[2].split("/"):
            raise ValueError(f"'{shown(text)}' climbs out of its storage; a volume name holds no '..'")
        return cls(match[1], match[2])

    def __str__(self) -> str:
        return f"{self.storage}:{self.name}"


@dataclass(frozen=True)
class CpuSet:
    """A list of CPU numbers such as ``0,5,8-11``."""

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str, separator: str = ",") -> CpuSet:
        """Read ``0-3,8``. Raises ``ValueError``."""
        ranges = []
        for piece in text.split(separator):
            match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", piece)
            if match is None:
                raise ValueError(f"'{shown(text)}' is not a list of CPUs; write numbers like 0{separator}5-7")
            low, high = int(match[1]), int(match[2] or match[1])
            if high < low:
                raise ValueError(f"the range {piece} runs backwards")
            ranges.append((low, high))
        return cls(tuple(ranges))

    def numbers(self) -> list[int]:
        """Every CPU number in the list, in the order written."""
        return [number for low, high in self.ranges for number in range(low, high + 1)]

    def __str__(self) -> str:
        return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in self.ranges)


def size(text: str) -> str:
    """A size in its canonical spelling is left as it is; any legal size is accepted."""
    Size.parse(text)
    return text


def mac_address(text: str) -> str:
    """A unicast MAC address, as written."""
    if not re.fullmatch(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", text):
        raise ValueError(f"'{shown(text)}' is not a MAC address; write six hex pairs like BC:24:11:00:00:01")
    if int(text[:2], 16) & 1:
        raise ValueError(f"{text} is a multicast address; the second digit must be even")
    return text


def volume(text: str) -> str:
    """What a drive may hold: a volume, ``none``, ``cdrom``, a path, or ``storage:GiB`` to make one."""
    if text in ("none", "cdrom"):
        return text
    if text.startswith("/"):
        if ".." in text.split("/"):
            raise ValueError(f"'{shown(text)}' climbs with '..'; write the path out")
        return text
    VolumeId.parse(text)
    return text


def cpu_set(text: str) -> str:
    """A CPU list separated by commas."""
    CpuSet.parse(text)
    return text


def cpu_set_semicolon(text: str) -> str:
    """A CPU list separated by semicolons, as inside property strings."""
    CpuSet.parse(text, ";")
    return text


def dns_name(text: str) -> str:
    """A DNS name: labels of letters, digits and inner hyphens, joined by dots."""
    label = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    if len(text) > 253 or not re.fullmatch(rf"{label}(\.{label})*", text):
        hint = " ('_' is not allowed, use '-')" if "_" in text else ""
        raise ValueError(f"'{shown(text)}' is not a host name: letters, digits and inner hyphens only{hint}")
    return text


def tag_list(text: str) -> str:
    """Tags separated by ``;``, ``,`` or blanks; kept as written."""
    for tag in split_tags(text):
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_+.-]*", tag):
            raise ValueError(f"'{shown(tag)}' is not a tag: letters, digits and _ + . - only")
    return text


def split_tags(text: str) -> list[str]:
    """The single tags of a tag list."""
    return [tag for tag in re.split(r"[;, ]+", text) if tag]


def normal_tags(text: str) -> str:
    """Tags the way the server stores them: lower case, sorted, unique, joined by ``;``."""
    return ";".join(sorted({tag.lower() for tag in split_tags(tag_list(text))}))


def url_encoded(limit: int, *, lines: bool = False) -> Callable[[str], str]:
    """A checker for URL-encoded text of at most ``limit`` bytes once decoded; of several ``lines`` if so."""
    allowed = "\r\n\t" if lines else ""

    def check(text: str) -> str:
        plain = unquote(text, errors="strict")
        if len(plain.encode()) > limit:
            raise ValueError(f"is longer than {limit} bytes")
        if any((ord(sign) < 32 or ord(sign) == 127) and sign not in allowed for sign in plain):
            raise ValueError("holds a control character, remove it")
        return text

    return check


def uuid(text: str) -> str:
    """A UUID in its 8-4-4-4-12 form."""
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        raise ValueError(f"'{shown(text)}' is not a UUID: 8-4-4-4-12 hexadecimal digits")
    return text


def ip_or(*words: str, version: int, prefix: bool) -> Callable[[str], str]:
    """A checker for an address (with a prefix length if ``prefix``) or one of ``words``."""

    def check(text: str) -> str:
        if text in words:
            return text
        try:
            if prefix and "/" not in text:
                raise ValueError("no prefix")
            found = ipaddress.ip_interface(text) if prefix else ipaddress.ip_address(text)
            if found.version != version:
                raise ValueError("other version")
        except ValueError:
            form = "address/prefix" if prefix else "address"
            also = f" or {' or '.join(words)}" if words else ""
            raise ValueError(f"'{shown(text)}' is not an IPv{version} {form}{also}") from None
        return text

    return check
