"""The archive's skin: POSIX pax headers, and GNU tar's sparse format 1.0 for disks.

A disk's member holds the map of its data as decimal lines, padded to a block, then the data itself, so that
``tar -xf`` makes a sparse file of it. Both ways are here: a header that is written and one that is read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vms.backup.nbd import Extent
from vms.errors import StorageError

BLOCK = 512
TRAILER = bytes(2 * BLOCK)
MAP_ENTRIES = 1 << 17
"""The most stretches of data a disk is written as; the smallest gaps are stored as zeroes then."""
MAP_LIMIT = MAP_ENTRIES * 32
"""Bytes of the longest map: two decimal numbers of up to 15 digits an entry."""
ALIGN = 4096
GAP = 64 << 10
"""Bytes of the smallest gap between data that is left out."""
PAX_LIMIT = 4096
_OCTAL = 0o77777777777
_MAJOR, _MINOR = "GNU.sparse.major", "GNU.sparse.minor"
_NAME, _REAL, _SIZE = "GNU.sparse.name", "GNU.sparse.realsize", "size"


@dataclass(frozen=True)
class Member:
    """A member's header. ``stored``: bytes in the archive; ``size``: those of a sparse disk when it is whole,
    ``None`` for a plain text."""

    name: str
    stored: int
    size: int | None = None


def padding(length: int) -> bytes:
    """What fills the last block."""
    return bytes(-length % BLOCK)


def text_header(name: str, length: int, mtime: int) -> bytes:
    """The header of a plain member."""
    return _ustar(name, length, b"0", mtime)


def disk_header(name: str, stored: int, size: int, mtime: int) -> bytes:
    """The headers of a sparse member."""
    records = {_MAJOR: "1", _MINOR: "0", _NAME: name, _REAL: str(size), _SIZE: str(stored)}
    body = b"".join(_record(key, text) for key, text in records.items())
    extended = _ustar(f"PaxHeaders/{name}", len(body), b"x", mtime) + body + padding(len(body))
    return extended + _ustar(f"GNUSparseFile.0/{name}", stated(stored), b"0", mtime)


def stated(stored: int) -> int:
    """What the old header says of a size: it has no room for more than 8 GiB."""
    return min(stored, _OCTAL)


def _record(key: str, text: str) -> bytes:
    body = f" {key}={text}\n".encode()
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return f"{length}".encode() + body


def _ustar(name: str, size: int, kind: bytes, mtime: int) -> bytes:
    header = struct.pack(
        "100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x",
        name.encode(), b"0000600\0", b"0000000\0", b"0000000\0", b"%011o\0" % size, b"%011o\0" % mtime,
        b" " * 8, kind, b"", b"ustar\x0000", b"", b"", b"0000000\0", b"0000000\0", b"",
    )  # fmt: skip
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


# ---- a disk's map


def coarse(extents: Iterable[Extent], size: int) -> list[Extent]:
    """The stretches as they are stored: whole blocks, small gaps closed, in order, at most
    :data:`MAP_ENTRIES`."""
    found = _closed(
        (Extent(one.offset - one.offset % ALIGN, min(size, one.end + -one.end % ALIGN) - one.offset
                + one.offset % ALIGN) for one in extents if one.length and one.offset < size),
        GAP,
    )  # fmt: skip
    if len(found) < MAP_ENTRIES:
        return found
    gaps = sorted(range(1, len(found)), key=lambda number: found[number].offset - found[number - 1].end)
    close = set(gaps[: len(found) - MAP_ENTRIES + 1])
    few: list[Extent] = []
    for number, one in enumerate(found):
        if number in close:
            few[-1] = Extent(few[-1].offset, one.end - few[-1].offset)
        else:
            few.append(one)
    return few


def _closed(extents: Iterable[Extent], gap: int) -> list[Extent]:
    found: list[Extent] = []
    for one in extents:
        if found and one.offset - found[-1].end < gap:
            found[-1] = Extent(found[-1].offset, max(found[-1].end, one.end) - found[-1].offset)
        else:
            found.append(one)
    return found


def map_text(extents: Sequence[Extent], size: int) -> bytes:
    """The map as it stands before the data; a last entry without data marks the end of the file."""
    entries = list(extents)
    if not entries or entries[-1].end < size:
        entries.append(Extent(size, 0))
    lines = [str(len(entries)), *(f"{one.offset}\n{one.length}" for one in entries), ""]
    text = "\n".join(lines).encode()
    return text + padding(len(text))


# ---- reading


def read_ustar(block: bytes) -> tuple[str, int, bytes]:
    """Name, size and kind of a header this program wrote. Raises :class:`StorageError` for any other."""
    if not any(block):
        raise StorageError("is missing: the archive ends before it")
    if len(block) != BLOCK or block[148:156] != b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 256):
        raise StorageError("a header is damaged")
    try:
        name = block[:100].rstrip(b"\0").decode("ascii")
        size, mtime = (_octal(block[124:136]), _octal(block[136:148]))
    except ValueError:
        raise StorageError("a header is none of this program's") from None
    kind = block[156:157]
    if kind not in (b"0", b"x"):
        kinds = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device",
                 b"5": "a folder", b"6": "a FIFO"}  # fmt: skip
        raise StorageError(f"{name[:80]}: is {kinds.get(kind, 'no plain file')}")
    if block != _ustar(name, size, kind, mtime):
        raise StorageError(f"{name[:80]}: the header is none of this program's")
    return name, size, kind


def _octal(text: bytes) -> int:
    if text[-1:] != b"\0":
        raise ValueError("no octal number")
    return int(text[:-1].decode("ascii"), 8)


def read_pax(body: bytes, name: str) -> Member:
    """The member an extended header describes. ``name`` is the header's own. Raises :class:`StorageError`."""
    try:
        told = dict(line.split(" ", 1)[1].split("=", 1) for line in body.decode("ascii").splitlines())
        member = Member(told[_NAME], _number(told[_SIZE]), _number(told[_REAL]))
    except (ValueError, IndexError, KeyError):
        raise StorageError(f"{name[:80]}: the extended header is none of this program's") from None
    expected = disk_header(member.name, member.stored, member.size or 0, 0)[BLOCK : BLOCK + len(body)]
    if body != expected or name != f"PaxHeaders/{member.name}":
        raise StorageError(f"{name[:80]}: the extended header is none of this program's")
    return member


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ValueError("no number")
    return int(text)


