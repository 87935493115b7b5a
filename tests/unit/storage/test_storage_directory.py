"""Names, findings and room of a directory storage (its disks: tests/qemu/drivers)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from test_storage_image import iso_bytes

from vms.errors import StorageError
from vms.storage import open_storage
from vms.storage.base import split_volid
from vms.storage.directory import DirectoryStorage
from vms.storage.names import gib, is_iso_name


@pytest.fixture
async def storage(tmp_path: Path) -> DirectoryStorage:
    made = DirectoryStorage("local", tmp_path / "local")
    await made.prepare()
    return made


def test_volume_names_lead_to_paths(tmp_path: Path) -> None:
    storage = DirectoryStorage("local", tmp_path)
    assert storage.path("local:101/vm-101-disk-0.qcow2") == tmp_path / "images/101/vm-101-disk-0.qcow2"
    assert storage.path("local:iso/debian-12.iso") == tmp_path / "template/iso/debian-12.iso"


@pytest.mark.parametrize(
    "volid",
    [
        "", "local", "local:", ":iso/x.iso", "other:iso/x.iso", "local:/etc/shadow", "local:../../etc/shadow",
        "local:iso/../../../etc/shadow", "local:iso/..iso", "local:iso/.hidden.iso", "local:iso/a/b.iso",
        "local:101/../102/vm-102-disk-0.raw", "local:101/vm-102-disk-0.raw", "local:101/vm-101-disk-0.vmdk",
        "local:099/vm-099-disk-0.raw", "local:iso/x.iso,file=/etc/shadow", "local:iso/x\n.iso",
        "local:iso/\u0131so.iso", "local:iso/" + "a" * 117 + ".iso", "local:101/vm-101-disk-0.raw\n",
    ],
)  # fmt: skip
def test_other_names_lead_nowhere(tmp_path: Path, volid: str) -> None:
    with pytest.raises(StorageError):
        DirectoryStorage("local", tmp_path).path(volid)


def test_splitting_a_volume() -> None:
    assert split_volid("local-lvm:vm-101-disk-0") == ("local-lvm", "vm-101-disk-0")


def test_iso_names() -> None:
    assert is_iso_name("debian-12.5.0_amd64+x.ISO")
    assert not is_iso_name("a" * 117 + ".iso")
    assert is_iso_name("a" * 116 + ".iso")


def test_sizes_for_people() -> None:
    assert (gib(32 << 30), gib(1 << 29), gib(10**9 << 30)) == ("32", "0.5", "1000000000")


def test_kinds_of_storage(tmp_path: Path) -> None:
    assert open_storage("local", {"type": "dir", "path": str(tmp_path)}).name == "local"
    with pytest.raises(StorageError, match="of kind 'ceph'"):
        open_storage("local", {"type": "ceph"})


async def test_a_folder_that_is_gone_is_said_so(tmp_path: Path) -> None:
    storage = DirectoryStorage("local", tmp_path / "gone")
    assert (await storage.status()).active is False
    with pytest.raises(StorageError, match="there is no folder"):
        await storage.allocate(101, 1 << 20, "raw")
    assert not (tmp_path / "gone").exists()


async def test_room(storage: DirectoryStorage) -> None:
    status = await storage.status()
    assert status.active
    assert 0 < status.available <= status.total
    await storage.check_space(1 << 20)
    for size in (status.total + 1, 10**9 << 30):
        with pytest.raises(StorageError, match=r"has no room: .* GiB wanted"):
            await storage.allocate(101, size, "qcow2")
    assert list((storage.root / "images").iterdir()) == []


@pytest.mark.parametrize("size", [0, -5])
async def test_a_disk_of_nothing(storage: DirectoryStorage, size: int) -> None:
    with pytest.raises(StorageError, match="larger than 0"):
        await storage.allocate(101, size, "raw")


async def test_raw_disks_take_the_lowest_free_number(storage: DirectoryStorage) -> None:
    volumes = [await storage.allocate(101, 1 << 20, "raw") for _ in range(3)]
    assert [v.name for v in volumes] == [f"vm-101-disk-{n}.raw" for n in range(3)]
    await storage.free(volumes[1].volid)
    (volumes[1].path.with_suffix(".qcow2")).touch()
    assert (await storage.allocate(101, 1 << 20, "raw")).name == "vm-101-disk-3.raw"
    assert stat.S_IMODE(volumes[0].path.stat().st_mode) == 0o600
    assert stat.S_IMODE(volumes[0].path.parent.stat().st_mode) == 0o711


async def test_the_folder_goes_with_the_last_disk(storage: DirectoryStorage) -> None:
    volume = await storage.allocate(101, 1 << 20, "raw")
    await storage.free(volume.volid)
    await storage.free(volume.volid)
    assert not volume.path.parent.exists()


async def test_an_operators_folders_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir(mode=0o755)
    await DirectoryStorage("local", tmp_path).prepare()
    assert stat.S_IMODE((tmp_path / "images").stat().st_mode) == 0o755


async def test_the_library_lists_plain_isos_and_reports_the_rest(
    storage: DirectoryStorage, tmp_path: Path
) -> None:
    folder = storage.iso_folder
    (folder / "good.iso").write_bytes(iso_bytes())
    (folder / "Upper.ISO").write_bytes(iso_bytes())
    (folder / "notes.txt").touch()
    (folder / "with space.iso").touch()
    (folder / "link.iso").symlink_to("/etc/shadow")
    (folder / "dangling.iso").symlink_to("/no/such")
    (folder / "folder.iso").mkdir()
    os.mkfifo(folder / "fifo.iso")
    (tmp_path / "elsewhere").write_text("x")
    (folder / "hard.iso").hardlink_to(tmp_path / "elsewhere")
    listing = await storage.list("iso")
    assert [v.volid for v in listing.volumes] == ["local:iso/Upper.ISO", "local:iso/good.iso"]
    assert listing.volumes[1].size == 40 * 2048
    found = {finding.path.name: finding.text for finding in listing.findings}
    assert found.keys() == {
        "with space.iso", "link.iso", "dangling.iso", "folder.iso", "fifo.iso", "hard.iso"
    }  # fmt: skip
    assert "symbolic link" in found["link.iso"]
    assert "hard links" in found["hard.iso"]


async def test_disks_are_listed_by_owner(storage: DirectoryStorage) -> None:
    for vmid in (101, 102):
        await storage.allocate(vmid, 1 << 20, "raw")
    (storage.root / "images/101/vm-101-disk-9.raw").symlink_to("/etc/shadow")
    assert [v.vmid for v in (await storage.list("images")).volumes] == [101, 102]
    only = await storage.list("images", 101)
    assert [v.volid for v in only.volumes] == ["local:101/vm-101-disk-0.raw"]
    assert [f.path.name for f in only.findings] == ["vm-101-disk-9.raw"]
    assert (await storage.list("images", 999)).volumes == ()


async def test_a_volume_that_vanished_or_was_swapped(storage: DirectoryStorage) -> None:
    volume = await storage.allocate(101, 1 << 20, "raw")
    volume.path.unlink()
    with pytest.raises(StorageError, match="does not exist"):
        await storage.activate(volume.volid, "raw")
    volume.path.symlink_to("/etc/shadow")
    with pytest.raises(StorageError, match=r"local:101/vm-101-disk-0\.raw"):
        await storage.activate(volume.volid, "raw")
    volume.path.unlink()
    os.mkfifo(volume.path)
    with pytest.raises(StorageError, match="no plain file"):
        await storage.find(volume.volid)


async def test_an_iso_nobody_but_root_may_read(storage: DirectoryStorage) -> None:
    path = storage.iso_folder / "x.iso"
    path.write_bytes(iso_bytes())
    path.chmod(0o600)
    theirs = DirectoryStorage("local", storage.root, user="nobody")
    with pytest.raises(StorageError, match="may not read") as caught:
        await theirs.activate("local:iso/x.iso", "raw")
    assert caught.value.hint == f"chmod a+r {path}"
    path.chmod(0o644)
    assert (await theirs.activate("local:iso/x.iso", "raw")).content == "iso"
