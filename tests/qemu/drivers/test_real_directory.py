"""The directory storage under the contract of every storage, and with images that lie."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path

import pytest
from storagecontract import MIB, StorageContract

from vms.errors import StorageError
from vms.storage import header, image
from vms.storage.directory import DirectoryStorage


class TestDirectory(StorageContract):
    @pytest.fixture
    async def storage(self, short: Path) -> DirectoryStorage:
        made = DirectoryStorage("local", short / "local")
        await made.prepare()
        return made


USER = "nobody" if os.geteuid() == 0 else None
"""Root hands disks to another user; who is not root keeps them."""


@pytest.fixture
async def storage(short: Path) -> DirectoryStorage:
    made = DirectoryStorage("local", short / "local", user=USER)
    await made.prepare()
    return made


async def test_disks_belong_to_qemus_user(storage: DirectoryStorage) -> None:
    owner = pwd.getpwnam(USER).pw_uid if USER else os.geteuid()
    for volume in (await storage.allocate(101, MIB, "qcow2"), await storage.allocate(101, MIB, "raw")):
        found = volume.path.stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (owner, 0o600)


async def test_disks_of_an_earlier_user_are_handed_over(storage: DirectoryStorage) -> None:
    before = DirectoryStorage("local", storage.root)
    volume = await before.allocate(101, MIB, "qcow2")
    volume.path.chmod(0o640)
    await storage.activate(volume.volid, "qcow2")
    found = volume.path.stat()
    assert found.st_uid == (pwd.getpwnam(USER).pw_uid if USER else os.geteuid())
    assert stat.S_IMODE(found.st_mode) == 0o600


async def test_a_disk_made_to_reach_outside_is_not_activated(storage: DirectoryStorage) -> None:
    """A compromised QEMU may rewrite its own disk's header; the next start must not follow it."""
    volume = await storage.allocate(101, MIB, "qcow2")
    words = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/hostname", str(volume.path)]
    subprocess.run(words, check=True)
    with pytest.raises(StorageError, match="has a backing file"):
        await storage.activate(volume.volid, "qcow2")


async def test_a_raw_disk_whose_guest_wrote_a_qcow2_header(storage: DirectoryStorage, short: Path) -> None:
    volume = await storage.allocate(101, MIB, "raw")
    evil = short / "evil"
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/hostname", str(evil), "1G"]
    subprocess.run(words, check=True)
    with volume.path.open("r+b") as file:
        file.write(evil.read_bytes()[:65536])
    found = await storage.activate(volume.volid, "raw")
    assert (found.format, found.size) == ("raw", MIB)
    told = await image.info(volume.path, "raw", user=USER)
    assert (told.format, told.virtual_size, told.backing) == ("raw", MIB, "")


async def test_growing_a_disk(storage: DirectoryStorage) -> None:
    volume = await storage.allocate(101, MIB, "qcow2")
    await image.resize(volume.path, "qcow2", 3 * MIB, user=USER)
    assert (await storage.find(volume.volid)).size == 3 * MIB


async def test_our_header_reader_agrees_with_qemu_img(storage: DirectoryStorage, short: Path) -> None:
    for words in (["-o", "compat=0.10"], ["-o", "compat=1.1,cluster_size=2M"], ["-o", "extended_l2=on"]):
        path = short / "x.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words, str(path), "77M"], check=True)
        descriptor = os.open(path, os.O_RDONLY)
        assert header.inspect(descriptor) == header.Header(kind="qcow2", virtual_size=77 * MIB)
        os.close(descriptor)
    data = short / "data.raw"
    outside = ["-o", f"data_file={data},data_file_raw=on"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *outside, str(path), "77M"], check=True)
    descriptor = os.open(path, os.O_RDONLY)
    assert header.inspect(descriptor).data_file
    os.close(descriptor)


async def test_qemu_img_s_own_words(short: Path) -> None:
    with pytest.raises(StorageError, match=r"qemu-img info: .*No such file"):
        await image.info(short / "missing", "qcow2")


async def test_a_base_is_nobodys_to_write(storage: DirectoryStorage) -> None:
    """Everybody may read its file, and nobody but QEMU's user comes as far as its folder."""
    disk = await storage.allocate(900, MIB, "qcow2")
    base = await storage.to_base(disk.volid)
    found = base.path.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (os.geteuid(), 0o444)
    folder = base.path.parent.stat()
    assert stat.S_IMODE(folder.st_mode) == (0o710 if USER else 0o700)
    assert folder.st_gid == (pwd.getpwnam(USER).pw_gid if USER else os.getegid())
    await storage.activate(base.volid, "qcow2")
    assert stat.S_IMODE(base.path.stat().st_mode) == 0o444
    clone = await storage.clone(101, base.volid)
    assert (await image.info(clone.path, "qcow2", user=USER)).backing == "../900/base-900-disk-0.qcow2"
    base.path.chmod(0o644)
    with pytest.raises(StorageError, match="may be written"):
        await storage.activate(clone.volid, "qcow2")
    base.path.unlink()
    with pytest.raises(StorageError, match=r"base-900-disk-0\.qcow2' does not exist"):
        await storage.activate(clone.volid, "qcow2")


async def test_a_linked_clone_lies_on_the_base_its_name_says(storage: DirectoryStorage) -> None:
    """Whatever else its header may have come to name, QEMU is not started with it."""
    bases = [await storage.to_base((await storage.allocate(n, MIB, "raw")).volid) for n in (900, 901)]
    clone = await storage.clone(101, bases[0].volid)
    for words in (
        ["-F", "raw", "-b", "../901/base-901-disk-0.raw"],
        ["-F", "raw", "-b", str(bases[0].path)],
        ["-F", "raw", "-b", "/etc/hostname"],
        ["-F", "qcow2", "-b", "../900/base-900-disk-0.raw"],
        ["-b", ""],
    ):
        subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", *words, str(clone.path)], check=True)
        with pytest.raises(StorageError):
            await storage.activate(clone.volid, "qcow2")
        with pytest.raises(StorageError):
            await storage.copy(102, clone, "raw", _unheard)
    words = ["-F", "raw", "-b", "../900/base-900-disk-0.raw"]
    subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", *words, str(clone.path)], check=True)
    assert (await storage.activate(clone.volid, "qcow2")).base == bases[0].volid


async def _unheard(fraction: float) -> None:
    """Progress that is told to nobody."""


async def test_blocks_are_shared_where_the_file_system_can(storage: DirectoryStorage) -> None:
    """Two of one content; the second takes no room on Btrfs and XFS, and is a plain copy elsewhere."""
    disk = await storage.allocate(101, MIB, "raw")
    disk.path.write_bytes(os.urandom(MIB))
    copy = await storage.copy(101, disk, "raw", _unheard)
    assert copy.path.read_bytes() == disk.path.read_bytes()
    assert stat.S_IMODE(copy.path.stat().st_mode) == 0o600