class MapReader:
    """Reads a member's map from its blocks and holds it against the disk's size."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._text = bytearray()
        self.blocks = 0

    def feed(self, block: bytes) -> list[Extent] | None:
        """Take the next block. Answers the stretches of data once the map is whole.

        Raises :class:`StorageError` for a map that lies.
        """
        self.blocks += 1
        self._text += block
        if len(self._text) > MAP_LIMIT:
            raise self._wrong("it is too long")
        first, newline, _ = self._text.partition(b"\n")
        if not newline:
            raise self._wrong("it does not begin with a number")
        count = self._parsed(bytes(first))
        if not 0 < count <= MAP_ENTRIES:
            raise self._wrong(f"it has {count} entries, at most {MAP_ENTRIES} are read")
        if block.count(b"\n") == 0 or self._lines() < 2 * count + 1:
            if not block.count(b"\n"):
                raise self._wrong("a number is too long")
            return None
        *lines, rest = bytes(self._text).split(b"\n", 2 * count + 1)
        if rest.strip(b"\0"):
            raise self._wrong("something follows it")
        numbers = [self._parsed(line) for line in lines[1:]]
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        return self._judged([Extent(offset, length) for offset, length in pairs])

    def _lines(self) -> int:
        return self._text.count(b"\n")

    def _parsed(self, text: bytes) -> int:
        try:
            return _number(text.decode("ascii"))
        except ValueError:
            raise self._wrong(f"{text[:20]!r} is no number") from None

    def _judged(self, extents: list[Extent]) -> list[Extent]:
        size = self._member.size or 0
        at = 0
        for number, one in enumerate(extents):
            last = number == len(extents) - 1
            if one.offset < at:
                raise self._wrong("its stretches overlap or are out of order")
            if one.end > size:
                raise self._wrong(f"it reaches beyond the disk's {size} bytes")
            if not last and (one.offset % BLOCK or one.length % BLOCK or not one.length):
                raise self._wrong("a stretch is no whole number of blocks")
            at = one.end
        if at != size:
            raise self._wrong("it does not reach the disk's end")
        if self.blocks * BLOCK + sum(one.length for one in extents) != self._member.stored:
            raise self._wrong("it does not fit what is stored")
        return [one for one in extents if one.length]

    def _wrong(self, text: str) -> StorageError:
        return StorageError(f"{self._member.name}: its map of data cannot be right: {text}")
