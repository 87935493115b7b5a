"""Templates and clones through the real worker: what is shared, what is new, what is never lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clonekit import CONFIG, clone, config, died, dies, files, made, read, removed, write
from enginekit import Engine, until
from faultkit import borders, deaths

from vms.errors import StateError

if TYPE_CHECKING:
    from vms.models import VM, Storage, Task


@pytest.fixture
def source(engine: Engine) -> VM:
    """VM 900 with two small disks that hold something."""
    vm = engine.draft(CONFIG, vmid=900)
    engine.do("qmcreate", vm)
    write(engine, "900/vm-900-disk-1.raw", b"pattern" * 4096)
    return vm


@pytest.fixture
def template(engine: Engine, source: VM) -> VM:
    engine.do("qmtemplate", source)
    return source


def test_a_template_and_its_linked_clones(engine: Engine, template: VM) -> None:
    """Bases nobody may write; clones that share them, start at once and are all different."""
    from vms.models import Volume

    assert template.template
    assert files(engine) == ["900/base-900-disk-0.qcow2", "900/base-900-disk-1.raw"]
    for name in files(engine):
        assert (engine.home / "local" / "images" / name).stat().st_mode & 0o222 == 0
    assert config(template)["scsi0"] == "local:900/base-900-disk-0.qcow2,discard=on,size=64M"
    alone = made(engine, clone(engine, template, 150, storage="local", full="1"))
    vms = [made(engine, task) for task in [clone(engine, template, 101 + n, start="1") for n in range(3)]]
    for vm in vms:
        engine.status(vm, "running")
        mine = config(vm)
        assert mine["scsi0"].startswith(
            f"local:900/base-900-disk-0.qcow2/{vm.vmid}/vm-{vm.vmid}-disk-0.qcow2,"
        )
        assert mine["name"] == "Copy-of-VM-golden"
        assert "template" not in mine
    assert len({config(vm)["net0"] for vm in [*vms, template]}) == 4
    assert len({config(vm)["smbios1"] for vm in [*vms, template]}) == 4
    assert len({config(vm)["vmgenid"] for vm in [*vms, template]}) == 4
    assert Volume.objects.filter(base__name="900/base-900-disk-0.qcow2").count() == 3
    for vm in vms:
        engine.do("qmstop", vm)
    with pytest.raises(StateError, match=r"base volume 'local:900/base-900-.*' is still in use by linked"):
        engine.submit("qmdestroy", template)
    for vm in [*vms, alone]:
        engine.end(engine.submit("qmdestroy", vm, now="1"))
    assert engine.end(engine.submit("qmdestroy", template, now="1")).status == "ok"
    assert files(engine) == []


def test_what_a_template_refuses(engine: Engine, template: VM) -> None:
    refusals = {"qmstart": "you can't start a vm if it's a template", "qmtemplate": "to a template"}
    for verb, words in refusals.items():
        with pytest.raises(StateError, match=words):
            engine.submit(verb, template)


def test_full_clones_stand_alone(engine: Engine, source: VM) -> None:
    """Of a VM that is off: every byte, other formats, and no tie to the source."""
    vm = made(engine, clone(engine, source, name="twin", description="line one\nline two, 100 %"))
    assert files(engine) == [
        "101/vm-101-disk-0.qcow2",
        "101/vm-101-disk-1.raw",
        "900/vm-900-disk-0.qcow2",
        "900/vm-900-disk-1.raw",
    ]
    assert read(engine, "101/vm-101-disk-1.raw") == b"pattern" * 4096
    assert config(vm)["description"] == "line one\nline two, 100 %"
    assert config(vm)["scsi1"] == "local:101/vm-101-disk-1.raw,size=32M"
    other = made(engine, clone(engine, source, 102, format="qcow2"))
    assert config(other)["scsi1"] == "local:102/vm-102-disk-1.qcow2,size=32M"
    engine.end(engine.submit("qmdestroy", source, now="1"))
    engine.do("qmstart", vm)


def test_of_a_snapshot(engine: Engine, source: VM) -> None:
    """What the disk was then, also while the VM runs; the snapshot stays where it is."""
    disk = engine.home / "local" / "images" / "900" / "vm-900-disk-0.qcow2"

    def fill(byte: int) -> None:
        words = ["qemu-io", "-f", "qcow2", "-c", f"write -q -P {byte} 0 1M", disk]
        subprocess.run(words, check=True)

    engine.do("qmconfig", source, delete="scsi1")
    fill(65)
    engine.do("qmsnapshot", source, snapname="before")
    fill(66)
    now = made(engine, clone(engine, source, format="raw"))
    then = made(engine, clone(engine, source, 102, format="raw", snapname="before"))
    engine.do("qmstart", source)
    live = made(engine, clone(engine, source, 103, format="raw", snapname="before"))
    for vm, byte in ((now, b"B"), (then, b"A"), (live, b"A")):
        assert read(engine, f"{vm.vmid}/vm-{vm.vmid}-disk-0.raw", 4) == byte * 4
        assert not vm.snapshots.exists()
        assert vm.parent is None


def test_what_cannot_be_cloned(engine: Engine, source: VM) -> None:
    """Refused at once, with nothing reserved."""
    from vms.errors import VMError
    from vms.models import VM

    for params, words in (
        (
            {"full": "0"},
            r"Linked clone feature is not supported for 'local:900/vm-900-disk-0.qcow2' \(scsi0\)",
        ),
        ({"full": "0", "storage": "local"}, "parameter 'storage' not allowed for linked clones"),
        ({"snapname": "nosuch"}, "snapshot 'nosuch' does not exist"),
        ({"storage": "nosuch"}, "storage 'nosuch' does not exist"),
        ({"target": "nosuch"}, "there is no node 'nosuch'"),
        ({"name": "-bad-"}, "name"),
    ):
        with pytest.raises(VMError, match=words):
            clone(engine, source, **params)
    with pytest.raises(VMError, match="VM 900 already exists; the next free ID is 100"):
        clone(engine, source, 900)
    assert list(VM.everything.values_list("vmid", flat=True)) == [900]


@pytest.fixture
def small(engine: Engine) -> Iterator[Storage]:
    """A storage with room for 6 MiB."""
    from vms.models import Storage
    from vms.operations.base import submit_on

    folder = engine.home / "small"
    folder.mkdir(mode=0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70m,mode=711", "tmpfs", folder], check=True)
    row = Storage.objects.create(name="small", path=str(folder / "store"))
    engine.end(submit_on("storagescan", node=engine.node, user=None, params={"storage": "small"}))
    yield row
    volumes_on(row).delete()
    row.delete()
    subprocess.run(["umount", folder], check=True)


def volumes_on(storage: Storage) -> Any:
    from vms.models import Volume

    return Volume.objects.filter(storage=storage)


def test_a_full_storage_leaves_nothing(engine: Engine, source: VM, small: Storage) -> None:
    """No room at all, and none any more in the middle: the number is free again, the source as it was."""
    from vms.models import VM

    folder = engine.home / "local" / "images" / "900"
    plain = engine.home / "plain.raw"
    plain.write_bytes(bytes(range(1, 256)) * (80 << 12))
    # Compressed, it takes a twentieth of what its copy will.
    disk = folder / "vm-900-disk-0.qcow2"
    subprocess.run(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", plain, disk], check=True)
    before = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
    task = engine.end(clone(engine, source, storage="small"), 60)
    assert task.status == "error"
    assert task.message.startswith("clone failed: scsi0: ")
    assert "No space left on device" in task.message
    write(engine, "900/vm-900-disk-1.raw", os.urandom(20 << 20))
    task = engine.end(clone(engine, source, storage="small"), 60)
    assert "storage 'small' has no room" in task.message
    assert not list((engine.home / "small").rglob("*101*"))
    assert (folder / "vm-900-disk-0.qcow2").read_bytes() == before["vm-900-disk-0.qcow2"]
    assert list(VM.everything.values_list("vmid", flat=True)) == [900]
    made(engine, clone(engine, source))


def test_cancelled_in_the_middle(engine: Engine, source: VM) -> None:
    """Before it begins and while it copies: nothing is left."""
    from vms.models import VM
    from vms.tasks import queue

    write(engine, "900/vm-900-disk-1.raw", os.urandom(30 << 20))
    engine.stop()
    first, second = clone(engine, source), clone(engine, source, 102, format="qcow2")
    queue.request_cancel(first)
    engine.start()
    until(lambda: copying(second), "the copy is under way")
    queue.request_cancel(second)
    for task in (first, second):
        assert engine.end(task).status in ("cancelled", "ok")
    left = [102] if second.status == "ok" else []
    assert list(VM.everything.order_by("vmid").values_list("vmid", flat=True)) == [*left, 900]
    assert len(files(engine)) == 2 + 2 * len(left)


def copying(task: Task) -> bool:
    task.refresh_from_db()
    return bool(task.finished or task.progress)


def test_killed_while_it_becomes_a_template(engine: Engine, source: VM) -> None:
    """At both borders, the second time while it settles the first: in the end it is one, all of it."""
    dies(engine, "qmtemplate:1")
    task = engine.submit("qmtemplate", source)
    died(engine)
    assert files(engine) == ["900/base-900-disk-0.qcow2", "900/vm-900-disk-1.raw"]
    engine.launch(PVELITE_FAULT="qmtemplate:2")
    died(engine)
    engine.start()
    assert engine.end(task).status == "ok", task.message
    source.refresh_from_db()
    assert source.template
    assert files(engine) == ["900/base-900-disk-0.qcow2", "900/base-900-disk-1.raw"]
    full = made(engine, clone(engine, source, full="1"))
    assert borders(engine, "qmtemplate", full) == ["scsi0 is a base", "scsi1 is a base"]


@pytest.mark.parametrize(
    ("params", "steps"),
    [
        ({"start": "1"}, ("scsi0 made", "scsi1 made", "runs")),
        ({"full": "1"}, ("scsi0 copied", "scsi1 copied")),
    ],
)
def test_killed_while_it_is_cloned(
    engine: Engine, template: VM, tmp_path: Path, params: dict[str, str], steps: tuple[str, ...]
) -> None:
    """Before it is a VM nothing is left of it; afterwards it is one."""
    from vms.models import VM

    bases, names = files(engine), ("source read", *steps, "defined")
    ask = lambda: clone(engine, template, **params)  # noqa: E731
    for border, task in deaths(engine, "qmclone", names, tmp_path / "steps", ask):
        if border == "defined":
            assert task.status == "ok", task.message
            vm = VM.objects.get(vmid=101)
            assert vm.status == ("running" if "start" in params else "stopped")
            if "full" in params:
                engine.do("qmstart", vm)
            removed(engine, vm)
        else:
            assert (task.status, files(engine), engine.qemus()) == ("error", bases, {}), border
            assert "Nothing of it is left" in task.message
            assert list(VM.everything.values_list("vmid", flat=True)) == [900]
