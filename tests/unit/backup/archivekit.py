"""Archives in memory for the tests: well made ones, and ones that lie."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xxhash
import zstandard

from vms.backup.archive import ArchiveWriter, Compress
from vms.backup.manifest import ArchivedDisk, Manifest
from vms.backup.nbd import Extent
from vms.backup.reader import ArchiveReader
from vms.backup.tarball import disk_header, map_text, padding, text_header

CONF = b"name: web\nmemory: 512\n"


class Memory:
    """A disk in memory."""

    def __init__(self, size: int, stretches: dict[int, bytes]) -> None:
        self.content = bytearray(size)
        self.stretches = stretches
        self.busy = self.most = 0
        for offset, data in stretches.items():
            self.content[offset : offset + len(data)] = data

    @property
    def size(self) -> int:
        return len(self.content)

    async def extents(self) -> list[Extent]:
        return [Extent(offset, len(data)) for offset, data in sorted(self.stretches.items())]

    async def read(self, offset: int, length: int) -> bytes:
        self.busy += 1
        self.most = max(self.most, self.busy)
        await asyncio.sleep(0)
        self.busy -= 1
        return bytes(self.content[offset : offset + length])


def manifest_of(disks: dict[str, int], **changes: Any) -> Manifest:
    """What names these members with these sizes."""
    rows = tuple(
        ArchivedDisk(
            key=member.removesuffix(".raw"), volid=f"local:101/vm-101-disk-{number}.qcow2", format="qcow2",
            size=size, member=member,
        )
        for number, (member, size) in enumerate(disks.items())
    )  # fmt: skip
    values: dict[str, Any] = {
        "vmid": 101, "name": "web", "node": "pve1", "begun": datetime(2026, 1, 31, 23, 59, tzinfo=UTC),
        "mode": "snapshot", "consistent": True, "product": "pvelite 0.1.0", "disks": rows,
    }  # fmt: skip
    return Manifest(**{**values, **changes})


async def write(path: Path, disks: dict[str, Memory], compress: Compress = "zstd", conf: bytes = CONF) -> int:
    """A well made archive; how many bytes were written."""
    with path.open("wb") as file:
        async with ArchiveWriter(file.fileno(), compress) as writer:
            told = manifest_of({member: disk.size for member, disk in disks.items()})
            await writer.add_text("manifest.json", told.format())
            await writer.add_text("qemu.conf", conf)
            for member, disk in disks.items():
                await writer.add_disk(member, disk)
            await writer.finish()
            return writer.written


@dataclass
class Forged:
    """An archive put together member by member, with sums that are right for whatever it holds."""

    data: bytearray = field(default_factory=bytearray)
    sums: list[dict[str, Any]] = field(default_factory=list)
    algorithm: str = "xxh128"

    def text(self, name: str, body: bytes) -> Forged:
        self.data += text_header(name, len(body), 0) + body + padding(len(body))
        return self._summed(name, body)

    def disk(
        self, name: str, size: int, extents: Sequence[Extent] = (), data: bytes = b"",
        *, map_: bytes | None = None,
    ) -> Forged:  # fmt: skip
        body = (map_text(extents, size) if map_ is None else map_) + data
        self.data += disk_header(name, len(body), size, 0) + body + padding(len(body))
        return self._summed(name, body)

    def _summed(self, name: str, body: bytes) -> Forged:
        digest = xxhash.xxh3_128(body) if self.algorithm == "xxh128" else hashlib.new(self.algorithm, body)
        self.sums.append({"name": name, "length": len(body), self.algorithm: digest.hexdigest()})
        return self

    def raw(self, data: bytes) -> Forged:
        self.data += data
        return self

    def end(self) -> bytes:
        told = json.dumps({"algorithm": self.algorithm, "members": self.sums}).encode()
        self.text("checksums.json", told)
        return bytes(self.data + bytes(1024))


def forged(disks: dict[str, int] | None = None, conf: bytes = CONF, **changes: Any) -> Forged:
    """The beginning of an archive of those disks."""
    told = manifest_of(disks or {}, **changes)
    made = Forged(algorithm="sha256" if told.version == 1 else "xxh128")
    return made.text("manifest.json", told.format()).text("qemu.conf", conf)


def packed(data: bytes, **options: Any) -> bytes:
    """Through zstd, as an archive is."""
    return zstandard.ZstdCompressor(**{"level": 1, "write_checksum": True, **options}).compress(data)


def read(data: bytes, compress: Compress = "0") -> dict[str, bytes]:
    """Read all of an archive; the disks' contents, small ones, by member."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        reader = ArchiveReader(file.fileno(), compress)
        reader.begin()
        found = {}
        for disk, pieces in reader.disks():
            content = bytearray(min(disk.size, 1 << 24))
            for at, piece in pieces:
                content[at : at + len(piece)] = piece
            found[disk.member] = bytes(content)
        reader.finish()
        return found
