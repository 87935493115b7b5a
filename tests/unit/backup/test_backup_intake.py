"""What QEMU pushes of a disk: taken in any order, handed on in order, held against the map."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vms.backup import intake
from vms.backup.intake import BLOCK, Intake
from vms.backup.nbd import Extent, NbdClient
from vms.errors import StorageError
from vms.operations.backupread import joined

SIZE = 10 * BLOCK + 512


@pytest.fixture
async def place() -> AsyncIterator[Path]:
    """A name short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="pvi-", dir="/tmp") as folder:
        yield Path(folder) / "in.sock"


def made(place: Path, told: list[bool] | None = None) -> Intake:
    extents = [Extent(0, 2 * BLOCK), Extent(4 * BLOCK + 4096, BLOCK), Extent(10 * BLOCK, 512)]
    return Intake(place, SIZE, extents, (told if told is not None else []).append)


async def test_in_any_order(place: Path) -> None:
    taken = made(place)
    taken.listen()
    data = os.urandom(SIZE)
    reading = asyncio.create_task(taken.read(0, 2 * BLOCK))
    async with await NbdClient.connect(str(place), "scsi0") as client:
        assert client.size == SIZE
        await client.write(BLOCK, data[BLOCK : 2 * BLOCK])
        assert not reading.done()
        await client.write(0, data[:BLOCK])
        assert await reading == data[: 2 * BLOCK]
        await client.write_zeroes(2 * BLOCK, 2 * BLOCK)
        await client.write(4 * BLOCK, data[4 * BLOCK : 6 * BLOCK])
        await client.write(6 * BLOCK, bytes(4 * BLOCK))  # nothing, where the map has nothing
        await client.write(10 * BLOCK, data[10 * BLOCK :])
        await client.flush()
        assert await taken.read(4 * BLOCK, BLOCK) == data[4 * BLOCK : 5 * BLOCK]
        assert await taken.read(10 * BLOCK, 512) == data[10 * BLOCK :]
        assert await taken.read(2 * BLOCK, BLOCK) == bytes(BLOCK)
        with pytest.raises(StorageError):
            await client.write(SIZE - 512, bytes(1024))
    with pytest.raises(StorageError, match="the disk changed just when"):
        taken.finish()  # block 5 was not read
    with pytest.raises(ValueError, match="whole blocks"):
        await taken.read(5 * BLOCK, 512)
    await taken.read(5 * BLOCK, BLOCK)
    taken.finish()
    await taken.close()
    assert not place.exists()


async def test_data_where_the_map_has_none(place: Path) -> None:
    taken = made(place)
    taken.listen()
    async with await NbdClient.connect(str(place), "scsi0") as client:
        await client.write(7 * BLOCK, b"\0" * (BLOCK - 1) + b"x")
    with pytest.raises(StorageError, match="repeat"):
        taken.finish()
    await taken.close()


async def test_whoever_reads_hears_that_nothing_more_comes(place: Path) -> None:
    taken = made(place)
    taken.listen()
    reading = [asyncio.create_task(taken.read(0, BLOCK)), asyncio.create_task(taken.broken())]
    taken.fail(StorageError("NBD: the job failed"))
    for task in reading:
        with pytest.raises(StorageError, match="the job failed"):
            await task
    await taken.close()


async def test_too_much_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "HIGH", 4 * BLOCK)
    monkeypatch.setattr(intake, "LOW", 2 * BLOCK)
    told: list[bool] = []
    taken = Intake(place, SIZE, [Extent(0, SIZE)], told.append)
    taken.listen()
    async with await NbdClient.connect(str(place), "scsi0") as client:
        for number in range(6):
            await client.write(number * BLOCK, b"a" * BLOCK)
        assert told == [True]
        for number in range(6):
            await taken.read(number * BLOCK, BLOCK)
        assert told == [True, False]
    await taken.close()


def test_maps_are_joined_in_whole_blocks() -> None:
    before = [Extent(4096, 4096), Extent(5 * BLOCK, BLOCK)]
    after = [Extent(0, 512), Extent(BLOCK + 1, 1), Extent(9 * BLOCK, 2 * BLOCK), Extent(12 * BLOCK, BLOCK)]
    assert joined(SIZE, before, after) == [
        Extent(0, 2 * BLOCK), Extent(5 * BLOCK, BLOCK), Extent(9 * BLOCK, BLOCK + 512),
    ]  # fmt: skip
    assert joined(SIZE, [], []) == []
