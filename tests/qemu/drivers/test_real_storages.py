"""Every kind of storage under the one contract.

Folders, BTRFS and XFS are real, in files mounted by loop devices. LVM-thin, ZFS and Ceph are played: their
programs are (:mod:`scripted`), what reads and writes the volumes is not.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import scripted
from guestkit import grounds
from storagecontract import MIB, StorageContract, nobody_listens

from vms.errors import StorageError
from vms.host import command
from vms.storage import copying, devices, image, kinds, lvmthin, mounted, open_storage, seeing, sharing, zfs
from vms.storage.base import Storage, Volume

USER = "nobody" if os.geteuid() == 0 else None


def copied(source: Path, target: Path) -> bool:
    """Stands for sharing blocks where the file system cannot."""
    with source.open("rb") as lower, target.open("r+b") as upper:
        shutil.copyfileobj(lower, upper)
    return True


@pytest.fixture(scope="module", params=["btrfs", "xfs"])
def ground(request: pytest.FixtureRequest) -> Iterator[Path | None]:
    """A file system that shares blocks, mounted for this module; None where there is none."""
    with grounds.folder() as folder, grounds.mounted(request.param, folder) as place:
        yield place


@pytest.fixture(scope="module")
def xfs() -> Iterator[Path | None]:
    """A mounted XFS."""
    with grounds.folder() as folder, grounds.mounted("xfs", folder) as place:
        yield place


@pytest.fixture
def sharing_root(ground: Path | None, short: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder on a file system that shares blocks, or on one for which that is played."""
    if ground is None:
        monkeypatch.setattr(sharing, "share", copied)
        monkeypatch.setattr(copying, "share", copied)
        monkeypatch.setattr(copying, "_shares", {})
        return short / "root"
    return ground / short.name


class TestSharing(StorageContract):
    """Kind ``btrfs``, on BTRFS and on XFS."""

    @pytest.fixture
    async def storage(self, sharing_root: Path) -> Storage:
        made = open_storage("fast", {"type": "btrfs", "path": str(sharing_root)}, user=USER)
        await made.prepare()
        assert (await made.status()).active
        return made

    async def test_a_full_copy_takes_no_room(self, storage: Storage, ground: Path | None) -> None:
        """In the same format, whatever the size."""
        for fmt in storage.formats:
            source = await storage.allocate(101, 64 * MIB, fmt)
            words = ["qemu-io", "-f", fmt, "-c", "write -q -P 7 0 32M", self.real(source)]
            subprocess.run(words, check=True)
            await storage.copy(102, source, fmt, nobody_listens)  # all is on the disk then
            before = (await storage.status()).available
            assert await storage.copies_at_once(source, fmt)
            made = await storage.copy(102, source, fmt, nobody_listens)
            assert self.contents(made) == self.contents(source)
            if ground is not None:
                assert before - (await storage.status()).available < 8 * MIB


