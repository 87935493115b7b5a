"""What every kind of storage must do. A kind's test derives from :class:`StorageContract`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from vms.errors import StorageError
from vms.storage.base import DiskFormat, Storage, Volume

MIB = 1 << 20


class StorageContract:
    """Give a fixture ``storage``; where its volumes have no path, say which file stands for one."""

    def real(self, volume: Volume) -> str:
        """What a test opens to see a volume as its guest does."""
        return str(volume.path)

    def write(self, volume: Volume, byte: int, at: int) -> None:
        """64 KiB of one byte into a disk, as a guest would."""
        words = ["qemu-io", "-f", volume.format, "-c", f"write -q -P {byte} {at} 64k", self.real(volume)]
        subprocess.run(words, check=True)

    def contents(self, volume: Volume) -> bytes:
        """All a guest would read."""
        with tempfile.NamedTemporaryFile(prefix="pvd-") as made:
            words = ["qemu-img", "convert", "-f", volume.format, "-O", "raw", self.real(volume), made.name]
            subprocess.run(words, check=True)
            return Path(made.name).read_bytes()

    async def everything(self, storage: Storage) -> set[str]:
        return {volume.volid for volume in (await storage.list("images")).volumes}

    async def test_a_disk_is_what_was_asked_for(self, storage: Storage) -> None:
        for fmt in storage.formats:
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

    async def test_a_disk_ends_with_a_whole_block(self, storage: Storage) -> None:
        """QEMU opens no raw disk without a cache that ends within one."""
        for fmt in storage.formats:
            piece = storage.granule
            made = await storage.allocate(101, 107374182, fmt)
            assert made.size == -(-107374182 // piece) * piece
            assert made.size % 4096 == 0
            assert (await storage.resize(made.volid, made.size + 1)).size == made.size + piece

    async def test_numbers_are_never_given_twice(self, storage: Storage) -> None:
        wanted = [storage.allocate(101, MIB, storage.formats[n % len(storage.formats)]) for n in range(8)]
        # All of them end before one that failed is told of.
        outcomes = await asyncio.gather(*wanted, return_exceptions=True)
        assert [repr(one) for one in outcomes if isinstance(one, BaseException)] == []
        made = [one for one in outcomes if isinstance(one, Volume)]
        assert len({volume.name.partition(".")[0] for volume in made}) == 8

    async def test_free_is_final_and_may_be_repeated(self, storage: Storage) -> None:
        kept = await storage.allocate(102, MIB, "raw")
        volume = await storage.allocate(101, MIB, storage.formats[0])
        await storage.free(volume.volid)
        await storage.free(volume.volid)
        assert await self.everything(storage) == {kept.volid}
        with pytest.raises(StorageError, match="does not exist"):
            await storage.find(volume.volid)
        with pytest.raises(StorageError, match="does not exist"):
            await storage.activate(volume.volid, storage.formats[0])

    async def test_a_refusal_leaves_nothing(self, storage: Storage) -> None:
        total = (await storage.status()).total
        for size in (0, total * 2, 10**9 << 30):
            with pytest.raises(StorageError):
                await storage.allocate(101, size, "raw")
        assert await self.everything(storage) == set()

    async def test_a_cancelled_allocation_leaves_nothing(self, storage: Storage) -> None:
        task = asyncio.create_task(storage.allocate(101, MIB, storage.formats[0]))
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
        for fmt in storage.formats:
            volume = await storage.allocate_copy(101, source, fmt)
            assert self.contents(volume)[:540672] == source.read_bytes()
            assert volume.size == (
                540672 if storage.files else storage.granule * -(-540672 // storage.granule)
            )

    async def test_a_copy_of_nothing_leaves_nothing(self, storage: Storage, short: Path) -> None:
        with pytest.raises((StorageError, FileNotFoundError)):
            await storage.allocate_copy(101, short / "missing", storage.formats[0])
        assert await self.everything(storage) == set()

    async def test_activation_hands_over_what_our_record_says(self, storage: Storage) -> None:
        for fmt in storage.formats:
            volume = await storage.allocate(101, MIB, fmt)
            assert (await storage.activate(volume.volid, fmt)).volid == volume.volid
            assert storage.opened_as(volume.volid, volume.place)
            assert not storage.opened_as(volume.volid, volume.place.replace("disk", "disc"))
            for other in {"qcow2", "raw"} - {fmt}:
                with pytest.raises(StorageError):
                    await storage.activate(volume.volid, other)

    async def test_foreign_names_are_refused_by_every_verb(self, storage: Storage) -> None:
        names = [
            "../../etc/shadow",
            "vm-101-disk-0/../x",
            "101/../102/vm-102-disk-0.raw",
            "vm-101-disk-0 ",
            "a@b",
        ]
        names += ["vm-101-disk-0\n", "-vm-101-disk-0", "base-101-disk-0/vm-102-disk-0/x", "vm-099-disk-0"]
        foreign = ["other:101/vm-101-disk-0.raw", "other:vm-101-disk-0", "/etc/shadow", ""]
        for volid in [*(f"{storage.name}:{name}" for name in names), *foreign]:
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
            await storage.check_space(status.total + 1)

    # ---- disks made of disks

    async def filled(self, storage: Storage, fmt: DiskFormat, vmid: int = 101) -> Volume:
        """A disk of 4 MiB with a pattern at its start and its end."""
        volume = await storage.allocate(vmid, 4 * MIB, fmt)
        self.write(volume, 0x5A, 0)
        self.write(volume, 0xA5, 3 * MIB)
        return volume

    async def test_a_copy_of_a_disk(self, storage: Storage) -> None:
        for fmt in storage.formats:
            source = await self.filled(storage, fmt)
            for wanted in storage.formats:
                made = await storage.copy(102, source, wanted, nobody_listens)
                assert (made.vmid, made.format, made.size) == (102, wanted, 4 * MIB)
                assert not made.base
                assert self.contents(made) == self.contents(source)
                self.write(made, 0x11, 0)
                assert self.contents(source)[:4] == b"\x5a" * 4  # nothing is shared for writing

    async def test_a_cancelled_copy_leaves_nothing(self, storage: Storage) -> None:
        source = await self.filled(storage, storage.formats[0])
        task = asyncio.create_task(storage.copy(102, source, storage.formats[-1], nobody_listens))
        await asyncio.sleep(0)
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        made = set() if isinstance(outcome, BaseException) else {outcome.volid}
        assert await self.everything(storage) == {source.volid} | made

    async def test_a_linked_clone_holds_what_differs(self, storage: Storage) -> None:
        for number, fmt in enumerate(storage.formats):
            source = await self.filled(storage, fmt, 900)
            base = await storage.to_base(source.volid)
            ending = f".{fmt}" if storage.files else ""
            assert (base.name, base.vmid) == (f"base-900-disk-{number}{ending}", 900)
            with pytest.raises(StorageError, match="does not exist"):
                await storage.find(source.volid)
            clone = await storage.clone(101, base.volid)
            assert (clone.base, clone.size, clone.vmid) == (base.volid, 4 * MIB, 101)
            assert clone.format in storage.formats
            assert clone in (await storage.list("images", 101)).volumes
            assert await storage.activate(clone.volid, clone.format) == await storage.find(clone.volid)
            before = self.contents(base)
            self.write(clone, 0x11, 0)
            assert self.contents(base) == before
            assert self.contents(clone)[MIB:] == before[MIB:]
            async with storage.reading(clone.volid) as (found, inside):
                full = await storage.copy(102, found, storage.formats[0], nobody_listens, snapshot=inside)
            assert full.base == ""
            assert self.contents(full) == self.contents(clone)

    async def test_a_base_stays_below_its_clones(self, storage: Storage) -> None:
        disk = await self.filled(storage, storage.formats[0], 900)
        base = await storage.to_base(disk.volid)
        clone = await storage.clone(101, base.volid)
        for verb in (storage.free(base.volid), storage.from_base(base.volid)):
            with pytest.raises(StorageError, match="still in use by linked clone"):
                await verb
        for refused in (storage.resize(base.volid, 8 * MIB), storage.rename(base.volid, 101)):
            with pytest.raises(StorageError, match="is a base"):
                await refused
        assert storage.snapshot_refusal(base.volid)
        await storage.free(clone.volid)
        back = await storage.from_base(base.volid)
        assert back.volid == disk.volid
        await storage.activate(back.volid, storage.formats[0])
        self.write(back, 0x11, 0)

    async def test_a_clone_of_a_clone_of_a_base(self, storage: Storage) -> None:
        lowest = await storage.to_base((await self.filled(storage, "raw", 900)).volid)
        middle = await storage.to_base((await storage.clone(901, lowest.volid)).volid)
        assert middle.base == lowest.volid
        top = await storage.clone(101, middle.volid)
        assert top.base == middle.volid
        await storage.activate(top.volid, top.format)
        assert self.contents(top) == self.contents(lowest)
        await storage.free(top.volid)
        assert (await storage.from_base(middle.volid)).base == lowest.volid

    async def test_a_disk_changes_hands(self, storage: Storage) -> None:
        kept = await storage.allocate(102, MIB, "raw")
        source = await self.filled(storage, storage.formats[0])
        base = await storage.to_base((await self.filled(storage, storage.formats[0], 900)).volid)
        clone = await storage.clone(101, base.volid)
        for volume in (source, clone):
            before = self.contents(volume)
            moved = await storage.rename(volume.volid, 102)
            assert (moved.vmid, moved.base) == (102, volume.base)
            assert self.contents(moved) == before
            await storage.activate(moved.volid, moved.format)
        assert await storage.find(kept.volid) == kept
        assert (await storage.list("images", 101)).volumes == ()

    async def test_a_disk_grows_and_never_shrinks(self, storage: Storage) -> None:
        for fmt in storage.formats:
            source = await self.filled(storage, fmt)
            before = self.contents(source)
            grown = await storage.resize(source.volid, 8 * MIB)
            assert grown.size == 8 * MIB
            assert self.contents(grown)[: 4 * MIB] == before
            with pytest.raises(StorageError, match="never shrinks"):
                await storage.resize(source.volid, 5 * MIB)
            with pytest.raises(StorageError, match="no room"):
                await storage.resize(source.volid, (await storage.status()).total * 2)

    async def test_snapshots_come_back(self, storage: Storage) -> None:
        for fmt in storage.formats:
            disk = await self.filled(storage, fmt)
            if storage.snapshot_refusal(disk.volid):
                await self.has_no_snapshots(storage, disk)
                continue
            then = self.contents(disk)
            await storage.snapshot(disk.volid, "before")
            self.write(disk, 0x11, 0)
            now = self.contents(disk)
            await storage.snapshot(disk.volid, "after")
            assert await storage.snapshots(disk.volid) == ["before", "after"]
            assert [one.volid for one in (await storage.list("images", 101)).volumes] == [disk.volid]
            with pytest.raises(StorageError, match="already"):
                await storage.snapshot(disk.volid, "after")
            with pytest.raises(StorageError, match="has snapshots"):
                await storage.to_base(disk.volid)
            async with storage.reading(disk.volid, "before") as (source, inside):
                taken = await storage.copy(102, source, fmt, nobody_listens, snapshot=inside)
            assert self.contents(taken) == then
            assert await storage.snapshots(taken.volid) == []
            self.write(disk, 0x22, 0)
            await storage.revert(disk.volid, "after")
            assert self.contents(disk) == now
            if await storage.revert_refusal(disk.volid, "before"):
                with pytest.raises(StorageError, match="newer"):
                    await storage.revert(disk.volid, "before")
                await storage.delete_snapshot(disk.volid, "after")
            await storage.revert(disk.volid, "before")
            assert self.contents(disk) == then
            await storage.activate(disk.volid, fmt)
            await storage.delete_snapshot(disk.volid, "before")
            await storage.delete_snapshot(disk.volid, "before")
            assert "before" not in await storage.snapshots(disk.volid)
            with pytest.raises(StorageError):
                await storage.revert(disk.volid, "before")
            await storage.snapshot(disk.volid, "left")
            await storage.free(disk.volid)
            again = await storage.allocate(101, MIB, fmt)
            assert again.volid == disk.volid
            assert await storage.snapshots(again.volid) == []
            await storage.free(again.volid)

    async def has_no_snapshots(self, storage: Storage, disk: Volume) -> None:
        """What is said of a disk that can hold none."""
        assert "only qcow2" in storage.snapshot_refusal(disk.volid)
        with pytest.raises(StorageError, match="only qcow2"):
            await storage.snapshot(disk.volid, "one")
        assert await storage.snapshots(disk.volid) == []

    async def test_a_cloud_init_drive_is_written_again(self, storage: Storage) -> None:
        for content in (b"one" * 2000, b"two" * 2000):
            seed = await storage.allocate_seed(101, content)
            assert seed.vmid == 101
            assert self.contents(seed)[: len(content)] == content
            assert await self.everything(storage) == {seed.volid}
            assert storage.snapshot_refusal(seed.volid)
        await storage.free(seed.volid)
        assert await self.everything(storage) == set()

    async def test_room_for_saved_memory(self, storage: Storage) -> None:
        if not storage.files:
            with pytest.raises(StorageError, match="no saved memory"):
                await storage.allocate_state(101, "before-upgrade", 64 * MIB)
            return
        state = await storage.allocate_state(101, "before-upgrade", 64 * MIB)
        assert (state.name, state.vmid, state.format) == ("vm-101-state-before-upgrade.raw", 101, "raw")
        assert state.used == 0
        assert state in (await storage.list("images", 101)).volumes
        with pytest.raises(StorageError, match="exists already"):
            await storage.allocate_state(101, "before-upgrade", MIB)
        for name in ("", "../x", "a b", "9"):
            with pytest.raises(StorageError, match="cannot be called"):
                await storage.allocate_state(101, name, MIB)
        with pytest.raises(StorageError, match="no room"):
            await storage.allocate_state(101, "huge", (await storage.status()).total * 2)
        await storage.free(state.volid)
        assert await self.everything(storage) == set()


async def nobody_listens(fraction: float) -> None:
    """Progress that is told to nobody."""
    assert 0 <= fraction <= 1
