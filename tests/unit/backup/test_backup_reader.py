"""The strict reader: what is well made comes back byte for byte, everything else is refused with its name."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
import zstandard
from archivekit import CONF, Forged, Memory, forged, manifest_of, packed, read, write
from hypothesis import given, settings
from hypothesis import strategies as st

from vms.backup.manifest import LIMIT
from vms.backup.nbd import Extent
from vms.backup.tarball import map_text, text_header
from vms.errors import StorageError

NOISE = random.Random(7).randbytes(1 << 20)


def good() -> dict[str, Memory]:
    return {
        "scsi0.raw": Memory(400_000, {0: NOISE[:5000], 300_000: NOISE[5000:9000]}),
        "efidisk0.raw": Memory(700, {0: NOISE[:700]}),
    }


async def small(path: Path, compress: str) -> bytes:
    """An archive of a few kilobytes."""
    disks = {"scsi0.raw": Memory(8192, {4096: NOISE[:600]})}
    await write(path / "small", disks, "zstd" if compress == "zstd" else "0")
    return (path / "small").read_bytes()


@pytest.mark.parametrize("compress", ["0", "zstd"])
async def test_there_and_back(tmp_path: Path, compress: str) -> None:
    kind = "zstd" if compress == "zstd" else "0"
    disks = good() | {
        "virtio1.raw": Memory(5 << 20, {100: NOISE, 3 << 20: NOISE}),
        "scsi3.raw": Memory(1 << 20, {}),
    }
    await write(tmp_path / "backup", disks, kind)
    found = read((tmp_path / "backup").read_bytes(), kind)
    assert found == {member: bytes(disk.content) for member, disk in disks.items()}


@pytest.mark.parametrize("compress", ["0", "zstd"])
async def test_a_flipped_bit_anywhere(tmp_path: Path, compress: str) -> None:
    """Manifest, configuration, headers, map, data, padding, sums, trailer, frame: one bit in each byte."""
    kind = "zstd" if compress == "zstd" else "0"
    whole = await small(tmp_path, compress)
    content = read(whole, kind)
    chance = random.Random(5)
    refused: list[str] = []
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        try:
            assert read(bytes(damaged), kind) == content, f"byte {place}: other data, and nobody says so"
        except StorageError as error:
            refused.append(f"{place}: {error}")
    members = (": manifest.json: ", ": qemu.conf: ", ": scsi0.raw: ", ": checksums.json: ")
    assert [one for one in refused if not any(member in one for member in members)] == []
    # zstd has a few bits that mean nothing; a plain tar as it is read here has none.
    assert len(refused) > 0.9 * len(whole)
    assert kind == "zstd" or len(refused) == len(whole)


@pytest.mark.parametrize("compress", ["0", "zstd"])
async def test_a_truncated_file(tmp_path: Path, compress: str) -> None:
    """Cut anywhere, also in the last bytes, which only end it."""
    kind = "zstd" if compress == "zstd" else "0"
    whole = await small(tmp_path, compress)
    for length in [*range(0, len(whole), 97), *range(len(whole) - 8, len(whole))]:
        with pytest.raises(StorageError, match=r"not complete|damaged"):
            read(whole[:length], kind)
    for more in (b"\0", b"x" * 512, bytes(1 << 20)):
        with pytest.raises(StorageError, match=r"something follows"):
            read(whole + more, kind)
    if kind == "zstd":
        with pytest.raises(StorageError, match=r"something follows"):
            read(whole + packed(b"more"), kind)


@given(
    size=st.integers(1, 1 << 20),
    stretches=st.lists(st.tuples(st.integers(0, (1 << 20) - 1), st.integers(1, 200_000)), max_size=12),
    compress=st.sampled_from(["0", "zstd"]),
)
@settings(max_examples=60, deadline=None)
def test_any_disk_comes_back(size: int, stretches: list[tuple[int, int]], compress: str) -> None:
    """Whatever its size, and wherever there is data."""
    held: dict[int, bytes] = {}
    at = 0
    for offset, length in sorted(stretches):
        begin, end = max(offset, at), min(offset + length, size)
        if begin < end:
            held[begin], at = NOISE[begin:end], end
    kind = "zstd" if compress == "zstd" else "0"
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(write(Path(folder) / "backup", {"scsi0.raw": (disk := Memory(size, held))}, kind))
        assert read((Path(folder) / "backup").read_bytes(), kind) == {"scsi0.raw": bytes(disk.content)}


def tar_with(member: tarfile.TarInfo, body: bytes = b"") -> bytes:
    """A member as ``tar`` would write it."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(member, io.BytesIO(body))
    return output.getvalue()[: 512 + len(body) + -len(body) % 512]


