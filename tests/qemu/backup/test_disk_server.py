"""Disks offered by the real storage daemon, and what becomes of it when its worker dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from vms.backup.nbd import NbdClient
from vms.errors import StorageError
from vms.hardware.volume import VolumeSource
from vms.qemu.diskserver import Export, disk_server, end_left

MIB = 1 << 20


def disk(path: Path, fmt: str, size: int = 64 * MIB) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", fmt, str(path), str(size)], check=True)
    return path


def export(path: Path, fmt: str, *, writable: bool = False) -> Export:
    source = VolumeSource("file", str(path), fmt)
    return Export(name=path.stem, source=source, format=fmt, writable=writable)


async def test_two_disks_on_one_socket(tmp_path: Path) -> None:
    """A name with a comma is no option; what is not writable is not written; the folder goes."""
    one, two = disk(tmp_path / "a,file=b.qcow2", "qcow2"), disk(tmp_path / "two.raw", "raw")
    folder = tmp_path / "run"
    exports = [export(one, "qcow2", writable=True), export(two, "raw")]
    async with disk_server(exports, folder, user=None) as socket:
        assert folder.stat().st_mode & 0o777 == 0o700
        async with await NbdClient.connect(str(socket), "a,file=b") as client:
            await client.write(MIB, b"hello" * 200)
            await client.flush()
        async with await NbdClient.connect(str(socket), "two") as client:
            with pytest.raises(StorageError):
                await client.write(0, b"x" * 512)
        convert = ["qemu-io", "-r", "-f", "qcow2", "-c", "read 0 512", str(one)]
        assert subprocess.run(convert, capture_output=True).returncode != 0, "nobody else has it meanwhile"
    assert not folder.exists()
    async with (
        disk_server([export(one, "qcow2")], folder, user=None) as socket,
        await NbdClient.connect(str(socket), "a,file=b") as client,
    ):
        assert await client.read(MIB, 1000) == b"hello" * 200


async def test_a_disk_that_is_none_is_told(tmp_path: Path) -> None:
    for bad in (tmp_path / "missing.qcow2", disk(tmp_path / "raw.qcow2", "raw")):
        with pytest.raises(StorageError, match=r"the disks cannot be opened: .*"):
            async with disk_server([export(bad, "qcow2")], tmp_path / "run", user=None):
                pass
        assert not (tmp_path / "run").exists()


WORKER = """
import asyncio, sys
from pathlib import Path
from vms.hardware.volume import VolumeSource
from vms.qemu.diskserver import Export, disk_server

async def main():
    export = Export(name="x", source=VolumeSource("file", sys.argv[1], "raw"), format="raw", writable=True)
    user = sys.argv[3] or None
    async with disk_server([export], Path(sys.argv[2]), user=user):
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("user", ["", "nobody"])
async def test_it_ends_with_its_worker(tmp_path: Path, user: str) -> None:
    """kill -9 of who started it: the kernel ends the daemon, as another user too."""
    if user and os.geteuid() != 0:
        user = ""
    for parent in (tmp_path, *tmp_path.parents):
        if parent == Path(tempfile.gettempdir()):
            break
        parent.chmod(0o755)
    image, folder = disk(tmp_path / "x.raw", "raw"), tmp_path / "run"
    image.chmod(0o666)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(image), str(folder), user], stdout=subprocess.PIPE, text=True
    )
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        pid = int((folder / "nbd.pid").read_text())
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "the daemon lives on"
        await asyncio.sleep(0.01)
    await end_left(folder)
    assert not folder.exists()


async def test_one_that_lives_on_is_ended(tmp_path: Path) -> None:
    """Where the kernel was not told to, the next worker does it."""
    image, folder = disk(tmp_path / "x.raw", "raw"), tmp_path / "run"
    folder.mkdir()
    daemon = subprocess.Popen(
        ["qemu-storage-daemon", "--pidfile", str(folder / "nbd.pid"), "--blockdev",
         f"driver=file,node-name=a,filename={image}"]
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while not ((folder / "nbd.pid").exists() and (folder / "nbd.pid").read_text()):
        assert time.monotonic() < deadline, "the daemon is not ready"
        await asyncio.sleep(0.01)
    await end_left(folder)
    assert daemon.wait(20) == 0
    assert not folder.exists()
