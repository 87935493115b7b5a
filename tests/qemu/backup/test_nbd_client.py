"""The NBD client against the real server."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from vms.backup.archive import ArchiveWriter
from vms.backup.nbd import REQUEST_LIMIT, Extent, NbdClient
from vms.errors import StorageError

MIB = 1 << 20
Serve = Callable[..., str]


def image(path: Path, size: int, *commands: str) -> Path:
    """A qcow2 into which ``qemu-io`` wrote."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), str(size)], check=True)
    words = [word for command in commands for word in ("-c", command)]
    subprocess.run(["qemu-io", "-f", "qcow2", *words, str(path)], check=True, stdout=subprocess.DEVNULL)
    return path


async def test_a_disk_with_data_zeroes_and_holes(tmp_path: Path, served: Serve) -> None:
    """A qcow2 whose size is no multiple of 4 KiB is read as it is, and only where there is data."""
    size = 3 * (1 << 30) + 512
    path = image(
        tmp_path / "disk.qcow2", size, "write -P 0x11 0 1M", "write -z 1M 1M", "write -P 0x22 2G 64k",
        f"write -P 0x33 {size - 512} 512",
    )  # fmt: skip
    async with await NbdClient.connect(served(path, "qcow2")) as client:
        assert client.size == size
        found = await client.extents()
        assert found[0] == Extent(0, MIB)
        assert Extent(2 << 30, 64 << 10) in found
        assert found[-1].end == size
        assert sum(one.length for one in found) < 3 * MIB
        assert await client.read(MIB - 512, 1024) == b"\x11" * 512 + bytes(512)
        assert await client.read(size - 1024, 1024) == bytes(512) + b"\x33" * 512
        several = await asyncio.gather(*(client.read((2 << 30) + 4096 * n, 4096) for n in range(16)))
        assert set(several[0]) == {0x22}
        assert all(one == several[0] for one in several)
        with (tmp_path / "backup").open("wb") as file:
            async with ArchiveWriter(file.fileno()) as writer:
                await writer.add_disk("scsi0.raw", client)
                await writer.finish()
    subprocess.run(["tar", "--zstd", "-xf", str(tmp_path / "backup"), "-C", str(tmp_path)], check=True)
    compare = [
        "qemu-img",
        "compare",
        "-U",
        "-f",
        "qcow2",
        "-F",
        "raw",
        str(path),
        str(tmp_path / "scsi0.raw"),
    ]
    assert subprocess.run(compare, stdout=subprocess.DEVNULL).returncode == 0


async def test_writing_and_zeroing(tmp_path: Path, served: Serve) -> None:
    """What was written, many requests at once, is there after a flush, for another client too."""
    path = image(tmp_path / "disk.qcow2", 64 * MIB, "write -P 0xff 0 8M")
    socket = served(path, "qcow2")
    pieces = [random.Random(number).randbytes(MIB) for number in range(16)]
    async with await NbdClient.connect(socket) as client:
        await asyncio.gather(*(client.write((16 + n) * MIB, piece) for n, piece in enumerate(pieces)))
        await client.write_zeroes(2 * MIB, 2 * MIB)
        await client.write_zeroes(5 * MIB, MIB, keep_room=True)
        await client.flush()
    async with await NbdClient.connect(socket) as client:
        assert await client.read(16 * MIB, 16 * MIB) == b"".join(pieces)
        assert await client.read(MIB, 4 * MIB) == b"\xff" * MIB + bytes(2 * MIB) + b"\xff" * MIB
        assert await client.read(5 * MIB, MIB) == bytes(MIB)
        assert all(one.offset >= 4 * MIB or one.end <= 2 * MIB for one in await client.extents())


async def test_a_reader_that_is_cancelled_harms_nobody(tmp_path: Path, served: Serve) -> None:
    path = image(tmp_path / "disk.qcow2", 64 * MIB, "write -P 0x44 0 64M")
    async with await NbdClient.connect(served(path, "qcow2")) as client:
        tasks = [asyncio.create_task(client.read(n * 4 * MIB, 4 * MIB)) for n in range(16)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in found[::2])
        assert all(one == b"\x44" * (4 * MIB) for one in found[1::2])
        assert await client.read(0, 512) == b"\x44" * 512


async def test_refusals(tmp_path: Path, served: Serve) -> None:
    path = image(tmp_path / "disk.qcow2", 64 * MIB)
    socket = served(path, "qcow2", "--read-only", "-x", "disk")
    with pytest.raises(StorageError, match="nobody answers"):
        await NbdClient.connect(str(tmp_path / "nowhere"))
    with pytest.raises(StorageError, match="no export 'other'"):
        await NbdClient.connect(socket, "other")
    async with await NbdClient.connect(socket, "disk") as client:
        with pytest.raises(StorageError, match=r"NBD: 0\+512: (invalid|not permitted)"):
            await client.write(0, b"x" * 512)
        with pytest.raises(StorageError, match="outside"):
            await client.read(64 * MIB - 256, 512)
        with pytest.raises(ValueError, match="pieces"):
            await client.read(0, REQUEST_LIMIT + 1)
        assert await client.extents() == []
    with pytest.raises(StorageError, match="closed"):
        await client.read(0, 512)


async def test_a_server_that_dies_is_told(tmp_path: Path) -> None:
    path, socket = image(tmp_path / "disk.qcow2", 64 * MIB), tmp_path / "sock"
    process = await asyncio.create_subprocess_exec("qemu-nbd", "-k", str(socket), "-f", "qcow2", str(path))
    async with asyncio.timeout(30):
        while not socket.exists():
            await asyncio.sleep(0.01)
    client = await NbdClient.connect(str(socket))
    process.kill()
    await process.wait()
    with pytest.raises(StorageError, match="NBD: "):
        async with asyncio.timeout(30):
            while True:
                await client.read(0, 512)
    await client.close()
