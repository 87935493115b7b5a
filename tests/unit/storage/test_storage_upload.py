"""Uploads: what is let in, what is not, and that nothing stays of what is not."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from pathlib import Path

import pytest
from test_storage_image import iso_bytes, qcow2_bytes

from vms.errors import StorageError
from vms.storage.directory import DirectoryStorage
from vms.storage.upload import NEWBORN, Upload, sweep


@pytest.fixture
def storage(tmp_path: Path) -> DirectoryStorage:
    (tmp_path / "local").mkdir()
    return DirectoryStorage("local", tmp_path / "local")


def left(storage: DirectoryStorage) -> list[str]:
    """Every file below the storage."""
    return sorted(path.name for path in storage.root.rglob("*") if not path.is_dir())


def test_an_iso_comes_in(storage: DirectoryStorage) -> None:
    content = iso_bytes()
    with Upload(storage, "debian-12.iso", size=len(content)) as upload:
        for start in range(0, len(content), 1000):
            upload.write(content[start : start + 1000])
        assert left(storage)[0].endswith(".part")
        assert upload.finish(sha256=hashlib.sha256(content).hexdigest().upper()) == "local:iso/debian-12.iso"
    path = storage.path("local:iso/debian-12.iso")
    assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert path.stat().st_nlink == 1
    assert left(storage) == ["debian-12.iso"]


@pytest.mark.parametrize(
    "name",
    ["", ".iso", "x", "x.img", "../x.iso", "/etc/x.iso", "a/b.iso", ".x.iso", "x.iso\0", "x\n.iso", "-x.iso",
     "x y.iso", "x.iso,file=/etc/shadow", "ünïcode.iso", "a" * 117 + ".iso", "x.iso.exe"],
)  # fmt: skip
def test_names_that_are_none(storage: DirectoryStorage, name: str) -> None:
    with pytest.raises(StorageError, match="cannot be the name"):
        Upload(storage, name)
    assert left(storage) == []


def test_a_qcow2_with_a_backing_file_called_iso(storage: DirectoryStorage) -> None:
    with pytest.raises(StorageError, match="it is a qcow2 file"), Upload(storage, "x.iso") as upload:
        upload.write(qcow2_bytes(backing=b"/etc/shadow") + iso_bytes()[1536:])
        upload.finish()
    assert left(storage) == []


@pytest.mark.parametrize("content", [b"", b"hello", iso_bytes()[:33000], iso_bytes(declared=10**6)], ids=len)
def test_what_is_no_iso(storage: DirectoryStorage, content: bytes) -> None:
    with pytest.raises(StorageError), Upload(storage, "x.iso") as upload:
        upload.write(content)
        upload.finish()
    assert left(storage) == []


def test_the_limit_holds_while_reading(storage: DirectoryStorage) -> None:
    with pytest.raises(StorageError, match="at most"):
        Upload(storage, "x.iso", size=101, limit=100)
    with pytest.raises(StorageError, match="at most"), Upload(storage, "x.iso", size=50, limit=100) as upload:
        upload.write(bytes(60))
        upload.write(bytes(60))
    assert left(storage) == []


def test_no_room_is_told_before_the_first_byte(storage: DirectoryStorage) -> None:
    with pytest.raises(StorageError, match="has no room"):
        Upload(storage, "x.iso", size=1 << 60, limit=1 << 61)
    assert left(storage) == []


def test_a_wrong_checksum(storage: DirectoryStorage) -> None:
    with pytest.raises(StorageError, match="checksum"), Upload(storage, "x.iso") as upload:
        upload.write(iso_bytes())
        upload.finish(sha256="0" * 64)
    assert left(storage) == []


def test_a_broken_connection_leaves_nothing(storage: DirectoryStorage) -> None:
    with pytest.raises(ConnectionError), Upload(storage, "x.iso") as upload:
        upload.write(iso_bytes())
        raise ConnectionError
    assert left(storage) == []


def test_a_name_that_is_taken(storage: DirectoryStorage) -> None:
    storage.iso_folder.mkdir(parents=True)
    (storage.iso_folder / "x.iso").symlink_to("/no/such/place")
    with pytest.raises(StorageError, match="already"):
        Upload(storage, "x.iso")


def test_two_uploads_of_one_name_do_not_mix(storage: DirectoryStorage) -> None:
    """Both stream at the same time; one gets the name, the other is told, and no byte is mixed."""
    together = threading.Barrier(2)
    outcome: dict[int, str] = {}

    def upload(sectors: int) -> None:
        content = iso_bytes(sectors=sectors)
        try:
            with Upload(storage, "same.iso") as one:
                for start in range(0, len(content), 4096):
                    one.write(content[start : start + 4096])
                together.wait(10)
                outcome[sectors] = one.finish()
        except StorageError as error:
            outcome[sectors] = str(error)

    threads = [threading.Thread(target=upload, args=(sectors,)) for sectors in (40, 60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    won = [sectors for sectors, words in outcome.items() if words == "local:iso/same.iso"]
    assert len(won) == 1
    assert "already" in outcome[100 - won[0]]
    assert storage.path("local:iso/same.iso").read_bytes() == iso_bytes(sectors=won[0])
    assert left(storage) == ["same.iso"]


def test_sweeping_takes_the_dead_and_leaves_the_living(storage: DirectoryStorage) -> None:
    with Upload(storage, "x.iso") as upload:
        upload.write(b"x")
        folder = storage.root / "upload"
        dead, newborn, link = folder / "dead.part", folder / "newborn.part", folder / "link.part"
        dead.touch()
        newborn.touch()
        link.symlink_to("/etc/passwd")
        old = time.time() - NEWBORN - 1
        for path in folder.glob("*.part"):
            if path not in (newborn, link):
                os.utime(path, (old, old))
        assert sweep(folder) == 1
        assert not dead.exists()
        assert len(left(storage)) == 3
        upload.write(iso_bytes()[1:])
        assert upload.finish() == "local:iso/x.iso"
