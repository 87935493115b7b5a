"""Snapshots through the real worker: what was there comes back, with all that belongs to it."""

from __future__ import annotations

import pytest
from clonekit import clone as ask_clone
from clonekit import made as cloned
from django.contrib.auth import get_user_model
from enginekit import Engine
from snapkit import DISKS, SECURE, config, inside_disk, lines, paint, painted, tree

from vms.errors import ConfigError, StateError
from vms.models import VM, Snapshot, Volume
from vms.operations.clone import clone as new_clone
from vms.operations.configure import change
from vms.operations.protection import note_guard, said_of


def made(engine: Engine, more: dict[str, str] | None = None) -> VM:
    vm = engine.draft(DISKS | (more or {}), 100)
    engine.do("qmcreate", vm, 60)
    return vm


def test_disks_come_back_running_and_off(engine: Engine) -> None:
    """One pattern before each snapshot, another after; the tree, the texts, the disks younger than it."""
    vm = made(engine)
    paint(engine, vm, 1)
    engine.do("qmsnapshot", vm, snapname="cold", description="before\nall: 100 %")
    engine.do("qmstart", vm)
    paint(engine, vm, 2)
    task = engine.do("qmsnapshot", vm, snapname="hot")
    assert "disks: scsi0, virtio1" in lines(task)
    paint(engine, vm, 3)
    assert inside_disk(engine, vm) == {"scsi0": ["cold", "hot"], "virtio1": ["cold", "hot"]}
    assert tree(vm) == {"cold": "", "hot": "cold", "": "hot"}
    text = (engine.home / "nodes" / "pve1" / "qemu-server" / "100.conf").read_text()
    assert "\nparent: hot\n" in text
    assert "[cold]\n#before\n#all%3A 100 %25\n" in text
    assert "\nsnaptime: " in text
    before = config(vm)["vmgenid"]
    assert before != "1"
    engine.do("qmrollback", vm, snapname="hot", start="1")
    assert vm.status == "prelaunch"
    assert painted(engine, vm) == {2}
    assert config(vm)["vmgenid"] != before
    engine.do("qmrollback", vm, snapname="cold")
    assert vm.status == "stopped"
    assert painted(engine, vm) == {1}
    assert tree(vm) == {"cold": "", "hot": "cold", "": "cold"}
    engine.do("qmrollback", vm, snapname="hot")
    assert painted(engine, vm) == {2}


def test_the_configuration_comes_back(engine: Engine) -> None:
    """All of it but the notes and detached disks; what is younger is kept aside."""
    from vms.operations.configure import change

    vm = made(engine, {"description": "first"})
    engine.do("qmsnapshot", vm, snapname="one")
    wish = {"scsi5": "local:0.0625", "cores": "2", "description": "second", "name": "renamed"}
    assert engine.end(change(vm, None, set=wish, delete=["virtio1"])).status == "ok"
    younger = config(vm)["scsi5"].split(",")[0]
    assert "virtio1" not in config(vm)
    engine.do("qmrollback", vm, snapname="one")
    after = config(vm)
    assert (after["name"], after["description"], after.get("cores")) == ("disks", "second", None)
    assert after["unused0"] == younger
    assert after["virtio1"].startswith("local:100/vm-100-disk-1.qcow2")
    assert not [key for key in after if key.startswith("unused") and key != "unused0"]


def clone(engine: Engine, vm: VM, **params: str) -> VM:
    return cloned(engine, ask_clone(engine, vm, **params))


def test_firmware_and_tpm_go_along(engine: Engine) -> None:
    """EFI variables are one more qcow2; the TPM's file is copied while its guest stands still."""
    vm = made(engine, SECURE)
    engine.do("qmstart", vm, 60)
    paint(engine, vm, 1)
    tpm = engine.home / "local" / "images" / config(vm)["tpmstate0"].split(",")[0].partition(":")[2]
    state = tpm.read_bytes()
    engine.do("qmsnapshot", vm, snapname="one")
    assert vm.status == "prelaunch"
    assert inside_disk(engine, vm) == {"efidisk0": ["one"], "scsi0": ["one"], "virtio1": ["one"]}
    copy = Snapshot.objects.get(vm=vm).running["tpmstate0"]
    assert copy == "local:100/vm-100-state-one.tpm.raw"
    paint(engine, vm, 2)
    engine.do("qmstop", vm)
    tpm.write_bytes(b"\1" * len(state))
    engine.do("qmrollback", vm, snapname="one")
    assert painted(engine, vm) == {1}
    assert tpm.read_bytes() == state
    tpm.write_bytes(b"\1" * len(state))
    twin = clone(engine, vm, snapname="one", full="1")
    copied = engine.home / "local" / "images" / config(twin)["tpmstate0"].split(",")[0].partition(":")[2]
    assert copied.read_bytes() == state
    assert painted(engine, twin) == {1}
    assert engine.end(engine.submit("qmdestroy", twin, now="1")).status == "ok"
    tpm.write_bytes(state)
    engine.do("qmstart", vm, 60)
    engine.do("qmdelsnapshot", vm, snapname="one")
    assert inside_disk(engine, vm) == {"efidisk0": [], "scsi0": [], "virtio1": []}
    assert not any("state" in name for name in engine.images())
    assert not Volume.objects.filter(name__contains="state").exists()


