"""The process that reads archives: what it writes, what it may do, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "backup"))
from archivekit import CONF, Memory, forged, manifest_of, packed, write

from vms.backup.extraction import Extraction, Mode, extraction
from vms.backup.nbd import Extent
from vms.errors import StorageError
from vms.hardware.volume import VolumeSource
from vms.qemu.diskserver import Export, disk_server

MIB = 1 << 20
WHOLE = [Extent(0, 4096)]
NOISE = random.Random(11).randbytes(4 * MIB)


@contextlib.asynccontextmanager
async def reading(
    path: Path, mode: Mode, *, compress: bool = True, limit: int = 0
) -> AsyncIterator[Extraction]:
    with path.open("rb") as file:
        async with extraction(
            file.fileno(), f"local:backup/{path.name}", mode, compress=compress, limit=limit
        ) as found:
            yield found


async def silent(_fraction: float, _member: str) -> None:
    pass


def empty(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


async def connected(path: Path, *names: str) -> dict[str, socket.socket]:
    links = {}
    for name in names:
        links[name] = socket.socket(socket.AF_UNIX)
        await asyncio.to_thread(links[name].connect, str(path))
    return links


async def test_disks_come_back_byte_for_byte(tmp_path: Path) -> None:
    disks = {
        "scsi0.raw": Memory(64 * MIB, {0: NOISE, 40 * MIB: NOISE[:100_000]}),
        "efidisk0.raw": Memory(540672, {0: NOISE[:540672]}),
    }
    await write(tmp_path / "backup", disks)
    heard: list[float] = []

    async def progress(fraction: float, _member: str) -> None:
        heard.append(fraction)

    exports = [
        Export(name=member, source=VolumeSource("file", str(empty(tmp_path / member, disk.size)), "raw"),
               format="raw", writable=True)
        for member, disk in disks.items()
    ]  # fmt: skip
    async with reading(tmp_path / "backup", "restore") as found:
        assert found.manifest == manifest_of({member: disk.size for member, disk in disks.items()})
        assert found.conf == CONF
        async with disk_server(exports, tmp_path / "run", user=None) as path:
            await found.restore(await connected(path, *disks), progress)
    for member, disk in disks.items():
        assert (tmp_path / member).read_bytes() == disk.content, member
    assert (tmp_path / "scsi0.raw").stat().st_blocks * 512 < 8 * MIB, "gaps are not written"
    assert heard == sorted(heard)
    assert heard[-1] == 1


async def test_verify_and_head(tmp_path: Path) -> None:
    await write(tmp_path / "backup", {"scsi0.raw": Memory(64 * MIB, {0: NOISE})}, "0")
    async with reading(tmp_path / "backup", "verify", compress=False) as found:
        await found.verify(silent)
    async with reading(tmp_path / "backup", "head", compress=False) as found:
        assert found.manifest.name == "web"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "manifest.json: the file is not complete"),
        (NOISE[:10_000], "manifest.json: this is no zstd file"),
        (packed(forged({"scsi0.raw": 4096}).end()), "scsi0.raw: is missing"),
        (packed(forged({"scsi0.raw": 4096}).disk("scsi0.raw", 4096, WHOLE, NOISE[:4096]).end())[:-9],
         "not complete"),
    ],
)  # fmt: skip
async def test_errors_name_archive_and_member(tmp_path: Path, data: bytes, word: str) -> None:
    (tmp_path / "backup").write_bytes(data)
    with pytest.raises(StorageError, match=r"backup 'local:backup/backup': .*") as caught:
        async with reading(tmp_path / "backup", "verify") as found:
            await found.verify(silent)
    assert word in str(caught.value)


async def test_it_can_do_nothing_else(tmp_path: Path) -> None:
    """No privileges, no files, no new programs: seen from outside while it waits for its sockets."""
    await write(tmp_path / "backup", {"scsi0.raw": Memory(MIB, {0: NOISE[:MIB]})})
    async with reading(tmp_path / "backup", "restore") as found:
        pid = found.process.pid
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert status["NoNewPrivs"] == "1"
        if os.geteuid() == 0:
            assert set(status["Uid"].split()) == {"65534"}
            assert status["Groups"].split() == []
            assert int(status["CapEff"], 16) == 0
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert "Max file size             0 " in limits
        kinds = {
            os.readlink(f"/proc/{pid}/fd/{name}").partition(":")[0] for name in os.listdir(f"/proc/{pid}/fd")
        }
        assert kinds <= {"/dev/null", "pipe", "socket", "anon_inode", str(tmp_path / "backup")}
    assert not Path(f"/proc/{pid}").exists(), "given up, it is gone"


async def test_a_disk_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    await write(tmp_path / "backup", {"scsi0.raw": Memory(4 * MIB, {0: NOISE})})
    target = empty(tmp_path / "target", 4 * MIB)
    export = Export(name="scsi0.raw", source=VolumeSource("file", str(target), "raw"), format="raw")
    async with disk_server([export], tmp_path / "run", user=None) as path:
        with pytest.raises(StorageError, match=r"scsi0\.raw: cannot be written: NBD"):
            async with reading(tmp_path / "backup", "restore") as found:
                await found.restore(await connected(path, "scsi0.raw"), silent)
        small = Export(
            name="scsi0.raw",
            source=VolumeSource("file", str(empty(tmp_path / "s", MIB)), "raw"),
            format="raw",
        )
    async with disk_server([small], tmp_path / "run", user=None) as path:
        with pytest.raises(StorageError, match=r"scsi0\.raw: its new volume is smaller"):
            async with reading(tmp_path / "backup", "restore") as found:
                await found.restore(await connected(path, "scsi0.raw"), silent)


async def test_cancelled_it_is_gone(tmp_path: Path) -> None:
    """With a limit it is slow enough to be caught in the middle."""
    await write(tmp_path / "backup", {"scsi0.raw": Memory(64 * MIB, {0: NOISE * 16})})
    pids: list[int] = []

    async def work() -> None:
        async with reading(tmp_path / "backup", "verify", limit=MIB) as found:
            pids.append(found.process.pid)
            await found.verify(silent)

    task = asyncio.create_task(work())
    async with asyncio.timeout(30):
        while not pids:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not Path(f"/proc/{pids[0]}").exists()
