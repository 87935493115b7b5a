"""Backups in a directory storage: names, what stands beside them, what is none."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from vms.errors import StorageError
from vms.storage import dump
from vms.storage.directory import DirectoryStorage
from vms.storage.names import backup_begun, backup_name, backup_part, is_backup_part

BEGUN = datetime(2026, 11, 27, 2, 0, 5, tzinfo=UTC)
NAME = "vzdump-qemu-101-2026_11_27-02_00_05.tar.zst"
VOLID = f"local:backup/{NAME}"


@pytest.fixture
async def storage(tmp_path: Path) -> DirectoryStorage:
    made = DirectoryStorage("local", tmp_path / "local")
    await made.prepare()
    return made


def archive(storage: DirectoryStorage, name: str = NAME, data: bytes = b"archive") -> Path:
    path = storage.dump_folder / name
    path.write_bytes(data)
    return path


def test_names_say_whose_and_when() -> None:
    assert backup_name(101, BEGUN) == NAME
    east = timezone(timedelta(hours=5))
    assert backup_name(101, BEGUN.astimezone(east), packed=False) == NAME.removesuffix(".zst")
    assert backup_begun(NAME) == (101, BEGUN)
    assert is_backup_part(backup_part(NAME))


@pytest.mark.parametrize(
    "name",
    [
        "", "vzdump-qemu-101-2026_13_27-02_00_05.tar", "vzdump-qemu-99-2026_11_27-02_00_05.tar",
        "vzdump-lxc-101-2026_11_27-02_00_05.tar", f"{NAME}.notes", f"{NAME}\n", f"../{NAME}", f".{NAME}.part",
        "vzdump-qemu-101-2026_11_27-02_00_05.vma.zst", "vzdump-qemu-101-2026_02_30-02_00_05.tar",
    ],
)  # fmt: skip
def test_other_names_are_no_backups(tmp_path: Path, name: str) -> None:
    assert backup_begun(name) is None
    with pytest.raises(StorageError):
        DirectoryStorage("local", tmp_path).path(f"local:backup/{name}")


async def test_a_backup_is_listed_with_what_stands_beside_it(storage: DirectoryStorage) -> None:
    path = archive(storage)
    await storage.write_notes(VOLID, "before the upgrade\r\nof web\x00-01\n")
    await storage.protect(VOLID, True)
    (found,) = (await storage.list("backup")).volumes
    assert (found.volid, found.vmid, found.made, found.format) == (VOLID, 101, BEGUN, "tar.zst")
    assert (found.size, found.path, found.content) == (7, path, "backup")
    assert (found.notes, found.protected) == ("before the upgrade\nof web -01", True)
    assert await storage.find(VOLID) == found
    await storage.write_notes(VOLID, "  ")
    await storage.protect(VOLID, False)
    assert (await storage.find(VOLID)).notes == ""
    assert sorted(os.listdir(storage.dump_folder)) == [NAME]


async def test_a_protected_backup_stays(storage: DirectoryStorage) -> None:
    path = archive(storage)
    dump.beside(path, dump.LOG).write_text("INFO: done")
    await storage.write_notes(VOLID, "kept")
    await storage.protect(VOLID, True)
    with pytest.raises(StorageError, match="is protected"):
        await storage.free(VOLID)
    assert path.exists()
    await storage.protect(VOLID, False)
    await storage.free(VOLID)
    await storage.free(VOLID)
    assert os.listdir(storage.dump_folder) == []
    assert storage.dump_folder.is_dir()


async def test_what_is_no_backup_is_not_offered(storage: DirectoryStorage) -> None:
    fresh, stale = backup_part(NAME), backup_part(NAME.replace("101", "102"))
    for name in (fresh, stale, "README", f"{NAME}.notes"):
        archive(storage, name)
    os.utime(storage.dump_folder / stale, (1, 1))
    (storage.dump_folder / NAME.replace("101", "103")).symlink_to("/etc/shadow")
    listing = await storage.list("backup")
    assert listing.volumes == ()
    assert {(one.path.name, one.text.split(";")[0]) for one in listing.findings} == {
        (stale, "it is an unfinished backup nobody writes to"),
        (NAME.replace("101", "103"), "it is a symbolic link"),
    }


async def test_a_strangers_sidecars_are_not_followed(storage: DirectoryStorage, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    path = archive(storage)
    dump.beside(path, dump.NOTES).symlink_to(secret)
    assert (await storage.find(VOLID)).notes == ""
    await storage.write_notes(VOLID, "ours")
    assert secret.read_text() == "secret"
    assert (await storage.find(VOLID)).notes == "ours"
    dump.beside(path, dump.NOTES).write_bytes(b"\xff\xfe" + b"x" * (100 << 10))
    assert len((await storage.find(VOLID)).notes) <= dump.NOTES_LIMIT
    os.mkfifo(dump.beside(path, dump.LOG))
    assert dump.read_log(path) == ""


async def test_refusals(storage: DirectoryStorage) -> None:
    archive(storage)
    with pytest.raises(StorageError, match="no disk; restore it"):
        await storage.activate(VOLID, "raw")
    with pytest.raises(StorageError, match="at most 64 KiB"):
        await storage.write_notes(VOLID, "x" * (65 << 10))
    with pytest.raises(StorageError, match="is no backup"):
        await storage.protect("local:iso/debian.iso", True)
    with pytest.raises(StorageError, match="there is no backup"):
        await storage.protect(VOLID.replace("101", "105"), True)
