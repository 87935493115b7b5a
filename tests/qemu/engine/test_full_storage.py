"""What is done to a VM whose storage has no byte left: it ends, says why, and no disk is harmed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clonekit import clone, made
from diskkit import config, fill, holds_pattern, path_of
from enginekit import Engine, until
from faultkit import go_on, held_at
from snapkit import SECURE, ask, lines

from vms.models import VM, Volume

if TYPE_CHECKING:
    from vms.models import Task

CONFIG = {
    "name": "full", "ostype": "l26", "memory": "32", "vga": "none", "serial0": "socket",
    "scsihw": "virtio-scsi-single", "scsi0": "small:0.0625,format=qcow2",
}  # fmt: skip
DISK = "small:100/vm-100-disk-0.qcow2"


@pytest.fixture
def vm(engine: Engine, small: Path) -> VM:
    """A VM on ``small``, with 4 MiB of a pattern on its disk."""
    made = engine.draft(CONFIG, 100)
    engine.do("qmcreate", made)
    fill(path_of(DISK), 4)
    return made


def full(folder: Path) -> None:
    """Leave no room at all."""
    with (folder / "filler").open("wb") as filler:
        free = os.statvfs(folder)
        os.posix_fallocate(filler.fileno(), 0, free.f_bavail * free.f_frsize)
    assert os.statvfs(folder).f_bavail == 0


def room(folder: Path) -> None:
    (folder / "filler").unlink()


def own(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("images/*/*"))


def log(engine: Engine, task: Task) -> str:
    engine.end(task, 60)
    return f"{task.status}: {task.message}\n{lines(task)}"


def test_a_disk_that_cannot_grow(engine: Engine, vm: VM, small: Path) -> None:
    """Its tables need room: QEMU says so, the guest runs, and it grows once there is some."""
    for size in ("+180M", "+180M"):
        engine.do("resize", vm, disk="scsi0", size=size)
    engine.do("qmstart", vm)
    task = held_at(engine, "resize:1", vm, disk="scsi0", size="+128M")  # a second table, from 512 MiB on
    full(small)
    go_on(engine)
    assert "QEMU did not resize scsi0: " in log(engine, task)
    assert "No space left on device" in task.message
    engine.status(vm, "running")
    assert config(vm)["scsi0"] == f"{DISK},size=424M"
    assert (vm.draft, vm.lock) == ({}, "")
    assert "has no room" in log(engine, engine.submit("resize", vm, disk="scsi0", size="+128M"))
    engine.do("qmstop", vm)
    assert "has no room" in log(engine, engine.submit("resize", vm, disk="scsi0", size="+128M"))
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", path_of(DISK)], check=True)
    assert holds_pattern(DISK)
    room(small)
    engine.do("resize", vm, disk="scsi0", size="+128M")
    assert config(vm)["scsi0"] == f"{DISK},size=552M"
    assert holds_pattern(DISK)


def test_going_back_needs_no_room(engine: Engine, vm: VM, small: Path) -> None:
    """To the disks, and to the memory that is there already; a new snapshot is refused and leaves nothing."""
    engine.do("qmstart", vm)
    engine.do("qmsnapshot", vm, snapname="one", vmstate="1")
    before = own(small)
    line = 'qemu-io -d scsi0 "write -P 17 0 64k"'
    assert ask(engine, 100, "human-monitor-command", **{"command-line": line}) == ""
    full(small)
    for start in (True, False):
        if not start:
            engine.do("qmstop", vm)
        engine.do("qmrollback", vm, snapname="one")
        engine.status(vm, "running")
        assert own(small) == before
        assert holds_pattern(DISK)
    refused(engine, vm, "has no room", vmstate="1")
    assert own(small) == before
    engine.do("qmdelsnapshot", vm, snapname="one")
    assert own(small) == ["vm-100-disk-0.qcow2"]


def refused(engine: Engine, vm: VM, words: str, **params: str) -> None:
    """A snapshot that cannot be: there is none, and the VM is what it was."""
    was, snapshots = vm.status, vm.snapshots.count()
    said = log(engine, engine.submit("qmsnapshot", vm, snapname="two", **params))
    assert said.startswith("error: "), said
    assert words in said
    engine.status(vm, was)
    assert (vm.lock, vm.snapshots.count()) == ("", snapshots)


def test_a_snapshot_that_does_not_fit_into_its_disk(engine: Engine, small: Path) -> None:
    """Its tables need room: none of the disks holds it afterwards, the one before it neither; off and on."""
    both = {"scsi0": "local:0.0625,format=qcow2", "scsi1": CONFIG["scsi0"]}
    vm = engine.draft(CONFIG | both, 100)
    engine.do("qmcreate", vm)
    fill(path_of(DISK), 4)
    full(small)
    refused(engine, vm, "No space left on device")
    engine.do("qmstart", vm)
    refused(engine, vm, "No space left on device")
    engine.do("qmstop", vm)
    for path in (path_of(DISK), path_of(DISK.replace("small", "local"))):
        info = subprocess.run(["qemu-img", "info", path], check=True, stdout=subprocess.PIPE)
        assert b"Snapshot list" not in info.stdout
        subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", path], check=True)
    assert holds_pattern(DISK)


def test_a_tpm_comes_back_where_there_is_no_room(engine: Engine, small: Path) -> None:
    """Its state takes the place it had."""
    vm = engine.draft(CONFIG | {"tpmstate0": SECURE["tpmstate0"].replace("local", "small")}, 100)
    engine.do("qmcreate", vm, 60)
    place = path_of(config(vm)["tpmstate0"].partition(",")[0])
    state = place.read_bytes()
    engine.do("qmsnapshot", vm, snapname="one")
    place.write_bytes(state[:64] + b"spoilt" + state[70:])
    full(small)
    engine.do("qmrollback", vm, snapname="one")
    assert place.read_bytes() == state


def test_template_and_trash_need_no_room(engine: Engine, vm: VM, small: Path) -> None:
    """A conversion renames; a clone beside it says that it does not fit; trash, restore and removal go on."""
    full(small)
    engine.do("qmtemplate", vm)
    base = ["base-100-disk-0.qcow2"]
    assert own(small) == base
    for more in ({}, {"full": "1"}):
        task = clone(engine, vm, 101, **more)
        said = log(engine, task)
        assert said.startswith("error: clone failed: "), said
        assert own(small) == base
        assert not VM.everything.filter(vmid=101).exists()
    engine.end(engine.submit("qmdestroy", vm))
    assert engine.end(engine.submit("qmundestroy", VM.everything.get(vmid=100))).status == "ok"
    assert holds_pattern("small:100/base-100-disk-0.qcow2")
    copy = made(engine, clone(engine, vm, 101, full="1", storage="local"))
    assert holds_pattern(config(copy)["scsi0"].partition(",")[0])
    engine.end(engine.submit("qmdestroy", vm))
    assert engine.end(engine.submit("qmpurge", VM.everything.get(vmid=100))).status == "ok"
    assert own(small) == []
    until(lambda: not Volume.objects.filter(storage__name="small").exists(), "no row is left of it")
