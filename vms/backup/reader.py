"""Read a backup that may be anybody's: in one pass, in bounded memory, and only what the format allows.

There is one manifest, the first member; it says which members follow, and none but those is taken.
Nothing is taken for good before :meth:`ArchiveReader.finish` has found every sum right.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Literal

from vms.backup import tarball
from vms.backup.frame import Compressed, Plain, Stream
from vms.backup.manifest import CONF, LIMIT, MEMBER, SUMS, ArchivedDisk, Manifest, parse, parse_json
from vms.backup.sums import Sums
from vms.backup.tarball import BLOCK, MapReader, Member
from vms.errors import StorageError

PIECE = 512 << 10
"""Bytes of a disk handed out at once."""

Compress = Literal["0", "zstd"]
Piece = tuple[int, memoryview]
"""Where some bytes of a disk belong, and the bytes."""


class ArchiveReader:
    """One archive from an open file. In this order: :meth:`begin`, :meth:`disks`, :meth:`finish`.

    Each raises :class:`StorageError` that names the member.
    """

    def __init__(self, descriptor: int, compress: Compress) -> None:
        self._stream: Stream = Compressed(descriptor) if compress == "zstd" else Plain(descriptor)
        self._manifest: Manifest | None = None
        self._sums = Sums()

    def begin(self) -> tuple[bytes, bytes]:
        """The texts of the manifest and of the configuration."""
        with _about(MEMBER):
            told = self._text(MEMBER, LIMIT)
            self._manifest = parse(told)
            self._sums = Sums(self._manifest.version)
            self._sums.add_text(MEMBER, told)
        with _about(CONF):
            conf = self._text(CONF, LIMIT)
            self._sums.add_text(CONF, conf)
            return told, conf

    @property
    def manifest(self) -> Manifest:
        """What :meth:`begin` has read."""
        if self._manifest is None:
            raise ValueError("the archive was not begun")
        return self._manifest

    def disks(self) -> Iterator[tuple[ArchivedDisk, Iterator[Piece]]]:
        """Each disk with its data, which has to be taken to its end before the next."""
        for disk in self.manifest.disks:
            yield disk, self._disk(disk)

    def finish(self) -> None:
        """Hold what was read against the sums; the archive has to end there."""
        with _about(SUMS):
            expected = self._sums.table()
            told = parse_json(self._text(SUMS, LIMIT), SUMS, LIMIT)
            if told != expected:
                raise StorageError(_difference(told, expected))
            if self._take(len(tarball.TRAILER)) != tarball.TRAILER:
                raise StorageError("another member follows, which does not belong here")
            if self._stream.readinto(memoryview(bytearray(1))):
                raise StorageError("something follows the archive's end")

    # ---- members

    def _text(self, name: str, limit: int) -> bytes:
        found, length, kind = tarball.read_ustar(self._take(BLOCK))
        if kind != b"0" or found != name:
            raise _unexpected(found, name)
        if length > limit:
            raise StorageError(f"has {length} bytes, at most {limit} are read")
        data = self._take(length)
        self._padding(length)
        return data

    def _disk(self, disk: ArchivedDisk) -> Iterator[Piece]:
        with _about(disk.member):
            member = self._disk_header(disk)
            digest = self._sums.begun()
            extents = None
            reader = MapReader(member)
            while extents is None:
                block = self._take(BLOCK)
                digest.update(block)
                extents = reader.feed(block)
        for one in extents:
            at = one.offset
            while at < one.end:
                with _about(disk.member):
                    data = self._fill(min(PIECE, one.end - at))
                    digest.update(data)
                yield at, data
                at += len(data)
        with _about(disk.member):
            self._padding(member.stored)
        self._sums.add(disk.member, member.stored, digest)

    def _disk_header(self, disk: ArchivedDisk) -> Member:
        found, length, kind = tarball.read_ustar(self._take(BLOCK))
        if kind != b"x":
            raise _unexpected(found, disk.member)
        if length > tarball.PAX_LIMIT:
            raise StorageError(f"its extended header has {length} bytes")
        member = tarball.read_pax(self._take(length), found)
        self._padding(length)
        name, stored, kind = tarball.read_ustar(self._take(BLOCK))
        if member.name != disk.member:
            raise _unexpected(member.name, disk.member)
        if (
            kind != b"0"
            or name != f"GNUSparseFile.0/{member.name}"
            or stored != tarball.stated(member.stored)
        ):
            raise StorageError("its two headers do not fit each other")
        if member.size != disk.size:
            raise StorageError(f"is a disk of {member.size} bytes; the manifest says {disk.size}")
        if member.stored > disk.size + tarball.MAP_LIMIT:
            raise StorageError(f"holds {member.stored} bytes for a disk of {disk.size}")
        return member

    # ---- bytes

    def _take(self, length: int) -> bytes:
        return bytes(self._fill(length))

    def _fill(self, length: int) -> memoryview:
        view = memoryview(bytearray(length))
        at = 0
        while at < length:
            got = self._stream.readinto(view[at:])
            if not got:
                raise StorageError("the file is not complete: it ends in the middle")
            at += got
        return view

    def _padding(self, length: int) -> None:
        filler = tarball.padding(length)
        if self._take(len(filler)) != filler:
            raise StorageError("its last block is damaged")


@contextlib.contextmanager
def _about(member: str) -> Iterator[None]:
    """Errors name the member."""
    try:
        yield
    except StorageError as error:
        text = error.text if error.text.startswith(f"{member}:") else f"{member}: {error.text}"
        raise StorageError(text, hint=error.hint) from error


def _unexpected(found: str, wanted: str) -> StorageError:
    return StorageError(f"is missing; {found[:80]!a} stands in its place, which does not belong here")


def _difference(told: Mapping[str, object], expected: Mapping[str, object]) -> str:
    """What of the sums is wrong, in words."""
    rows, wanted = told.get("members"), expected["members"]
    if isinstance(rows, list) and isinstance(wanted, list):
        for row, right in zip(rows, wanted, strict=False):
            if row != right:
                return f"the sum of {right['name']} does not match: what is stored was changed"
    return "it does not list the members there are"
