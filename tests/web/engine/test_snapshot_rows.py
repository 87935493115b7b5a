"""Snapshots as rows and as text: the tree, what a rollback would make of a VM, where its memory would go."""

from __future__ import annotations

from typing import Any

import pytest

from vms.config import conffile
from vms.errors import ConfigError, StateError
from vms.models import VM, Disk, Snapshot, Storage, Volume
from vms.models.configuration import config_of
from vms.operations import mirror, saving
from vms.operations.rollback import changed_since, mapping_after
from vms.operations.snapdisks import held_by, refusals
from vms.operations.snaprows import forget, tree_of
from vms.operations.volumes import snapshots_with

pytestmark = pytest.mark.django_db
GIB = 1 << 30


def volume(storage: Storage, vm: VM, name: str, **more: Any) -> Volume:
    values = {"content": "images", "format": name.rpartition(".")[2], "size": GIB, "vmid": vm.vmid, **more}
    return Volume.objects.create(storage=storage, node=vm.node, name=f"{vm.vmid}/{name}", **values)


def plug(vm: VM, slot: str, row: Volume, **more: Any) -> None:
    Disk.objects.create(vm=vm, slot=slot, volume=row, storage=row.storage, size=row.size, **more)


def test_the_text_file_holds_them_and_reads_back(make_vm: Any, storage: Storage) -> None:
    vm = make_vm(name="web", lock="suspended")
    state = volume(storage, vm, "vm-100-state-ram.raw")
    asleep = volume(storage, vm, "vm-100-state-suspend-2026-01-01.raw")
    one = Snapshot.objects.create(vm=vm, name="one", description="first\n100 %", config={"memory": "512"})
    Snapshot.objects.create(
        vm=vm, name="ram", parent=one, config={"memory": "1024"}, vmstate=state,
        running={"runningmachine": "pc-q35-7.2", "runningcpu": "qemu64,+aes", "tpmstate0": "local:x"},
    )  # fmt: skip
    Snapshot.objects.create(vm=vm, name="half", config={}, state="prepare", running={"was": "running"})
    VM.everything.filter(pk=vm.pk).update(
        parent=one, vmstate=asleep, saved={"runningmachine": "pc-i440fx-7.2", "was": "running"}
    )
    text = mirror.text_of(mirror.whole(VM.everything.filter(pk=vm.pk)).get())
    found = conffile.parse(text)
    assert found.warnings == []
    assert found.main["lock"] == "suspended"
    assert found.main["parent"] == "one"
    assert found.main["vmstate"] == asleep.volid
    assert found.main["runningmachine"] == "pc-i440fx-7.2"
    first = found.snapshots["one"]
    assert (first.description, first.values["memory"]) == ("first\n100 %", "512")
    ram = dict(found.snapshots["ram"].values)
    assert ram.pop("snaptime").isdigit()
    assert ram == {
        "memory": "1024", "parent": "one", "vmstate": state.volid, "runningmachine": "pc-q35-7.2",
        "runningcpu": "qemu64,+aes",
    }  # fmt: skip
    assert found.snapshots["half"].values["snapstate"] == "prepare"
    assert conffile.format(found) == text


def test_children_become_their_grandparents(make_vm: Any, storage: Storage) -> None:
    vm = make_vm()
    one = Snapshot.objects.create(vm=vm, name="one")
    state = volume(storage, vm, "vm-100-state-two.raw")
    two = Snapshot.objects.create(vm=vm, name="two", parent=one, vmstate=state)
    Snapshot.objects.create(vm=vm, name="three", parent=two)
    VM.everything.filter(pk=vm.pk).update(parent=two)
    forget(vm, two)
    vm.refresh_from_db()
    assert [(entry.name, entry.parent, entry.depth) for entry in tree_of(vm)] == [
        ("one", "", 0), ("three", "one", 1), ("current", "one", 1),
    ]  # fmt: skip
    assert not Volume.objects.exists()
    forget(vm, two)  # twice is once


