"""What an image says of itself: a header reader of our own, which follows nothing and runs nothing.

Bytes we did not write are looked at here before any program opens them: left to itself, QEMU takes a
guest's raw disk that begins with a qcow2 header for a qcow2, backing file ``/etc/shadow`` and all.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from vms.errors import StorageError

IMPORT_LIMIT = 128 << 40
"""Bytes a disk to be imported may show its guest: what a new disk may have at most."""

SECTOR = 2048
ISO_FIRST_DESCRIPTOR = 16 * SECTOR
ISO_PADDING = 150 * SECTOR
"""Padding that writers count into a volume's size and not all of them write."""
_BACKING_FORMAT = 0xE2792ACA
"""The type of qcow2's header extension that names the backing file's format."""

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
    ``backing_format`` is the format it says that file has: left out, QEMU would guess. ``snapshots``
    counts those inside a qcow2.
    """

    kind: str
    virtual_size: int
    backing: str = ""
    backing_format: str = ""
    snapshots: int = 0
    data_file: bool = False
    encrypted: bool = False
    bootable: bool = False


def inspect(descriptor: int) -> Header:
    """Read the header of an open file. Follows no name in it; reads less than 100 KiB."""
    length = os.fstat(descriptor).st_size
    start = os.pread(descriptor, 512, 0)
    for offset, magic, kind in _MAGICS:
        if start[offset : offset + len(magic)].lower() == magic.lower():
            if kind == "qcow2":
                return _qcow2(descriptor, start, length)
            if magic == b"KDMV":
                return _vmdk(descriptor, start, length)
            # The other kinds of VMDK name the files their data is in.
            return Header(kind=kind, virtual_size=length, data_file=kind == "vmdk")
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
        kind="qcow2", virtual_size=size, backing=backing,
        backing_format=_backing_format(descriptor, start, version) if backing else "",
        snapshots=struct.unpack_from(">I", start, 60)[0],
        data_file=bool(incompatible & 4), encrypted=encryption != 0,
    )  # fmt: skip


def _backing_format(descriptor: int, start: bytes, version: int) -> str:
    """The header extension that says the backing file's format; empty when there is none."""
    place = struct.unpack_from(">I", start, 100)[0] if version == 3 and len(start) >= 104 else 72
    for _ in range(16):
        head = os.pread(descriptor, 8, place)
        if len(head) < 8:
            break
        kind, size = struct.unpack(">II", head)
        if kind == _BACKING_FORMAT:
            return os.pread(descriptor, min(size, 32), place + 8).decode(errors="replace")
        if kind == 0:
            break
        place += 8 + (size + 7) // 8 * 8
    return ""


def _vmdk(descriptor: int, start: bytes, length: int) -> Header:
    """A sparse VMDK: header, and the text inside it that could name a parent or other files."""
    version, _, capacity, _, text_at, text_size = struct.unpack_from("<IIQQQQ", start, 4)
    text = b""
    if text_at * 512 < length:
        text = os.pread(descriptor, min(text_size * 512, 20 * 512), text_at * 512)
    words = text.split(b"\0")[0].decode(errors="replace").lower()
    parents = [line for line in words.splitlines() if line.startswith("parentfilenamehint")]
    orphan = not text_at or "parentcid=ffffffff" in words.replace(" ", "")
    # Without a capacity QEMU takes the file for a list of other files.
    alone = capacity > 0 and version in (1, 2, 3)
    return Header(
        kind="vmdk", virtual_size=capacity * 512, data_file=not alone,
        backing=parents[0].partition("=")[2] if parents else ("" if orphan else "(unnamed)"),
    )  # fmt: skip


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


def check_plain(header: Header, fmt: str, where: str, *, below: str = "") -> None:
    """Raise :class:`StorageError` when an image is not what our record says, or reaches outside itself.

    ``below`` is the one backing file it must have, a linked clone's base (``900/base-900-disk-0.raw``), and
    must name with its format. A raw disk is not judged by its bytes: they are the guest's, who may write any
    magic there.
    """
    if fmt != "qcow2":
        return
    if header.kind != "qcow2":
        raise StorageError(f"{where} is recorded as qcow2, but it is {header.kind}")
    if header.backing and header.backing != f"../{below}":
        raise StorageError(f"{where} has a backing file ('{header.backing[:200]}') nobody here gave it")
    if below and not header.backing:
        raise StorageError(f"{where} should lie on '{below}', but it lies on nothing")
    if below and header.backing_format != below.rpartition(".")[2]:
        raise StorageError(
            f"{where} says its base is of format '{header.backing_format[:32]}', but that is '{below}'"
        )
    if header.data_file:
        raise StorageError(f"{where} keeps its data in another file; such images are not opened")
    if header.encrypted:
        raise StorageError(f"{where} is encrypted by qcow2; that is not supported")


def check_import(descriptor: int, name: str) -> Header:
    """What the open image ``name`` is: qcow2, vmdk or raw. Raises :class:`StorageError` for all else.

    The file's ending must not lie. ``.img`` says nothing: publishers call qcow2 files so.
    """
    header = inspect(descriptor)
    said = name.rpartition(".")[2].lower()
    if header.kind in ("raw", "iso") and said in ("raw", "img"):
        header = Header(kind="raw", virtual_size=os.fstat(descriptor).st_size)
    elif header.kind not in ("qcow2", "vmdk") or said not in (header.kind, "img"):
        packed = header.kind in ("gzip", "xz", "zstd", "bzip2", "zip", "7z", "rar")
        hint = "Unpack it first." if packed else "Convert it to qcow2 first: qemu-img convert -O qcow2."
        found = "not" if header.kind in ("raw", "iso") else f"a {header.kind} file"
        raise StorageError(f"'{name}' should be {said}, but it is {found}", hint=hint)
    check_foreign(header, header.kind, f"'{name}'")
    return header


def check_foreign(header: Header, fmt: str, where: str) -> None:
    """Raise :class:`StorageError` when a stranger's image is not ``fmt``, not whole or absurdly large."""
    kind = "raw" if fmt == "raw" and header.kind == "iso" else header.kind
    if kind != fmt:
        raise StorageError(f"{where} is recorded as {fmt}, but it is {kind}")
    if header.backing:
        raise StorageError(f"{where} has a backing file ('{header.backing[:200]}'); bring a whole image")
    if header.data_file:
        raise StorageError(f"{where} keeps its data in other files; bring a whole image")
    if header.encrypted:
        raise StorageError(f"{where} is encrypted; that is not supported")
    if not 0 < header.virtual_size <= IMPORT_LIMIT:
        raise StorageError(f"{where} says its disk has {header.virtual_size} bytes; that cannot be")
