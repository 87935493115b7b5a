"""VMs on storages that share blocks: a real worker, a real QEMU, BTRFS in a file mounted by a loop device.

Where this machine mounts nothing the same is done on a plain folder, whose raw disks have no snapshots.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clonekit import clone, made
from enginekit import Engine, until
from faultkit import deaths
from guestkit import grounds
from snapkit import ask as qmp
from snapkit import lines
from storagekit import BASE, paint, painted

from vms.errors import ConfigErrors
from vms.models import VM, Storage, StorageStatus, Volume
from vms.operations.base import submit_on


@pytest.fixture(scope="module")
def fast_folder() -> Iterator[tuple[str, bool]]:
    """A folder that shares blocks, and whether it really does."""
    with grounds.folder() as folder, grounds.mounted("btrfs", folder) as place:
        root = place or folder / "plain"
        root.mkdir(exist_ok=True)
        root.chmod(0o711)
        yield str(root), place is not None


@pytest.fixture
def fast(engine: Engine, fast_folder: tuple[str, bool]) -> Storage:
    path, shares = fast_folder
    kind = "btrfs" if shares else "dir"
    row = {"kind": kind, "path": path, "content": ["images", "iso"]}
    return Storage.objects.update_or_create(name="fast", defaults=row)[0]


def test_a_life_on_a_file_system_that_shares_blocks(engine: Engine, fast: Storage) -> None:
    """Created, snapshot and copied while it runs, taken back, a template with both kinds of clones."""
    shares = fast.kind == "btrfs"
    raw = {"scsi1": "fast:0.125,format=raw"} if shares else {}
    vm = engine.draft(BASE | {"scsi0": "fast:0.0625,format=qcow2"} | raw, 100)
    engine.do("qmcreate", vm, 60)
    paint(engine, vm, 1)
    engine.do("qmstart", vm, 60)
    if shares:
        copied = clone(engine, vm, 101)
        assert painted(made(engine, copied)) == {1}
        assert "copied by sharing blocks" in lines(copied)
        assert vm.status == "prelaunch"
    task = engine.do("qmsnapshot", vm, snapname="one")
    assert vm.status == "prelaunch"
    assert ("the guest stood still" in lines(task)) == shares
    paint(engine, vm, 2)
    then = made(engine, clone(engine, vm, 102, snapname="one", full="1"))
    assert painted(then) == {1}
    engine.do("qmrollback", vm, snapname="one")
    assert painted(vm) == {1}
    engine.do("qmdelsnapshot", vm, snapname="one")
    engine.do("qmtemplate", vm)
    linked = made(engine, clone(engine, vm, 104, full="0"))
    assert painted(linked) == {1}
    engine.do("qmstart", linked, 60)
    engine.do("qmstop", linked)
    for one in VM.objects.order_by("template", "vmid"):
        assert engine.end(engine.submit("qmdestroy", one, now="1")).status == "ok"
    assert not Volume.objects.filter(storage=fast).exists()


def test_killed_while_it_is_copied_by_sharing_blocks(engine: Engine, fast: Storage, tmp_path: Path) -> None:
    """The source goes on, also where it stood still for the copy; of the clone there is all or nothing."""
    runs = {key: text for key, text in BASE.items() if key != "freeze"}
    vm = engine.draft(runs | {"scsi0": "fast:0.0625,format=qcow2"}, 100)
    engine.do("qmcreate", vm, 60)
    engine.do("qmstart", vm, 60)
    copied = ("still", "scsi0 copied")
    if fast.kind != "btrfs":
        copied = ("scsi0 made", "scsi0 mirrored", "still", "cut loose")
    ask = lambda: clone(engine, vm, 101)  # noqa: E731
    names = ("source read", *copied, "defined")
    for border, task in deaths(engine, "qmclone", names, tmp_path / "steps", ask):
        engine.status(vm, "running")
        assert qmp(engine, 100, "query-status")["status"] == "running", border
        if border == "defined":
            assert task.status == "ok", task.message
            removed = engine.submit("qmdestroy", VM.objects.get(vmid=101), now="1")
            assert engine.end(removed).status == "ok"
        else:
            assert "Nothing of it is left" in task.message, border
        assert [one.vmid for one in VM.everything.all()] == [100], border
        rows = Volume.objects.filter(storage=fast, vmid=101)
        until(lambda: not rows.exists(), f"no row is left: {border}")
        assert not list(Path(fast.path).rglob("*vm-101-*")), border


def test_a_storage_that_is_no_mount_point_is_never_written_to(engine: Engine) -> None:
    folder = engine.home / "unmounted"
    folder.mkdir()
    row = Storage.objects.create(name="nas", kind="nfs", path=str(folder), content=["images"])
    engine.end(submit_on("storagescan", node=engine.node, user=None, params={"storage": "nas"}))
    status = StorageStatus.objects.get(storage=row)
    assert "is no mount point" in status.error
    vm = engine.draft(BASE | {"scsi0": "nas:0.0625"}, 100)
    task = engine.end(engine.submit("qmcreate", vm))
    assert task.status == "error"
    assert "is no mount point" in task.message
    assert list(folder.iterdir()) == []
    Storage.objects.filter(pk=row.pk).update(enabled=False)
    with pytest.raises(ConfigErrors, match="is switched off"):
        engine.submit("qmcreate", vm)
