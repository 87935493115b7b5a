"""A folder of the node in a real guest: seen there, written there, and its helper gone with QEMU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from guestkit.lab import Lab
from guestkit.media import Media
from guestkit.waiting import eventually

from vms.errors import QemuError
from vms.hardware.extras import VirtioFs
from vms.host.paths import RunPaths
from vms.qemu import process, sharing

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not sharing.program(), reason="only root can share folders, with virtiofsd"
)
SHARE = VirtioFs.parse("documents", "virtiofs0")


async def test_a_guest_reads_and_writes_the_folder(lab: Lab, guest_media: Media) -> None:
    folder = lab.root / "documents"
    folder.mkdir()
    (folder / "letter").write_text("dear guest")
    paths = lab.runs.prepare(101)
    running = await sharing.start(paths, 0, SHARE, folder)
    config = {"memory": "256", "agent": "1", "serial0": "socket", "virtiofs0": "documents"}
    guest = await lab.start(101, config, guest_media.direct_boot())
    await guest.agent_answers()
    script = "modprobe virtiofs; mkdir -p /mnt/d; mount -t virtiofs documents /mnt/d; cat /mnt/d/letter; "
    assert "dear guest" in await guest.shell(script + "echo dear host > /mnt/d/answer; sync")
    assert (folder / "answer").read_text() == "dear host\n"
    await guest.kill()
    await eventually(lambda: not process.alive(running), "the helper to leave with its guest")
    await sharing.stop(paths)
    assert not list(paths.folder.glob("virtiofs*"))


async def test_its_socket_is_qemus_users_and_nobody_elses(short: Path) -> None:
    paths = RunPaths(short / "run", short / "log", "nobody").prepare(102)
    folder = short / "documents"
    folder.mkdir()
    running = await sharing.start(paths, 3, SHARE, folder, user="nobody")
    found = paths.shared(3).stat()
    assert found.st_mode & 0o007 == 0
    assert found.st_mode & 0o060 == 0o060
    await sharing.stop(paths)
    assert not process.alive(running)


async def test_a_folder_that_is_not_there(short: Path) -> None:
    paths = RunPaths(short / "run", short / "log").prepare(103)
    with pytest.raises(QemuError, match="is not there"):
        await sharing.start(paths, 0, SHARE, short / "nowhere")
