"""In place over a VM that has snapshots: they go with the disks they are of, and not a moment earlier."""

from __future__ import annotations

import signal

from diskkit import CONFIG, config, created, holds_pattern, lines
from enginekit import Engine
from restorekit import backup, disks, done, drives, holds, nothing_left, restore
from snapkit import inside_disk, tree

from vms.models import VM, Snapshot, Volume
from vms.operations.base import submit_on

BORDERS = (
    "noted",
    "scsi0 made",
    "virtio1 made",
    "written",
    "defined",
    "old volume freed",
    "snapshot removed",
)


def photographed(engine: Engine, vmid: int) -> VM:
    """A VM with two snapshots of a disk the backup replaces and of one it does not know."""
    vm = created(engine, vmid, scsi5="local:0.01,format=qcow2")
    for name in ("one", "two"):
        engine.do("qmsnapshot", vm, snapname=name)
    return vm


def gone(engine: Engine, vm: VM) -> None:
    """The VM is the restored one, without a snapshot; what the backup does not know stays as it was."""
    vm.refresh_from_db()
    holds(vm, disks())
    assert tree(vm) == {"": ""}
    assert (vm.lock, vm.draft) == ("", {})
    name = drives(vm)["unused0"].partition(":")[2]
    assert name.endswith("disk-1.qcow2")
    assert engine.images() == sorted(volid.partition(":")[2] for volid in drives(vm).values())
    assert inside_disk(engine, vm)["scsi0"] == []
    nothing_left(engine)


def test_memory_and_what_only_a_snapshot_knows(engine: Engine) -> None:
    archive = backup(engine)
    vm = engine.draft(CONFIG | {"freeze": "1", "scsi5": "local:0.01,format=qcow2"}, 101)
    engine.do("qmcreate", vm)
    engine.do("qmstart", vm)
    engine.do("qmsnapshot", vm, snapname="ram", vmstate="1")
    engine.do("qmstop", vm)
    ask = {"storage": "local", "vmid": "101", "size": "4M", "filename": "vm-101-disk-9.raw"}
    assert engine.end(submit_on("imgalloc", node=engine.node, user=None, params=ask)).status == "ok"
    row = Snapshot.objects.get(vm=vm)
    Snapshot.objects.filter(pk=row.pk).update(config=row.config | {"scsi7": "local:101/vm-101-disk-9.raw"})
    assert row.vmstate is not None
    before = drives(vm)
    task = restore(engine, archive, force="1")
    vm = done(engine, task)
    assert "the VM's snapshots will be removed with the disks they are of: ram" in lines(task)
    assert "removed snapshot 'ram' of" in lines(task)
    found = drives(vm)
    assert found["unused0"] == before["scsi5"]
    assert found["unused1"] == "local:101/vm-101-disk-9.raw"
    assert not Volume.objects.filter(pk=row.vmstate_id).exists()
    assert len(engine.images()) == 4, engine.images()
    assert holds(vm, disks()) is None
    engine.do("qmstart", vm)
    engine.do("qmstop", vm)


def test_killed_on_the_way(engine: Engine) -> None:
    archive = backup(engine)
    for vmid, border in enumerate(("written", "defined", "snapshot removed"), 130):
        vm = photographed(engine, vmid)
        before = config(vm)
        engine.stop()
        engine.start(PVELITE_FAULT=f"qmrestore:{BORDERS.index(border) + 1}")
        task = restore(engine, archive, vmid, unique="1", force="1")
        assert engine.process is not None
        assert engine.process.wait(60) == -signal.SIGKILL, border
        engine.process = None
        engine.start()
        engine.end(task, 60)
        if border != "written":
            assert task.status == "ok", task.message
            gone(engine, vm)
            assert engine.end(engine.submit("qmdestroy", vm, now="1")).status == "ok"
            continue
        assert "It is as it was" in task.message
        assert config(vm) == before
        assert tree(vm) == {"one": "", "two": "one", "": "two"}
        engine.do("qmrollback", vm, snapname="two")
        assert holds_pattern(drives(vm)["scsi0"])
        assert inside_disk(engine, vm) == {"scsi0": ["one", "two"], "scsi5": ["one", "two"]}
        assert engine.end(engine.submit("qmdestroy", vm, now="1")).status == "ok"
