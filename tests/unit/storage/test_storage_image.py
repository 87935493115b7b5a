"""Our own header reader against images that mean no good."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from vms.errors import StorageError
from vms.storage.header import Header, check_iso, check_plain, inspect

SECTOR = 2048
Make = Callable[[bytes], int]


@pytest.fixture
def opened(tmp_path: Path) -> Make:
    """Write bytes to a file and answer an open descriptor of it."""

    def make(content: bytes) -> int:
        path = tmp_path / os.urandom(4).hex()
        path.write_bytes(content)
        return os.open(path, os.O_RDONLY)

    return make


def iso_bytes(
    *, sectors: int = 40, block: int = SECTOR, boot: bool = True, declared: int | None = None
) -> bytes:
    """The smallest thing that is an ISO 9660 volume."""
    primary = bytearray(SECTOR)
    primary[0:7] = b"\x01CD001\x01"
    struct.pack_into("<I", primary, 80, sectors if declared is None else declared)
    struct.pack_into("<H", primary, 128, block)
    torito = bytearray(SECTOR)
    torito[0:7] = b"\x00CD001\x01"
    torito[7:30] = b"EL TORITO SPECIFICATION"
    end = bytearray(SECTOR)
    end[0:7] = b"\xffCD001\x01"
    body = bytes(16 * SECTOR) + bytes(primary) + (bytes(torito) if boot else b"") + bytes(end)
    return body.ljust(sectors * SECTOR, b"\0")


def qcow2_bytes(*, version: int = 3, backing: bytes = b"", crypt: int = 0, incompatible: int = 0) -> bytes:
    at = 1024 if backing else 0
    head = struct.pack(">4sIQIIQI", b"QFI\xfb", version, at, len(backing), 16, 5 << 30, crypt)
    head = head.ljust(72, b"\0") + struct.pack(">Q", incompatible)
    return head.ljust(1024, b"\0") + backing.ljust(512, b"\0")


def test_a_real_iso(opened: Make) -> None:
    header = inspect(opened(iso_bytes()))
    assert header == Header(kind="iso", virtual_size=40 * SECTOR, bootable=True)
    assert check_iso(opened(iso_bytes(boot=False))).bootable is False


def test_debians_memtest_is_one() -> None:
    descriptor = os.open("/usr/lib/memtest86+/memtest86+x64.iso", os.O_RDONLY)
    header = check_iso(descriptor)
    os.close(descriptor)
    assert header.bootable


def test_qcow2_fields(opened: Make) -> None:
    plain = inspect(opened(qcow2_bytes()))
    assert plain == Header(kind="qcow2", virtual_size=5 << 30)
    assert inspect(opened(qcow2_bytes(backing=b"/etc/shadow"))).backing == "/etc/shadow"
    assert inspect(opened(qcow2_bytes(incompatible=4))).data_file
    assert inspect(opened(qcow2_bytes(crypt=2))).encrypted
    assert inspect(opened(qcow2_bytes(version=1))).kind == "qcow"


def test_backing_name_outside_the_file_is_still_seen(opened: Make) -> None:
    head = struct.pack(">4sIQIIQI", b"QFI\xfb", 3, 1 << 60, 4096, 16, 1 << 30, 0).ljust(512, b"\0")
    assert inspect(opened(head)).backing == "(unreadable)"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no ISO 9660 volume"),
        (b"QFI\xfb", "damaged"),
        (qcow2_bytes(backing=b"/etc/shadow"), "qcow2"),
        (b"KDMV" + bytes(40000), "vmdk"),
        (b"# Disk DescriptorFile\nextent /etc/passwd", "vmdk"),
        (b"\x1f\x8b" + bytes(40000), "gzip"),
        (b"<!doctype html>" + bytes(40000), "html"),
        (b"\x7fELF" + bytes(40000), "no ISO 9660 volume"),
        (bytes(64) + b"\x7f\x10\xda\xbe" + bytes(40000), "vdi"),
        (bytes(40000) + b"conectix" + bytes(504), "vpc"),
        (bytes(32768) + b"\x01CD001", "no ISO 9660 volume"),
        (iso_bytes(block=0), "no ISO 9660 volume"),
        (iso_bytes(declared=100000), "cut short"),
        # A file that is both: whoever guesses its format opens the author's backing file.
        (qcow2_bytes(backing=b"/etc/shadow") + iso_bytes()[1536:], "qcow2"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)}-bytes",
)
def test_what_is_no_iso_is_refused(opened: Make, content: bytes, word: str) -> None:
    with pytest.raises(StorageError, match=word):
        check_iso(opened(content))


def test_a_raw_disk_is_not_judged_by_the_guests_bytes() -> None:
    check_plain(Header(kind="qcow2", virtual_size=1, backing="/etc/shadow"), "raw", "x")


@pytest.mark.parametrize(
    "header",
    [
        Header(kind="raw", virtual_size=1),
        Header(kind="qcow2", virtual_size=1, backing="base"),
        Header(kind="qcow2", virtual_size=1, data_file=True),
        Header(kind="qcow2", virtual_size=1, encrypted=True),
    ],
)
def test_a_qcow2_that_reaches_outside_itself_is_refused(header: Header) -> None:
    with pytest.raises(StorageError):
        check_plain(header, "qcow2", "volume 'local:101/vm-101-disk-0.qcow2'")