class TestMounted(StorageContract):
    """Kind ``nfs``, on a real mount."""

    @pytest.fixture
    async def storage(self, xfs: Path | None, short: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
        if xfs is None:
            monkeypatch.setattr(mounted, "is_mount_point", lambda path: path == short)
        root = (xfs or short) / f"on-{short.name}"
        facts = {"type": "nfs", "path": str(root), "is_mountpoint": str(xfs or short)}
        made = open_storage("nas", facts, user=USER)
        await made.prepare()
        return made


@pytest.fixture
def machine(
    request: pytest.FixtureRequest, short: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[scripted.Machine]:
    """The played machine of a test class (its ``played``)."""
    made: scripted.Machine = request.cls.played(short)
    monkeypatch.setattr(command, "run", made.run)
    monkeypatch.setattr(image, "run", made.run)
    monkeypatch.setattr(lvmthin, "DEVICES", str(made.dev))
    monkeypatch.setattr(zfs, "DEVICES", str(made.dev))
    if not made.real_devices:
        monkeypatch.setattr(devices, "is_device", Path.is_file)
    yield made
    made.close()


class TestLvmThin(StorageContract):
    played = scripted.LvmMachine

    @pytest.fixture
    async def storage(self, machine: scripted.Machine) -> Storage:
        return open_storage("thin", {"type": "lvmthin", "vgname": "vg0", "thinpool": "data"}, user=USER)

    async def test_the_device_is_qemus(self, storage: Storage, machine: scripted.Machine) -> None:
        volume = await storage.allocate(101, MIB, "raw")
        owner = pwd.getpwnam(USER).pw_uid if USER else os.geteuid()
        assert volume.path.stat().st_uid == owner
        if machine.real_devices:
            assert volume.path.is_block_device()

    async def test_a_pool_without_metadata_takes_nothing_more(
        self, storage: Storage, machine: scripted.Machine
    ) -> None:
        assert isinstance(machine, scripted.LvmMachine)
        machine.metadata = 82
        assert "metadata is 82 % full" in (await storage.status()).warning
        machine.metadata = 96
        with pytest.raises(StorageError, match="no room"):
            await storage.allocate(101, MIB, "raw")

    async def test_a_revert_that_was_cut_short_is_done_again(
        self, storage: Storage, machine: scripted.Machine
    ) -> None:
        disk = await self.filled(storage, "raw")
        then = self.contents(disk)
        await storage.snapshot(disk.volid, "before")
        machine.add("vm-101-disk-0.back", disk.size, machine.get("snap_vm-101-disk-0_before").file)
        machine.drop("vm-101-disk-0")
        await storage.revert(disk.volid, "before")
        assert self.contents(await storage.find(disk.volid)) == then

    async def test_what_a_scan_sees(self, machine: scripted.Machine) -> None:
        assert [name for name, _, _ in await seeing.volume_groups()] == ["vg0"]
        assert await seeing.thin_pools("vg0") == ["data"]
        with pytest.raises(StorageError, match="not found"):
            await seeing.thin_pools("vg1")

    async def test_another_pool(self, machine: scripted.Machine) -> None:
        other = open_storage("thin", {"type": "lvmthin", "vgname": "vg0", "thinpool": "other"})
        assert "no thin pool 'other'" in (await other.status()).text
        with pytest.raises(StorageError, match="no thin pool"):
            await other.allocate(101, MIB, "raw")


class TestZfs(StorageContract):
    played = scripted.ZfsMachine

    @pytest.fixture
    async def storage(self, machine: scripted.Machine) -> Storage:
        return open_storage("tank", {"type": "zfspool", "pool": "tank/vms", "blocksize": "16k"}, user=USER)

    async def test_new_disks_are_thin(self, storage: Storage, machine: scripted.Machine) -> None:
        await storage.allocate(101, MIB, "raw")
        create = next(words for words in machine.said if words[:2] == ("zfs", "create"))
        assert await seeing.data_sets() == ["tank", "tank/vms"]
        assert create == ("zfs", "create", "-s", "-b", "16k", "-V", str(MIB), "tank/vms/vm-101-disk-0")


class TestRbd(StorageContract):
    played = scripted.RbdMachine

    @pytest.fixture
    async def storage(self, machine: scripted.Machine) -> Storage:
        self.machine = machine
        return open_storage("ceph", {"type": "rbd", "pool": "guests", "username": "vms"})

    def real(self, volume: Volume) -> str:
        return self.machine.translated(volume.place)

    async def test_what_qemu_says_of_an_open_image(self, storage: Storage) -> None:
        volume = await storage.allocate(101, MIB, "raw")
        told = '{"driver": "rbd", "pool": "guests", "image": "vm-101-disk-0", "user": "vms"}'
        assert storage.opened_as(volume.volid, f"json:{told}")
        assert not storage.opened_as(volume.volid, f"json:{told.replace('disk-0', 'disk-1')}")


def test_every_kind_has_its_contract() -> None:
    here = {"dir", "btrfs", "nfs", "lvmthin", "zfspool", "rbd"}
    assert set(kinds.KINDS) == here