def test_what_a_rollback_makes_of_it(make_vm: Any, storage: Storage) -> None:
    """Notes and detached disks stay, younger disks are detached, a lost medium leaves its drive empty."""
    vm = make_vm(config={"description": "now", "vmgenid": "11111111-1111-4111-8111-111111111111"})
    old, gone, new = (volume(storage, vm, f"vm-100-disk-{number}.qcow2") for number in range(3))
    plug(vm, "scsi0", old)
    plug(vm, "unused0", gone)
    plug(vm, "scsi1", new)
    made = Snapshot.objects.create(
        vm=vm, name="one",
        config={
            "memory": "256", "scsi0": f"{old.volid},size=1G", "virtio3": f"{gone.volid},size=1G",
            "ide2": "local:iso/gone.iso,media=cdrom", "vmgenid": "22222222-2222-4222-8222-222222222222",
        },
    )  # fmt: skip
    after, warnings = mapping_after(vm, made)
    genid = after.pop("vmgenid")
    assert genid not in (config_of(vm)["vmgenid"], made.config["vmgenid"])
    assert after == {
        "description": "now", "memory": "256", "scsi0": f"{old.volid},size=1G",
        "virtio3": f"{gone.volid},size=1G", "unused0": new.volid, "ide2": "none,media=cdrom",
    }  # fmt: skip
    assert warnings == ["ide2: 'local:iso/gone.iso' no longer exists; the drive is empty"]
    assert {key for key, _, _ in changed_since(vm, made)} >= {"scsi1", "virtio3", "ide2"}
    assert snapshots_with(gone) == ["one of VM 100"]
    assert snapshots_with(new) == []


def test_disks_and_why_not(make_vm: Any, storage: Storage) -> None:
    vm = make_vm()
    plug(vm, "scsi0", volume(storage, vm, "vm-100-disk-0.qcow2"))
    plug(vm, "scsi1", volume(storage, vm, "vm-100-disk-1.raw"))
    plug(vm, "tpmstate0", volume(storage, vm, "vm-100-disk-2.raw"))
    plug(vm, "ide2", volume(storage, vm, "vm-100-cloudinit.qcow2"), media="cdrom")
    plug(vm, "unused0", volume(storage, vm, "vm-100-disk-3.raw"))
    assert [held.key for held in held_by(vm, config_of(vm))] == ["scsi0", "scsi1", "tpmstate0"]
    assert list(refusals(vm)) == ["scsi1"]
    Volume.objects.filter(name__endswith="disk-0.qcow2").update(present=False)
    with pytest.raises(StateError, match=r"scsi0: volume 'local:100/.*' does not exist"):
        held_by(vm, config_of(vm))


def test_where_memory_goes_and_how_much_it_is(make_vm: Any, storage: Storage) -> None:
    vm = make_vm()
    mine = Storage.objects.create(name="mine", path="/nowhere")
    shared = Storage.objects.create(name="together", path="/elsewhere", shared=True)
    assert saving.choose_storage(vm, {}).name == "local"
    plug(vm, "scsi0", volume(mine, vm, "vm-100-disk-0.qcow2"))
    assert saving.choose_storage(vm, {}) == mine
    plug(vm, "scsi1", volume(shared, vm, "vm-100-disk-1.qcow2"))
    assert saving.choose_storage(vm, {}) == shared
    assert saving.choose_storage(vm, {"vmstatestorage": "local"}).name == "local"
    assert saving.choose_storage(vm, {"vmstatestorage": "local"}, "mine") == mine
    Storage.objects.filter(pk=mine.pk).update(enabled=False)
    with pytest.raises(ConfigError, match="storage 'mine' is switched off"):
        saving.choose_storage(vm, {}, "mine")
    small, large = saving.room_for({"memory": "512"}), saving.room_for({"memory": "4096", "vga": "qxl2"})
    assert 512 << 20 < small < 700 << 20
    assert 4096 << 20 < large < 4500 << 20
