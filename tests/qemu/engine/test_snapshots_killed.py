"""kill -9 at every border of snapshot, deletion and rollback: a definite end, no orphan, the guest runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from enginekit import Engine
from faultkit import deaths, fill, go_on, held_at
from snapkit import DISKS, SECURE, config, images, inside_disk, paint, painted, tree

from vms.models import VM, Snapshot, Task
from vms.tasks import queue

ALIVE = {key: text for key, text in DISKS.items() if key not in ("freeze", "virtio1")}
WITH_MEMORY = ("begun", "place made", "place kept", "stopped", "disks taken", "memory saved")
WITH_TPM = ("begun", "stopped", "TPM copied", "disks taken")
DELETED = ("marked", "scsi0 done", "volumes freed")
BACK = ("checked", "stopped", "scsi0 back", "configuration back", "before the guest goes on")


@pytest.fixture
def running(engine: Engine) -> VM:
    vm = engine.draft(ALIVE, 100)
    engine.do("qmcreate", vm)
    engine.do("qmstart", vm)
    return vm


def nothing_left(engine: Engine, vm: VM, border: str) -> None:
    """As before the snapshot was asked for."""
    vm.refresh_from_db()
    assert not Snapshot.objects.filter(vm=vm).exists(), border
    assert all(not names for names in inside_disk(engine, vm).values()), border
    assert not any("state" in name for name in engine.images()), border
    assert (vm.lock, tree(vm)) == ("", {"": ""}), border


def test_a_snapshot_with_memory(engine: Engine, running: VM, tmp_path: Path) -> None:
    def ask() -> Task:
        return engine.submit("qmsnapshot", running, snapname="one", vmstate="1")

    for border, task in deaths(engine, "qmsnapshot", WITH_MEMORY, tmp_path / "steps", ask):
        assert task.status == "error", border
        assert task.message.endswith("VM 100 is running; look at it and repeat if need be."), border
        engine.status(running, "running")
        nothing_left(engine, running, border)


def test_a_snapshot_with_a_tpm(engine: Engine, tmp_path: Path) -> None:
    vm = engine.draft(ALIVE | {"tpmstate0": SECURE["tpmstate0"]}, 100)
    engine.do("qmcreate", vm, 60)
    engine.do("qmstart", vm)
    ask = lambda: engine.submit("qmsnapshot", vm, snapname="one")  # noqa: E731
    for border, task in deaths(engine, "qmsnapshot", WITH_TPM, tmp_path / "steps", ask):
        assert task.status == "error", border
        engine.status(vm, "running")
        nothing_left(engine, vm, border)


def test_a_deletion(engine: Engine, running: VM, tmp_path: Path) -> None:
    """The next worker deletes the rest."""

    def ask() -> Task:
        if not Snapshot.objects.exists():
            engine.do("qmsnapshot", running, snapname="one", vmstate="1")
        return engine.submit("qmdelsnapshot", running, snapname="one")

    for border, task in deaths(engine, "qmdelsnapshot", DELETED, tmp_path / "steps", ask, again=True):
        assert task.status == "ok", f"{border}: {task.message}"
        engine.status(running, "running")
        nothing_left(engine, running, border)


def test_a_rollback(engine: Engine, running: VM, tmp_path: Path) -> None:
    """The next worker goes back all the way; the guest goes on from its memory."""
    engine.do("qmpause", running)
    paint(engine, running, 1)
    engine.do("qmsnapshot", running, snapname="one", vmstate="1")
    before = config(running)

    def ask() -> Task:
        engine.do("qmstop", running)
        paint(engine, running, 2)
        return engine.submit("qmrollback", running, snapname="one")

    for border, task in deaths(engine, "qmrollback", BACK, tmp_path / "steps", ask, again=True):
        assert task.status == "ok", f"{border}: {task.message}"
        engine.status(running, "running")
        assert painted(engine, running) == {1}, border
        after = config(running)
        assert after.pop("vmgenid") != before["vmgenid"], border
        assert after == {key: text for key, text in before.items() if key != "vmgenid"}, border
        assert (running.lock, tree(running)) == ("", {"one": "", "": "one"}), border
        assert list(engine.qemus()) == [100], border


def test_a_rollback_that_stops_half_way(engine: Engine) -> None:
    """A disk that cannot go back ends it; it says what the VM is now, and nothing is locked."""
    vm = engine.draft(DISKS, 100)
    engine.do("qmcreate", vm)
    paint(engine, vm, 1)
    engine.do("qmsnapshot", vm, snapname="one")
    paint(engine, vm, 2)
    task = held_at(engine, "qmrollback:2", vm, snapname="one")
    lost = images(engine, vm)["virtio1"]
    subprocess.run(["qemu-img", "snapshot", "-d", "one", lost], check=True)
    go_on(engine)
    assert engine.end(task).status == "error"
    assert task.message.startswith("virtio1: ")
    assert "The VM is off and partly what it was at 'one': roll back again." in task.message
    vm.refresh_from_db()
    assert (vm.lock, vm.status, painted(engine, vm)) == ("", "stopped", {1, 2})


def test_cancelled_on_the_way(engine: Engine, running: VM) -> None:
    """What comes when all is done is too late; then another one is cancelled."""
    for number in range(5):
        task = held_at(engine, "qmsnapshot:3", running, snapname=f"try{number}", vmstate="1")
        queue.request_cancel(task)
        go_on(engine)
        if engine.end(task).status == "cancelled":
            break
        assert task.status == "ok"
        engine.do("qmdelsnapshot", running, snapname=f"try{number}")
    assert task.status == "cancelled"
    engine.status(running, "running")
    nothing_left(engine, running, "cancelled")


def test_the_storage_fills_up_meanwhile(engine: Engine, running: VM, small: Path) -> None:
    """The memory does not fit after all: the disks' snapshots go again and the guest runs."""
    VM.everything.filter(pk=running.pk).update(options={**running.options, "vmstatestorage": "small"})
    task = held_at(engine, "qmsnapshot:3", running, snapname="one", vmstate="1")
    fill(small)
    go_on(engine)
    assert engine.end(task).status == "error"
    assert "No space left on device" in task.message
    engine.status(running, "running")
    nothing_left(engine, running, "full")
    assert not list(small.rglob("*state*"))
