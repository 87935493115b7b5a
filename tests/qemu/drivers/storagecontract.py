"""What every kind of storage must do. A kind's test derives from :class:`StorageContract`."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from vms.errors import StorageError
from vms.storage.base import DiskFormat, Storage, Volume

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

    async def test_a_disk_ends_with_a_whole_block(self, storage: Storage) -> None:
        """QEMU opens no raw disk without a cache that ends within one."""
        for fmt in self.formats:
            made = await storage.allocate(101, 107374182, fmt)
            assert made.size == 107376640
            assert (await storage.resize(made.volid, 107376641)).size == 107380736

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

    # ---- disks made of disks

    async def filled(self, storage: Storage, fmt: DiskFormat, vmid: int = 101) -> Volume:
        """A disk of 4 MiB with a pattern at its start and its end."""
        volume = await storage.allocate(vmid, 4 * MIB, fmt)
        write(volume, 0x5A, 0)
        write(volume, 0xA5, 3 * MIB)
        return volume

    async def test_a_copy_of_a_disk(self, storage: Storage) -> None:
        for fmt in self.formats:
            source = await self.filled(storage, fmt)
            for wanted in self.formats:
                made = await storage.copy(102, source, wanted, nobody_listens)
                assert (made.vmid, made.format, made.size) == (102, wanted, 4 * MIB)
                assert contents(made) == contents(source)
                write(made, 0x11, 0)
                assert contents(source)[:4] == b"\x5a" * 4  # nothing is shared for writing

    async def test_a_cancelled_copy_leaves_nothing(self, storage: Storage) -> None:
        source = await self.filled(storage, self.formats[0])
        task = asyncio.create_task(storage.copy(102, source, self.formats[-1], nobody_listens))
        await asyncio.sleep(0)
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        made = set() if isinstance(outcome, BaseException) else {outcome.volid}
        assert await self.everything(storage) == {source.volid} | made

    async def test_a_linked_clone_holds_what_differs(self, storage: Storage) -> None:
        for number, fmt in enumerate(self.formats):
            source = await self.filled(storage, fmt, 900)
            base = await storage.to_base(source.volid)
            assert (base.name, base.vmid) == (f"base-900-disk-{number}.{fmt}", 900)
            with pytest.raises(StorageError, match="does not exist"):
                await storage.find(source.volid)
            clone = await storage.clone(101, base.volid)
            assert (clone.base, clone.size, clone.vmid) == (base.volid, 4 * MIB, 101)
            assert clone.volid.startswith(f"{base.volid}/")
            assert clone in (await storage.list("images", 101)).volumes
            assert await storage.activate(clone.volid, clone.format) == await storage.find(clone.volid)
            before = contents(base)
            write(clone, 0x11, 0)
            assert contents(base) == before
            assert contents(clone)[MIB:] == before[MIB:]
            full = await storage.copy(102, await storage.find(clone.volid), "qcow2", nobody_listens)
            assert full.base == ""
            assert contents(full) == contents(clone)

    async def test_a_base_stays_below_its_clones(self, storage: Storage) -> None:
        base = await storage.to_base((await self.filled(storage, "qcow2", 900)).volid)
        clone = await storage.clone(101, base.volid)
        for verb in (storage.free(base.volid), storage.from_base(base.volid)):
            with pytest.raises(StorageError, match="still in use by linked clone"):
                await verb
        for refused in (storage.resize(base.volid, 8 * MIB), storage.rename(base.volid, 101)):
            with pytest.raises(StorageError, match="is a base"):
                await refused
        await storage.free(clone.volid)
        back = await storage.from_base(base.volid)
        assert back.name == "vm-900-disk-0.qcow2"
        write(back, 0x11, 0)
        await storage.activate(back.volid, "qcow2")

    async def test_a_clone_of_a_clone_of_a_base(self, storage: Storage) -> None:
        lowest = await storage.to_base((await self.filled(storage, "raw", 900)).volid)
        middle = await storage.to_base((await storage.clone(901, lowest.volid)).volid)
        assert middle.base == lowest.volid
        top = await storage.clone(101, middle.volid)
        assert top.base == middle.volid
        await storage.activate(top.volid, "qcow2")
        assert contents(top) == contents(lowest)
        await storage.free(top.volid)
        assert (await storage.from_base(middle.volid)).base == lowest.volid

    async def test_a_disk_changes_hands(self, storage: Storage) -> None:
        kept = await storage.allocate(102, MIB, "raw")
        source = await self.filled(storage, "qcow2")
        base = await storage.to_base((await self.filled(storage, "qcow2", 900)).volid)
        clone = await storage.clone(101, base.volid)
        for volume in (source, clone):
            before = contents(volume)
            moved = await storage.rename(volume.volid, 102)
            assert (moved.vmid, moved.base) == (102, volume.base)
            assert contents(moved) == before
            await storage.activate(moved.volid, "qcow2")
        assert await storage.find(kept.volid) == kept
        assert (await storage.list("images", 101)).volumes == ()

    async def test_a_disk_grows_and_never_shrinks(self, storage: Storage) -> None:
        for fmt in self.formats:
            source = await self.filled(storage, fmt)
            before = contents(source)
            grown = await storage.resize(source.volid, 6 * MIB)
            assert grown.size == 6 * MIB
            assert contents(grown)[: 4 * MIB] == before
            with pytest.raises(StorageError, match="never shrinks"):
                await storage.resize(source.volid, 5 * MIB)
            with pytest.raises(StorageError, match="no room"):
                await storage.resize(source.volid, (await storage.status()).total * 2)

    async def test_snapshots_come_back(self, storage: Storage) -> None:
        disk = await self.filled(storage, "qcow2")
        then = contents(disk)
        await storage.snapshot(disk.volid, "before")
        write(disk, 0x11, 0)
        await storage.snapshot(disk.volid, "after")
        assert await storage.snapshots(disk.volid) == ["before", "after"]
        with pytest.raises(StorageError, match="already"):
            await storage.snapshot(disk.volid, "after")
        with pytest.raises(StorageError, match="has snapshots"):
            await storage.to_base(disk.volid)
        taken = await storage.copy(
            102, await storage.find(disk.volid), "qcow2", nobody_listens, snapshot="before"
        )
        assert contents(taken) == then
        assert await storage.snapshots(taken.volid) == []
        await storage.revert(disk.volid, "before")
        assert contents(disk) == then
        await storage.delete_snapshot(disk.volid, "before")
        await storage.delete_snapshot(disk.volid, "before")
        assert await storage.snapshots(disk.volid) == ["after"]
        with pytest.raises(StorageError):
            await storage.revert(disk.volid, "before")

    async def test_what_cannot_be_in_a_snapshot(self, storage: Storage) -> None:
        raw = await storage.allocate(101, MIB, "raw")
        assert "only qcow2" in storage.snapshot_refusal(raw.volid)
        with pytest.raises(StorageError, match="only qcow2"):
            await storage.snapshot(raw.volid, "one")
        assert await storage.snapshots(raw.volid) == []

    async def test_room_for_saved_memory(self, storage: Storage) -> None:
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


def write(volume: Volume, byte: int, at: int) -> None:
    """64 KiB of one byte into a disk, as a guest would."""
    words = ["qemu-io", "-f", volume.format, "-c", f"write -q -P {byte} {at} 64k", str(volume.path)]
    subprocess.run(words, check=True)


def contents(volume: Volume) -> bytes:
    """All a guest would read."""
    made = volume.path.with_suffix(".read")
    words = ["qemu-img", "convert", "-f", volume.format, "-O", "raw", str(volume.path), str(made)]
    subprocess.run(words, check=True)
    try:
        return made.read_bytes()
    finally:
        made.unlink()
