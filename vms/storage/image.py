"""Disk images: the only caller of ``qemu-img``, and a header reader of our own.

``qemu-img`` always hears the format from us: left to guess, it takes a guest's raw disk that begins
with a qcow2 header for a qcow2, backing file ``/etc/shadow`` and all. Bytes we did not write are
looked at by :func:`inspect` first, which follows nothing and runs nothing.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vms.errors import CommandError, StorageError
from vms.host.command import Limits, run
from vms.storage.base import DiskFormat

READING = Limits(cpu_seconds=60, address_space=2 << 30, file_size=0)
"""For ``qemu-img`` that only reads an image a guest, or somebody before it, may have prepared."""

SECTOR = 2048
ISO_FIRST_DESCRIPTOR = 16 * SECTOR
ISO_PADDING = 150 * SECTOR
"""Padding that writers count into a volume's size and not all of them write."""

_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"QFI\xfb", "qcow2"),
    (0, b"QED\0", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0, b"LUKS\xba\xbe", "luks"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (64, b"\x7f\x10\xda\xbe", "vdi"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"BZh", "bzip2"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!", "rar"),
    (0, b"<!DOCTYPE", "html"),
    (0, b"<html", "html"),
)
"""Offset, bytes, and what such a file is. Looked for before the ISO's own mark at 32 KiB."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What an image says of itself. ``kind`` is ``raw`` when it says nothing we know.

    ``virtual_size`` in bytes. ``backing``: it names another file below it; ``data_file``: its
    contents lie in another file; both would make whoever opens it open what its author wants.
    """

    kind: str
    virtual_size: int
    backing: str = ""
    data_file: bool = False
    encrypted: bool = False
    bootable: bool = False


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What ``qemu-img info`` tells of an image of ours."""

    format: str
    virtual_size: int
    actual_size: int
    backing: str


# ---- reading bytes we do not trust


def inspect(descriptor: int) -> Header:
    """Read the header of an open file. Follows no name in it; reads less than 100 KiB."""
    length = os.fstat(descriptor).st_size
    start = os.pread(descriptor, 512, 0)
    for offset, magic, kind in _MAGICS:
        if start[offset : offset + len(magic)].lower() == magic.lower():
            if kind == "qcow2":
                return _qcow2(descriptor, start, length)
            return Header(kind=kind, virtual_size=length)
    if length >= 512 and os.pread(descriptor, 8, length - 512) == b"conectix":
        return Header(kind="vpc", virtual_size=length)
    return _iso(descriptor, length) or Header(kind="raw", virtual_size=length)


def _qcow2(descriptor: int, start: bytes, length: int) -> Header:
    """The fields of a qcow2 header that matter (its specification is in QEMU's docs/interop)."""
    if len(start) < 72:
        return Header(kind="damaged", virtual_size=length)
    version, backing_at, backing_length = struct.unpack_from(">IQI", start, 4)
    size, encryption = struct.unpack_from(">QI", start, 24)
    if version not in (2, 3):
        return Header(kind="qcow", virtual_size=length, backing="(unknown)" if backing_at else "")
    incompatible = struct.unpack_from(">Q", start, 72)[0] if version == 3 and len(start) >= 104 else 0
    backing = ""
    if backing_at:
        name = os.pread(descriptor, min(backing_length, 1023), backing_at) if backing_at < length else b""
        backing = name.decode(errors="replace") or "(unreadable)"
    return Header(
        kind="qcow2",
        virtual_size=size,
        backing=backing,
        data_file=bool(incompatible & 4),
        encrypted=encryption != 0,
    )


def _iso(descriptor: int, length: int) -> Header | None:
    """An ISO 9660 volume (ECMA-119): descriptors from sector 16 on, each marked ``CD001``."""
    size, bootable = 0, False
    for number in range(16, 48):
        descriptor_bytes = os.pread(descriptor, SECTOR, number * SECTOR)
        if len(descriptor_bytes) < SECTOR or descriptor_bytes[1:6] != b"CD001":
            break
        if descriptor_bytes[0] == 1:
            blocks = struct.unpack_from("<I", descriptor_bytes, 80)[0]
            block = struct.unpack_from("<H", descriptor_bytes, 128)[0]
            size = blocks * block
        elif descriptor_bytes[0] == 0 and descriptor_bytes[7:30] == b"EL TORITO SPECIFICATION":
            bootable = True
        elif descriptor_bytes[0] == 255:
            break
    return Header(kind="iso", virtual_size=size, bootable=bootable) if size else None


def check_iso(descriptor: int) -> Header:
    """Raise :class:`StorageError` unless the open file is an ISO 9660 image and all there."""
    header = inspect(descriptor)
    length = os.fstat(descriptor).st_size
    if header.kind != "iso":
        what = "no ISO 9660 volume is in it" if header.kind == "raw" else f"it is a {header.kind} file"
        raise StorageError(f"this is no ISO image: {what}", hint="Upload the .iso file as it was published.")
    if length < header.virtual_size - ISO_PADDING:
        raise StorageError(
            f"the ISO image is cut short: it should have {header.virtual_size} bytes and has {length}",
            hint="Download it again and compare its checksum.",
        )
    return header


def check_plain(header: Header, fmt: str, where: str) -> None:
    """Raise :class:`StorageError` when an image is not what our record says, or reaches outside itself.

    A raw disk is not judged by its bytes: they are the guest's, who may write any magic there.
    """
    if fmt != "qcow2":
        return
    if header.kind != "qcow2":
        raise StorageError(f"{where} is recorded as qcow2, but it is {header.kind}")
    if header.backing:
        raise StorageError(f"{where} has a backing file ('{header.backing[:200]}') nobody here gave it")
    if header.data_file:
        raise StorageError(f"{where} keeps its data in another file; such images are not opened")
    if header.encrypted:
        raise StorageError(f"{where} is encrypted by qcow2; that is not supported")


# ---- qemu-img


async def create(path: Path, size: int, fmt: DiskFormat, *, user: str | None = None) -> None:
    """Make ``path``, which exists and is empty, an image of ``size`` bytes."""
    await _qemu_img("create", "-q", "-f", fmt, "--", str(path), str(size), user=user)


async def convert(
    source: Path, source_format: str, target: Path, fmt: DiskFormat, *, user: str | None = None
) -> None:
    """Copy an image of ours into ``target``, which exists."""
    await _qemu_img(
        "convert",
        "-q",
        "-f",
        source_format,
        "-O",
        fmt,
        "--",
        str(source),
        str(target),
        user=user,
        timeout=3600,
    )


async def resize(path: Path, fmt: DiskFormat, size: int, *, user: str | None = None) -> None:
    """Let an image no guest has open grow to ``size`` bytes. It never shrinks."""
    await _qemu_img("resize", "-q", "-f", fmt, "--", str(path), str(size), user=user)


async def info(path: Path, fmt: str, *, user: str | None = None) -> ImageInfo:
    """What qemu-img tells of an image of ours, also while a guest has it open (hence ``-U``)."""
    text = await _qemu_img(
        "info", "--output=json", "-U", "-f", fmt, "--", str(path), user=user, limits=READING
    )
    found: dict[str, Any] = json.loads(text)
    return ImageInfo(
        format=str(found["format"]),
        virtual_size=int(found["virtual-size"]),
        actual_size=int(found.get("actual-size", 0)),
        backing=str(found.get("backing-filename", "")),
    )


async def _qemu_img(
    *words: str,
    user: str | None,
    timeout: float = 120,
    limits: Limits | None = None,
) -> str:
    """Run qemu-img; its failures become :class:`StorageError` with its own words."""
    try:
        result = await run(["qemu-img", *words], user=user, timeout=timeout, limits=limits)
    except CommandError as error:
        raise StorageError(f"qemu-img {words[0]}: {error.output.strip() or error}") from error
    return result.text