def test_a_middle_snapshot_is_deleted(engine: Engine) -> None:
    """Its children become its parent's; going back to the others still works."""
    from vms.operations.configure import change

    vm = made(engine)
    for number, name in enumerate(("one", "two", "three"), 1):
        paint(engine, vm, number)
        engine.do("qmsnapshot", vm, snapname=name)
    swapped = config(vm)
    wish = {"scsi4": swapped["scsi0"].split(",")[0]}
    assert engine.end(change(vm, None, set=wish, delete=["scsi0"])).status == "ok"
    engine.do("qmstart", vm)
    engine.do("qmdelsnapshot", vm, snapname="two")  # the disk is open under another key by now
    assert tree(vm) == {"one": "", "three": "one", "": "three"}
    assert inside_disk(engine, vm) == {"scsi4": ["one", "three"], "virtio1": ["one", "three"]}
    engine.do("qmdelsnapshot", vm, snapname="three")
    assert tree(vm) == {"one": "", "": "one"}
    engine.do("qmrollback", vm, snapname="one")
    assert painted(engine, vm) == {1}


def test_refused_with_the_reason(engine: Engine) -> None:
    vm = made(engine, {"scsi1": "local:0.0625,format=raw"})
    with pytest.raises(StateError, match=r"not available\. scsi1: .* is raw"):
        engine.submit("qmsnapshot", vm, snapname="one")
    vm = engine.vm({"name": "bare", "memory": "16"}, 101)
    for name in ("1st", "x", "a b", "x" * 41):
        with pytest.raises(ConfigError, match=r"is no name for a snapshot|at most 40"):
            engine.submit("qmsnapshot", vm, snapname=name)
    for name in ("current", "pending"):
        with pytest.raises(ConfigError, match="is taken"):
            engine.submit("qmsnapshot", vm, snapname=name)
    engine.do("qmsnapshot", vm, snapname="one")
    with pytest.raises(ConfigError, match="snapshot name 'one' already used"):
        engine.submit("qmsnapshot", vm, snapname="one")
    with pytest.raises(StateError, match="snapshot 'two' does not exist"):
        engine.submit("qmdelsnapshot", vm, snapname="two")
    Snapshot.objects.update(state="prepare")
    with pytest.raises(StateError, match=r"incomplete snapshot \(snapstate = prepare\)"):
        engine.submit("qmrollback", vm, snapname="one")
    VM.everything.filter(pk=vm.pk).update(template=True)
    with pytest.raises(StateError, match="you can't take a snapshot if it's a template"):
        engine.submit("qmsnapshot", vm, snapname="two")


def test_protection_that_comes_back_or_is_copied(engine: Engine) -> None:
    """It is somebody's, and the words say where it comes from; what was there already stays as it is."""
    anna = get_user_model().objects.create_superuser("anna")
    try:
        vm = engine.vm({"name": "safe", "memory": "32"}, 100)
        change(vm, None, set={"protection": "1"}, by="bert")
        engine.do("qmsnapshot", vm, snapname="one")
        engine.end(engine.submit("qmrollback", vm, anna, snapname="one"))
        assert said(vm).startswith("Protected by bert since ")
        assert said(cloned(engine, new_clone(vm, anna, newid=101))).startswith("Protected by anna since ")
        assert said(VM.objects.get(vmid=101)).endswith(", taken over from VM 100; no reason was given.")
        change(vm, None, set={"protection": "0"})
        engine.end(engine.submit("qmrollback", vm, anna, snapname="one"))
        assert said(vm).startswith("Protected by anna since ")
        assert said(vm).endswith(", as it was at snapshot 'one'; no reason was given.")
        change(vm, None, set={"protection": "0"})
        engine.do("qmrollback", vm, snapname="one")
        assert said(vm).startswith("Protected since "), "nobody in particular went back"
        assert said(vm).endswith(", as it was at snapshot 'one'; no reason was given.")
        note_guard(vm, "carl", "the shop")
        assert said(vm).endswith(": the shop.")
        assert "snapshot" not in said(vm)
    finally:
        anna.delete()


def said(vm: VM) -> str:
    return said_of(VM.objects.get(pk=vm.pk))