def odd(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return tar_with(member)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (odd("../../etc/cron.d/evil"), "none of this program's"),
        (odd("/etc/passwd"), "none of this program's"),
        (text_header("../../etc/cron.d/evil", 0, 0), "'../../etc/cron.d/evil' stands in its place"),
        (text_header("/etc/passwd", 0, 0), "'/etc/passwd' stands in its place"),
        (odd("scsi0.raw", tarfile.SYMTYPE, "/dev/sda"), "is a symbolic link"),
        (odd("scsi0.raw", tarfile.LNKTYPE, "qemu.conf"), "is a hard link"),
        (odd("scsi0.raw", tarfile.CHRTYPE), "is a device"),
        (odd("scsi0.raw", tarfile.BLKTYPE), "is a device"),
        (odd("scsi0.raw", tarfile.FIFOTYPE), "is a FIFO"),
        (odd("scsi0.raw", tarfile.DIRTYPE), "is a folder"),
        (odd("scsi0.raw", b"L"), "is no plain file"),
        (text_header("manifest.json", 0, 0), "'manifest.json' stands in its place"),
        (text_header("scsi0.raw", 0, 0), "stands in its place"),
    ],
)
def test_members_that_do_not_belong(data: bytes, word: str) -> None:
    """Where the disk should be; each is refused before a byte of it is taken."""
    with pytest.raises(StorageError, match=word) as caught:
        read(forged({"scsi0.raw": 4096}).raw(data).end())
    assert str(caught.value).startswith("scsi0.raw: ")


def test_members_twice_absent_or_too_many() -> None:
    disk = (4096, [Extent(0, 4096)], bytes(4096))
    with pytest.raises(StorageError, match=r"scsi0.raw: is missing; 'PaxHeaders/scsi1.raw'|scsi1.raw"):
        read(forged({"scsi0.raw": 4096}).disk("scsi1.raw", *disk).end())
    with pytest.raises(StorageError, match=r"scsi0.raw: is missing; 'checksums.json' stands in its place"):
        read(forged({"scsi0.raw": 4096}).end())
    with pytest.raises(StorageError, match=r"checksums.json: is missing; 'PaxHeaders/scsi0.raw' stands"):
        read(forged({"scsi0.raw": 4096}).disk("scsi0.raw", *disk).disk("scsi0.raw", *disk).end())
    with pytest.raises(StorageError, match=r"checksums.json: is missing; 'manifest.json' stands"):
        read(forged().text("manifest.json", manifest_of({}).format()).end())
    with pytest.raises(StorageError, match=r"qemu\.conf: is missing"):
        told = manifest_of({}).format()
        read(Forged().text("manifest.json", told).text("manifest.json", told).end())
    with pytest.raises(StorageError, match=r"another member follows"):
        read(forged().end()[:-1024] + text_header("more", 0, 0) + bytes(1024))
    with pytest.raises(StorageError, match=r"scsi0.raw: is missing: the archive ends"):
        read(bytes(forged({"scsi0.raw": 4096}).data) + bytes(1024))


@pytest.mark.parametrize(
    ("map_", "data", "word"),
    [
        (b"2\n0\n4096\n2048\n4096\n", 8192, "overlap"),
        (b"2\n4096\n512\n0\n512\n", 1024, "overlap or are out of order"),
        (b"1\n0\n99999\n", 1024, "beyond"),
        (b"2\n0\n512\n999999999999\n0\n", 512, "beyond"),
        (b"1\n-512\n512\n", 512, "no number"),
        (b"-1\n", 0, "no number"),
        (b"0\n", 0, "0 entries"),
        (b"999999\n", 0, "999999 entries"),
        (b"1\n0\n8192\n", 512, "does not fit what is stored"),
        (b"1\n0\n4096\n", 4096, "does not reach the disk's end"),
        (b"3\n0\n100\n100\n412\n8192\n0\n", 512, "no whole number of blocks"),
        (b"1\n0\n8192\nmore", 8192, "something follows"),
        (b"1\n" + b"9" * 600, 0, "is too long|no number"),
        (b"x" * 512, 512, "does not begin with a number"),
        (b"\0" * 512, 512, "does not begin with a number"),
        (b"1\n0x10\n512\n", 512, "no number"),
    ],
)
def test_a_map_that_lies(map_: bytes, data: int, word: str) -> None:
    text = map_ + bytes(-len(map_) % 512)
    with pytest.raises(StorageError, match=word) as caught:
        read(forged({"scsi0.raw": 8192}).disk("scsi0.raw", 8192, data=bytes(data), map_=text).end())
    assert str(caught.value).startswith("scsi0.raw: its map of data cannot be right")


def test_sizes_that_lie() -> None:
    whole = [Extent(0, 4096)]
    with pytest.raises(StorageError, match=r"is a disk of 8192 bytes; the manifest says 4096"):
        read(forged({"scsi0.raw": 4096}).disk("scsi0.raw", 8192, whole, bytes(4096)).end())
    with pytest.raises(StorageError, match=r"scsi0.raw: holds .* bytes for a disk of 4096"):
        read(forged({"scsi0.raw": 4096}).disk("scsi0.raw", 4096, whole, bytes(16 << 20)).end())
    header = bytearray(forged().data)
    with pytest.raises(StorageError, match=r"manifest.json: has 1048576 bytes, at most"):
        read(Forged().text("manifest.json", bytes(1 << 20)).end())
    with pytest.raises(StorageError, match=r"qemu.conf: has .* bytes, at most"):
        read(forged(conf=bytes(LIMIT + 1)).end())
    with pytest.raises(StorageError, match=r"checksums.json: has"):
        read(bytes(header) + text_header("checksums.json", LIMIT + 1, 0) + bytes(LIMIT + 512) + bytes(1024))


