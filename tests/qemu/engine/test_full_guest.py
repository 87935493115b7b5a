"""A guest with an agent and a mounted file system on a storage that is full, while a snapshot is taken of it.

Whatever happens on the way, the task ends soon and says why, and nobody is left frozen.
"""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from diskkit import path_of
from enginekit import Engine, until
from faultkit import go_on, held_at
from guestkit.media import Media
from guestkit.sleeper import inside, sleeper
from snapkit import ask, lines, tree
from test_full_storage import DISK, full, room

from vms.errors import MonitorError, OutcomeUnknown
from vms.models import VM, Task
from vms.qemu.agent import Agent

MOUNTED = """
modprobe -a virtio_scsi sd_mod ext4
until test -b /dev/sda; do sleep 0.1; done
mke2fs /dev/sda >/dev/null 2>&1
mkdir -p /mnt
mount -t ext4 /dev/sda /mnt
echo 90 >/proc/sys/vm/dirty_ratio
echo 80 >/proc/sys/vm/dirty_background_ratio
echo 0 >/proc/sys/vm/dirty_writeback_centisecs
echo 360000 >/proc/sys/vm/dirty_expire_centisecs
"""
"""What is written stays in the guest's memory until somebody asks for it to be on the disk."""
WRITTEN = "dd if=/dev/urandom of=/mnt/data bs=1M count=1 2>/dev/null"


@pytest.fixture
def guest(engine: Engine, small: Path, guest_media: Media, warm_state: Path) -> VM:
    from vms.operations.configure import change

    vm = sleeper(engine, guest_media, warm_state, 100, {"scsihw": "virtio-scsi-single"})
    engine.do("qmstart", vm)
    task = engine.end(change(vm, None, set={"scsi0": "small:0.0625,format=qcow2"}))
    assert task.status == "ok", task.message
    inside(engine, 100, MOUNTED)
    return vm


def snapshot(engine: Engine, task: Task, status: str) -> str:
    """How it ended, in time: its agent alone would once have been waited for 80 s."""
    engine.end(task, 60)
    said = f"{task.message}\n{lines(task)}"
    assert task.status == status, said
    return said


def nothing_left(vm: VM) -> None:
    vm.refresh_from_db()
    assert (vm.lock, tree(vm)) == ("", {"": ""})
    told = subprocess.run(["qemu-img", "info", "-U", path_of(DISK)], check=True, stdout=subprocess.PIPE)
    assert b"Snapshot list" not in told.stdout


def goes_on(engine: Engine) -> None:
    """Nobody thawed it but the worker."""
    agent = Agent(engine.run_dir / "vm" / "100" / "agent" / "qga.sock")

    async def still() -> bool:
        try:
            return await agent.still()
        except (MonitorError, OutcomeUnknown):
            return True

    until(lambda: not asyncio.run(still()), "the guest is thawed", 60)
    assert inside(engine, 100, "echo on >/mnt/file; sync; cat /mnt/file") == "on\n"


def test_frozen_and_no_room_for_the_snapshot(engine: Engine, guest: VM, small: Path) -> None:
    """It is thawed and goes on; and it is thawed later when somebody stopped it meanwhile."""
    full(small)
    said = snapshot(engine, engine.submit("qmsnapshot", guest, snapname="one"), "error")
    assert "No space left on device" in said
    assert "1 file systems frozen" in said
    assert "thawed after" in said
    engine.status(guest, "running")
    nothing_left(guest)
    room(small)
    goes_on(engine)
    task = held_at(engine, "qmsnapshot:2", guest, snapname="two")
    ask(engine, 100, "stop")
    go_on(engine)
    said = snapshot(engine, task, "warnings")
    assert "could not be thawed: the guest stands still (paused), so its agent cannot answer" in said
    assert tree(guest) == {"": "two", "two": ""}
    engine.status(guest, "paused")
    engine.do("qmresume", guest)
    goes_on(engine)


def test_the_freeze_itself_fills_the_storage(engine: Engine, guest: VM, small: Path) -> None:
    """QEMU stops the guest in the middle of its freeze; it ends that once it runs again, and is thawed."""
    full(small)
    inside(engine, 100, WRITTEN)
    said = snapshot(engine, engine.submit("qmsnapshot", guest, snapname="one"), "error")
    assert "could not be frozen: the guest stands still (io-error), so its agent cannot answer" in said
    assert "No space left on device" in said
    assert "VM 100 was stopped by a disk error: make room where its disks are, then resume it." in said
    engine.status(guest, "io-error")
    nothing_left(guest)
    # It stands still before the next one is asked for.
    said = snapshot(engine, engine.submit("qmsnapshot", guest, snapname="two"), "error")
    assert "then resume it." in said
    engine.status(guest, "io-error")
    nothing_left(guest)
    room(small)
    engine.do("qmresume", guest)
    engine.status(guest, "running")
    goes_on(engine)
    said = snapshot(engine, engine.submit("qmsnapshot", guest, snapname="three"), "ok")
    assert "1 file systems frozen" in said
