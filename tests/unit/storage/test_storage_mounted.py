"""A mounted path: what counts as mounted, and a server that does not answer."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from vms.errors import StorageError
from vms.host.mounts import is_mount_point
from vms.host.mounts import mounted as mounts
from vms.storage import mounted, open_storage
from vms.storage.base import StorageStatus
from vms.storage.mounted import MountedStorage

LIST = """\
22 1 254:0 / / rw,relatime - ext4 /dev/root rw
40 22 0:35 / /mnt/my\\040nas rw,relatime shared:1 - nfs4 nas:/export rw,vers=4.2
41 40 0:36 /sub /mnt/my\\040nas rw - btrfs /dev/loop0 rw
42 22 0:37 / /srv rw
"""


def test_the_kernels_list_of_mounts() -> None:
    assert mounts(LIST) == {"/": "ext4", "/mnt/my nas": "btrfs"}
    assert is_mount_point("/proc")
    assert is_mount_point("/proc/")
    assert not is_mount_point("/proc/self")


async def test_nothing_is_written_where_nothing_is_mounted(tmp_path: Path) -> None:
    storage = open_storage("nas", {"type": "nfs", "path": str(tmp_path)})
    status = await storage.status()
    assert (status.active, status.text) == (False, f"{tmp_path} is no mount point")
    volid = "nas:101/vm-101-disk-0.raw"
    for verb in (
        storage.prepare(), storage.allocate(101, 4096, "raw"), storage.find(volid), storage.free(volid),
        storage.activate(volid, "raw"), storage.list("images"), storage.allocate_seed(101, b"x"),
        storage.allocate_state(101, "one", 4096), storage.check_space(1),
    ):  # fmt: skip
        with pytest.raises(StorageError, match="is no mount point"):
            await verb
    assert list(tmp_path.iterdir()) == []


async def test_a_silent_server_costs_its_patience_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread hangs, however often somebody asks, and the event loop goes on."""
    answers = threading.Event()

    def hanging(self: MountedStorage) -> StorageStatus:
        answers.wait(60)
        return StorageStatus(active=True, total=1, available=1)

    monkeypatch.setattr(mounted, "is_mount_point", lambda path: True)
    monkeypatch.setattr(MountedStorage, "ask_folder", hanging)
    monkeypatch.setattr(mounted, "PATIENCE", 0.2)
    storage = MountedStorage("nas", tmp_path)
    try:
        assert "does not answer" in (await storage.status()).text
        began = time.monotonic()
        told = await asyncio.gather(*(storage.status() for _ in range(20)))
        assert {status.active for status in told} == {False}
        assert time.monotonic() - began < 10
        assert sum(thread.name == f"asks {tmp_path}" for thread in threading.enumerate()) == 1
    finally:
        answers.set()
    monkeypatch.setattr(mounted, "PATIENCE", 30)
    while not (await storage.status()).active:
        await asyncio.sleep(0.01)
