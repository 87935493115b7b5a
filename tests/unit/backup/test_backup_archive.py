"""What the writer writes, ordinary tools read: ``tar``, ``zstd``."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest
import xxhash
from archivekit import CONF, Memory, manifest_of, write

from vms.backup.archive import ArchiveWriter, Compress, Limiter
from vms.backup.manifest import Manifest, parse
from vms.backup.nbd import Extent
from vms.backup.tarball import GAP, MAP_ENTRIES, coarse, map_text
from vms.errors import StorageError

MIB = 1 << 20


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


DISKS = {
    "scsi0.raw": Memory(
        60 * MIB + 512, {0: noise(5 * MIB), 20 * MIB: noise(3 * MIB + 512), 60 * MIB: b"x" * 512}
    ),
    "scsi1.raw": Memory(16 * MIB, {}),
    "virtio0.raw": Memory(7 * MIB + 4097, {MIB: noise(4096), 7 * MIB: noise(4097, 2)}),
    "efidisk0.raw": Memory(540672, {0: noise(540672, 3)}),
    "tpmstate0.raw": Memory(512, {0: noise(512, 4)}),
}  # fmt: skip


def manifest() -> Manifest:
    return manifest_of({member: disk.size for member, disk in DISKS.items()})


@pytest.mark.parametrize(("compress", "options"), [("zstd", ["--zstd"]), ("0", [])])
async def test_tar_makes_the_same_sparse_files(
    tmp_path: Path, compress: Compress, options: list[str]
) -> None:
    archive = tmp_path / "backup"
    assert await write(archive, DISKS, compress) == archive.stat().st_size
    assert archive.stat().st_size < 12 * MIB, "gaps take no room"
    if compress == "zstd":
        subprocess.run(["zstd", "-t", "-q", "--format=zstd", str(archive)], check=True)
    out = tmp_path / "out"
    out.mkdir()
    told = subprocess.run(
        ["tar", *options, "-xvf", str(archive), "-C", str(out)], check=True, capture_output=True, text=True
    )
    assert told.stderr == ""
    assert told.stdout.split() == ["manifest.json", "qemu.conf", *DISKS, "checksums.json"]
    assert parse((out / "manifest.json").read_bytes()) == manifest()
    assert (out / "qemu.conf").read_bytes() == CONF
    for member, disk in DISKS.items():
        assert (out / member).read_bytes() == disk.content, member
    assert (out / "scsi0.raw").stat().st_blocks * 512 < 12 * MIB, "and are gaps again"
    assert (out / "scsi1.raw").stat().st_blocks == 0


async def test_the_sums_are_of_what_is_stored(tmp_path: Path) -> None:
    archive = tmp_path / "backup.tar"
    await write(archive, DISKS, "0")
    raw = archive.read_bytes()
    listed = json.loads(raw[raw.index(b'{\n "algorithm"') :].rstrip(b"\0"))
    assert listed["algorithm"] == "xxh128"
    for one in listed["members"]:
        name, length = one["name"], one["length"]
        if name.endswith(".raw"):
            begin = raw.index(f"GNUSparseFile.0/{name}".encode()) + 512
        else:
            begin = raw.index(name.encode()) + 512
        assert xxhash.xxh3_128_hexdigest(raw[begin : begin + length]) == one["xxh128"], name
    assert [one["name"] for one in listed["members"]] == ["manifest.json", "qemu.conf", *DISKS]


async def test_a_disk_beyond_eight_gibibytes(tmp_path: Path) -> None:
    """What the old header has no room for stands in the extended one."""

    class Large:
        size = 9 << 30

        async def extents(self) -> list[Extent]:
            return [Extent(0, MIB), Extent(self.size - MIB, MIB)]

        async def read(self, offset: int, length: int) -> bytes:
            return bytes([offset >> 30]) * length

    with (tmp_path / "backup").open("wb") as file:
        async with ArchiveWriter(file.fileno()) as writer:
            await writer.add_disk("scsi0.raw", Large())
            await writer.finish()
    subprocess.run(["tar", "--zstd", "-xf", str(tmp_path / "backup"), "-C", str(tmp_path)], check=True)
    with (tmp_path / "scsi0.raw").open("rb") as found:
        assert os.fstat(found.fileno()).st_size == Large.size
        found.seek(Large.size - MIB)
        assert found.read() == b"\x08" * MIB


async def test_several_pieces_are_read_at_once_and_progress_is_told(tmp_path: Path) -> None:
    disk = Memory(32 * MIB, {0: noise(32 * MIB)})
    heard: list[tuple[int, int]] = []

    async def progress(done: int, whole: int) -> None:
        heard.append((done, whole))

    with (tmp_path / "backup").open("wb") as file:
        async with ArchiveWriter(file.fileno()) as writer:
            await writer.add_disk("scsi0.raw", disk, progress)
    assert 1 < disk.most <= 8
    assert heard[-1] == (32 * MIB, 32 * MIB)
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)


async def test_a_full_disk_is_told_in_words() -> None:
    with open("/dev/full", "wb", buffering=0) as file:
        async with ArchiveWriter(file.fileno(), "0") as writer:
            with pytest.raises(StorageError, match="No space left") as caught:
                await writer.add_disk("scsi0.raw", DISKS["scsi0.raw"])
    assert "Make room" in caught.value.hint


async def test_a_cancelled_writer_has_let_go_of_its_file(tmp_path: Path) -> None:
    """After the context nobody writes into the descriptor any more, and no task of it is left."""
    begun = asyncio.Event()

    class Endless:
        size = 1 << 40

        async def extents(self) -> list[Extent]:
            return [Extent(0, self.size)]

        async def read(self, offset: int, length: int) -> bytes:
            begun.set()
            return bytes(length)

    async def work() -> None:
        async with ArchiveWriter(file.fileno(), "0") as writer:
            await writer.add_disk("scsi0.raw", Endless())

    with (tmp_path / "backup").open("wb") as file:
        task = asyncio.create_task(work())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        size = os.fstat(file.fileno()).st_size
    assert (tmp_path / "backup").stat().st_size == size
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_disk_that_fails_is_told(tmp_path: Path) -> None:
    class Bad(Memory):
        async def read(self, offset: int, length: int) -> bytes:
            if offset > 8 * MIB:
                raise StorageError("NBD: 10485760+2097152: input/output error")
            return await super().read(offset, length)

    with (tmp_path / "backup").open("wb") as file:
        async with ArchiveWriter(file.fileno()) as writer:
            with pytest.raises(StorageError, match="input/output error"):
                await writer.add_disk("scsi0.raw", Bad(32 * MIB, {0: noise(32 * MIB)}))


async def test_the_limit_holds() -> None:
    """Ten times a tenth of a second's worth takes at least what it has to."""
    limiter, began = Limiter(10 * MIB), time.monotonic()
    for _ in range(6):
        await limiter.take(MIB)
    assert time.monotonic() - began >= 0.45
    began = time.monotonic()
    for _ in range(1000):
        await Limiter(0).take(1 << 40)
    assert time.monotonic() - began < 5


def test_small_gaps_are_closed_and_the_map_stays_bounded() -> None:
    small = [Extent(0, 512), Extent(GAP, 1000), Extent(10 * GAP + 5000, 10)]
    assert coarse(small, 1 << 30) == [Extent(0, GAP + 4096), Extent(10 * GAP + 4096, 4096)]
    assert coarse([Extent(0, 700)], 700) == [Extent(0, 700)]
    assert coarse([], 700) == []
    many = coarse([Extent(number * 2 * GAP, 4096) for number in range(3 * MAP_ENTRIES)], 1 << 40)
    assert len(many) == MAP_ENTRIES - 1, "no more is read than has to be"
    assert map_text([], 700).rstrip(b"\0") == b"1\n700\n0\n"
