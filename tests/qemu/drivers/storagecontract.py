"""What every kind of storage must do. A kind's test derives from :class:`StorageContract`."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from vms.errors import StorageError
from vms.storage.base import DiskFormat, Storage

MIB = 1 << 20


class StorageContract:
    """Give a fixture ``storage``; name the ``formats`` this kind has and the user disks belong to."""

    formats: tuple[DiskFormat, ...] = ("qcow2", "raw")

    async def everything(self, storage: Storage) -> set[str]:
        return {volume.volid for volume in (await storage.list("images")).volumes}

    async def test_a_disk_is_what_was_asked_for(self, storage: Storage) -> None:
        for fmt in self.formats:
            volume = await storage.allocate(101, 100 * MIB, fmt)
            assert (volume.vmid, volume.format, volume.size, volume.content) == (
                101,
                fmt,
                100 * MIB,
                "images",
            )
            assert volume.volid.startswith(f"{storage.name}:")
            assert volume.used < 10 * MIB  # thin
            assert await storage.find(volume.volid) == volume
            assert storage.path(volume.volid) == volume.path

    async def test_numbers_are_never_given_twice(self, storage: Storage) -> None:
        wanted = [storage.allocate(101, MIB, self.formats[n % len(self.formats)]) for n in range(8)]
        made = await asyncio.gather(*wanted)
        assert len({volume.name.partition(".")[0] for volume in made}) == 8

    async def test_free_is_final_and_may_be_repeated(self, storage: Storage) -> None:
        kept = await storage.allocate(102, MIB, "raw")
        volume = await storage.allocate(101, MIB, self.formats[0])
        await storage.free(volume.volid)
        await storage.free(volume.volid)
        assert await self.everything(storage) == {kept.volid}
        with pytest.raises(StorageError, match="does not exist"):
            await storage.find(volume.volid)
        with pytest.raises(StorageError, match="does not exist"):
            await storage.activate(volume.volid, self.formats[0])

    async def test_a_refusal_leaves_nothing(self, storage: Storage) -> None:
        total = (await storage.status()).total
        for size in (0, total * 2, 10**9 << 30):
            with pytest.raises(StorageError):
                await storage.allocate(101, size, "raw")
        assert await self.everything(storage) == set()

    async def test_a_cancelled_allocation_leaves_nothing(self, storage: Storage) -> None:
        task = asyncio.create_task(storage.allocate(101, MIB, self.formats[0]))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        left = await self.everything(storage)
        assert left == (set() if isinstance(outcome, BaseException) else {outcome.volid})

    async def test_a_copy_holds_the_same_bytes(self, storage: Storage, short: Path) -> None:
        source = short / "vars.fd"
        source.write_bytes(os.urandom(540672))
        source.chmod(0o644)
        for fmt in self.formats:
            volume = await storage.allocate_copy(101, source, fmt)
            back = short / f"back-{fmt}"
            words = ["qemu-img", "convert", "-f", fmt, "-O", "raw", str(volume.path), str(back)]
            subprocess.run(words, check=True)
            assert back.read_bytes() == source.read_bytes()
            assert volume.size == 540672

    async def test_a_copy_of_nothing_leaves_nothing(self, storage: Storage, short: Path) -> None:
        with pytest.raises((StorageError, FileNotFoundError)):
            await storage.allocate_copy(101, short / "missing", self.formats[0])
        assert await self.everything(storage) == set()

    async def test_activation_hands_over_what_our_record_says(self, storage: Storage) -> None:
        for fmt in self.formats:
            volume = await storage.allocate(101, MIB, fmt)
            assert (await storage.activate(volume.volid, fmt)).volid == volume.volid
            for other in {"qcow2", "raw"} - {fmt}:
                with pytest.raises(StorageError):
                    await storage.activate(volume.volid, other)

    async def test_foreign_names_are_refused_by_every_verb(self, storage: Storage) -> None:
        for volid in ("other:101/vm-101-disk-0.raw", f"{storage.name}:../../etc/shadow", "/etc/shadow", ""):
            with pytest.raises(StorageError):
                storage.path(volid)
            for verb in (storage.find(volid), storage.free(volid), storage.activate(volid, "raw")):
                with pytest.raises(StorageError):
                    await verb

    async def test_listing_by_owner(self, storage: Storage) -> None:
        mine = await storage.allocate(101, MIB, "raw")
        other = await storage.allocate(102, MIB, "raw")
        assert [v.volid for v in (await storage.list("images", 101)).volumes] == [mine.volid]
        assert await self.everything(storage) == {mine.volid, other.volid}
        assert (await storage.list("iso")).volumes == ()

    async def test_room_is_counted(self, storage: Storage) -> None:
        status = await storage.status()
        assert status.active
        assert 0 < status.available <= status.total
        await storage.check_space(MIB)
        with pytest.raises(StorageError):
            await storage.check_space(status.total)