def test_the_first_version_had_other_sums() -> None:
    data = NOISE[:4096]
    old = forged({"scsi0.raw": 4096}, version=1).disk("scsi0.raw", 4096, [Extent(0, 4096)], data)
    assert old.sums[2]["sha256"] == hashlib.sha256(map_text([Extent(0, 4096)], 4096) + data).hexdigest()
    assert read(old.end()) == {"scsi0.raw": data}
    old.sums[2]["sha256"] = "0" * 64
    with pytest.raises(StorageError, match=r"checksums.json"):
        read(bytes(old.end()))
    mixed = forged({"scsi0.raw": 4096}).disk("scsi0.raw", 4096, [Extent(0, 4096)], data)
    mixed.algorithm = "sha256"
    with pytest.raises(StorageError, match=r"checksums.json"):
        read(mixed.end())


def test_sums_that_do_not_fit() -> None:
    data = forged({"scsi0.raw": 4096}).disk("scsi0.raw", 4096, [Extent(0, 4096)], NOISE[:4096])
    data.sums[2]["xxh128"] = "0" * 32
    with pytest.raises(StorageError, match=r"checksums.json: the sum of scsi0.raw does not match"):
        read(data.end())
    for sums in ([], [{}], "x", None, [1, 2, 3], data.sums[:2]):
        other = forged({"scsi0.raw": 4096}).disk("scsi0.raw", 4096, [Extent(0, 4096)], NOISE[:4096])
        other.sums = sums if isinstance(sums, list) else []
        body = json.dumps({"algorithm": "xxh128", "members": sums}).encode()
        with pytest.raises(StorageError, match=r"checksums.json"):
            read(
                bytes(other.data)
                + text_header("checksums.json", len(body), 0)
                + body.ljust(512, b"\0")
                + bytes(1024)
            )


def test_a_qcow2_where_raw_is_due_is_raw_bytes(tmp_path: Path) -> None:
    """Its header, backing file and all, is what the disk begins with, and nothing more."""
    base, top = tmp_path / "base.raw", tmp_path / "top.qcow2"
    base.write_bytes(b"secret" * 1000)
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "raw", str(top)]
    subprocess.run(create, check=True)
    image = top.read_bytes().ljust(1 << 18, b"\0")
    data = forged({"scsi0.raw": 1 << 18}).disk("scsi0.raw", 1 << 18, [Extent(0, 1 << 18)], image).end()
    assert read(data) == {"scsi0.raw": image}


def test_compressed_garbage() -> None:
    whole = forged({"scsi0.raw": 4096}).disk("scsi0.raw", 4096, [Extent(0, 4096)], NOISE[:4096]).end()
    assert read(packed(whole), "zstd") == {"scsi0.raw": NOISE[:4096]}
    with pytest.raises(StorageError, match=r"manifest.json: this is no zstd file"):
        read(NOISE[:100_000], "zstd")
    with pytest.raises(StorageError, match=r"this is no zstd file"):
        read(whole, "zstd")
    with pytest.raises(StorageError, match=r"carries no checksum"):
        read(packed(whole, write_checksum=False), "zstd")
    with pytest.raises(StorageError, match=r"damaged|not complete"):
        read(packed(whole)[:40] + NOISE[:2000], "zstd")
    with pytest.raises(StorageError, match=r"manifest.json: a header"):
        read(packed(NOISE), "zstd")
    wide = zstandard.ZstdCompressionParameters(window_log=27, write_checksum=True, write_content_size=False)
    large = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    with pytest.raises(StorageError, match=r"damaged"):
        read(large.compress(whole) + large.flush(), "zstd")


def test_a_bomb_costs_no_memory() -> None:
    """Mebibytes of zeroes in some bytes are refused by the first block."""
    squeeze = zstandard.ZstdCompressor(level=1, write_checksum=True).compressobj()
    body = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(64)) + squeeze.flush()
    assert len(body) < 20_000
    with pytest.raises(StorageError, match=r"manifest.json: is missing"):
        read(body, "zstd")


def test_the_map_is_read_as_it_is_written() -> None:
    """Also one that is longer than a block."""
    extents = [Extent(number * 8192, 4096) for number in range(300)]
    assert len(map_text(extents, 3 << 20)) > 2048
    content = bytearray(3 << 20)
    for one in extents:
        content[one.offset : one.end] = NOISE[:4096]
    data = forged({"scsi0.raw": 3 << 20}).disk("scsi0.raw", 3 << 20, extents, NOISE[:4096] * 300).end()
    assert read(data) == {"scsi0.raw": bytes(content)}


def test_the_configuration_comes_as_it_is() -> None:
    assert read(forged(conf=b"\xff\xfe binary, judged later").end()) == {}
    assert CONF.endswith(b"\n")
