"""What a restore makes of a configuration that may be anybody's, and what it asks of who restores."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "backup"))
from archivekit import manifest_of

from vms.errors import AccessError, ConfigError, ConfigErrors, StateError, VMError
from vms.models import VM, Nic, Storage, Volume
from vms.operations.base import parse_params
from vms.operations.restore import RestoreParams
from vms.operations.restoreplan import Plan, authorise, plan_of

pytestmark = pytest.mark.django_db

BASE = "name: x\nmemory: 64\nboot: order=scsi0\nscsi0: local:101/vm-101-disk-0.qcow2,discard=on,size=8K\n"
TWICE = "net0: virtio=BC:24:11:00:00:01\nnet1: virtio=BC:24:11:00:00:01\n"
FORMATS = {"local": ("qcow2", "raw"), "thin": ("raw",)}


@pytest.fixture
def draft(make_vm: Callable[..., VM]) -> VM:
    return make_vm(104, {}, stage="draft")


def plan(vm: VM, conf: str | bytes, disks: dict[str, int] | None = None, **params: str) -> Plan:
    text = conf if isinstance(conf, bytes) else conf.encode()
    parsed = parse_params(RestoreParams, {"archive": "local:backup/x", **params})
    held = {"scsi0.raw": 8192} if disks is None else disks
    return plan_of(vm, manifest_of(held), text, parsed, FORMATS)


def test_what_belongs_to_the_moment_or_to_others_is_left_out(draft: VM) -> None:
    conf = BASE.replace("order=scsi0", "order=scsi0;scsi1") + (
        "lock: backup\nparent: before\nvmstate: local:101/vm-101-state-x.raw\ndigest: 12\nsmp: 2\n"
        "unused0: local:103/vm-103-disk-0.qcow2\nscsi1: local:103/vm-103-disk-1.qcow2,size=1G\n"
        "ide2: local:iso/gone.iso,media=cdrom\nnonsense: 1\nvmgenid: 0b0f5f5e-36b1-4c54-9b87-1f6d2a4d9c01\n"
        "[PENDING]\nargs: -device evil\n[before]\nargs: -device evil\nsnaptime: 1\n"
        "[special:cloudinit]\nname: y\n"
    )  # fmt: skip
    made = plan(draft, conf)
    assert set(made.mapping) == {
        "name",
        "memory",
        "boot",
        "scsi0",
        "ide2",
        "vmgenid",
        "sockets",
        "description",
    }
    assert made.mapping["boot"] == "order=scsi0"
    assert made.mapping["ide2"] == "none,media=cdrom"
    assert made.mapping["vmgenid"] != "0b0f5f5e-36b1-4c54-9b87-1f6d2a4d9c01"
    assert "`scsi1: local:103/vm-103-disk-1.qcow2,size=1G`" in made.mapping["description"]
    assert made.kept == {"nonsense": "1", "digest": "12"}
    assert len(made.warnings) == 2


def test_a_drive_gets_its_own_volume_whatever_it_names(draft: VM) -> None:
    for head in (
        "local:103/vm-103-disk-0.qcow2",
        "file=local:101/x.qcow2",
        "/etc/shadow",
        "gone:1/vm-1-disk-0",
    ):
        made = plan(draft, f"name: x\nscsi0: {head},discard=on,size=1T\n")
        (piece,) = made.pieces
        assert piece.with_volume("local:104/vm-104-disk-0.qcow2", "8K") == (
            "local:104/vm-104-disk-0.qcow2,discard=on,size=8K"
        )


@pytest.mark.parametrize(
    ("conf", "word"),
    [
        (b"", "holds no configuration"),
        (b"\0\0\0\0", "holds no configuration"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"name: x\n" * 6000, "too large"),
        (b"#" + b"x" * (257 << 10), "at most"),
        (b"name: x\n", "its configuration does not: scsi0"),
        (BASE.encode() + b"memory: 16\n", ""),
        (f"{BASE}{TWICE}".encode(), "is used by two cards"),
        (BASE.replace("memory: 64", "memory: 64\ncpu: host,flags=+evil;-x").encode(), ""),
    ],
)  # fmt: skip
def test_texts_that_cannot_stand(draft: VM, conf: bytes, word: str) -> None:
    """Either it is refused in words, or what could not be read is left out; never anything else."""
    if word:
        with pytest.raises(VMError, match=word):
            plan(draft, conf)
    else:
        assert plan(draft, conf).mapping["name"] == "x"


@pytest.mark.parametrize(
    "line",
    [
        "args: -device pvpanic",
        "hookscript: local:snippets/evil.sh",
        "hostpci0: 0000:01:00.0",
        "usb0: host=1234:5678",
        "serial0: /dev/ttyS0",
        "parallel0: /dev/parport0",
        "affinity: 0",
        "keephugepages: 1",
    ],
)
def test_what_only_an_operator_may_set(
    draft: VM, anna: Any, operator: Any, grant: Any, line: str, make_vm: Callable[..., VM]
) -> None:
    for path, role in (("/", "PVEAdmin"),):
        anna = grant(anna, path, role)
    made = plan(draft, BASE + line + "\n")
    with pytest.raises(AccessError, match="only an operator may restore"):
        authorise(anna, draft, made)
    authorise(operator, draft, made)
    authorise(None, draft, made)
    key, _, text = line.partition(": ")
    if key == "affinity":  # what the VM has already it may have again
        own = make_vm(105, {"name": "own", "memory": "64", key: text})
        authorise(anna, own, plan(own, BASE + line + "\n"))
        with pytest.raises(AccessError):
            authorise(anna, own, plan(own, BASE + "affinity: 1\n"))


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("net0: virtio=BC:24:11:00:00:01,bridge=vmbr7", "/sdn/zones/localnetwork/vmbr7"),
        ("net0: virtio=BC:24:11:00:00:01,bridge=vmbr7,tag=5", "/sdn/zones/localnetwork/vmbr7/5"),
        ("usb0: mapping=stick", "/mapping/usb/stick"),
        ("hostpci0: mapping=gpu", "/mapping/pci/gpu"),
        ("virtiofs0: documents", "/mapping/dir/documents"),
        ("cicustom: user=private:snippets/user.yaml", "/storage/private"),
        ("ide2: cdrom,media=cdrom", "/, Sys.Console"),
    ],
)
def test_what_needs_a_right_of_its_own(draft: VM, anna: Any, grant: Any, line: str, path: str) -> None:
    Storage.objects.create(name="private", path="/private")
    for place, role in (("/vms", "PVEVMAdmin"), ("/storage/local", "PVEDatastoreUser")):
        anna = grant(anna, place, role)
    with pytest.raises(AccessError) as caught:
        authorise(anna, draft, plan(draft, BASE + line + "\n"))
    assert path in str(caught.value)
    authorise(anna, draft, plan(draft, BASE))


def test_room_is_asked_for_on_each_storage(draft: VM, anna: Any, grant: Any) -> None:
    Storage.objects.create(name="thin", kind="lvmthin")
    anna = grant(anna, "/vms", "PVEVMAdmin")
    with pytest.raises(AccessError, match=r"/storage/local, Datastore\.AllocateSpace"):
        authorise(anna, draft, plan(draft, BASE))
    made = plan(draft, BASE, storage="thin")
    assert [(piece.storage.name, piece.format) for piece in made.pieces] == [("thin", "raw")], (
        "qcow2 is none there"
    )
    with pytest.raises(AccessError, match="/storage/thin"):
        authorise(grant(anna, "/storage/local", "PVEDatastoreUser"), draft, made)


def test_storages_that_are_not_here(draft: VM) -> None:
    conf = BASE.replace("local:", "tank:")
    held = manifest_of({"scsi0.raw": 8192})
    disk = held.disks[0]
    elsewhere = held.__class__(
        **{**vars(held), "disks": (disk.__class__(**{**vars(disk), "volid": "tank:x"}),)}
    )
    params = parse_params(RestoreParams, {"archive": "local:backup/x"})
    with pytest.raises(ConfigError, match="was on another storage: storage 'tank' does not exist") as caught:
        plan_of(draft, elsewhere, conf.encode(), params, FORMATS)
    assert "storage" in caught.value.hint
    with pytest.raises(ConfigError, match="does not exist"):
        plan(draft, BASE, storage="tank")


def test_addresses_of_another_vm(draft: VM, make_vm: Callable[..., VM]) -> None:
    make_vm(100, {"name": "first", "net0": "virtio=BC:24:11:00:00:01"})
    conf = BASE + "net0: virtio=BC:24:11:00:00:01\nsmbios1: uuid=6f1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d\n"
    with pytest.raises(StateError, match="already used by net0 of VM 100") as caught:
        plan(draft, conf)
    assert "unique" in caught.value.hint
    made = plan(draft, conf, unique="1")
    assert not Nic.objects.filter(mac=made.mapping["net0"].partition("=")[2]).exists()
    assert "6f1b2c3d" not in made.mapping["smbios1"]


def test_in_place(make_vm: Callable[..., VM], node: Any, storage: Storage) -> None:
    """Which volumes go, which stay, and where."""
    names = ["vm-101-disk-0.qcow2", "vm-101-disk-1.qcow2", "vm-101-disk-2.qcow2", "vm-101-cloudinit.qcow2"]
    for name in names:
        Volume.objects.create(
            storage=storage,
            node=node,
            name=f"101/{name}",
            content="images",
            format="qcow2",
            size=8192,
            vmid=101,
        )
    here = {
        key: f"local:101/{name}" for key, name in zip(("scsi0", "scsi1", "scsi2", "ide3"), names, strict=True)
    }
    config = {
        "name": "old",
        **here,
        "ide3": f"{here['ide3']},media=cdrom",
        "scsi2": f"{here['scsi2']},backup=0",
    }
    vm = make_vm(101, config)
    conf = BASE + f"scsi2: {here['scsi2']},backup=0\nide2: local:101/vm-101-cloudinit.qcow2,media=cdrom\n"
    made = plan(vm, conf)
    assert made.gone == [here["scsi0"]]
    assert [piece.slot for piece in made.pieces] == ["scsi0"]
    assert made.mapping["scsi2"] == f"{here['scsi2']},backup=0,size=8K"
    assert made.mapping["unused0"] == here["scsi1"]
    assert made.mapping["ide2"] == f"{here['ide3']},media=cdrom", "its cloud-init drive moves along"
    without = plan(vm, BASE)
    assert sorted(without.gone) == sorted([here["scsi0"], here["ide3"]])
    assert {without.mapping["unused0"], without.mapping["unused1"]} == {here["scsi1"], here["scsi2"]}


def test_a_waiting_disk_stays_too(make_vm: Callable[..., VM], node: Any, storage: Storage) -> None:
    Volume.objects.create(
        storage=storage, node=node, name="101/vm-101-disk-7.qcow2", content="images", format="qcow2",
        size=8192, vmid=101,
    )  # fmt: skip
    vm = make_vm(101, {"name": "old"})
    VM.everything.filter(pk=vm.pk).update(pending={"scsi3": "local:101/vm-101-disk-7.qcow2"})
    made = plan(vm, BASE)
    assert made.mapping["unused0"] == "local:101/vm-101-disk-7.qcow2"
    assert made.gone == []


def test_errors_come_all_at_once(draft: VM) -> None:
    with pytest.raises(ConfigErrors):
        plan(draft, BASE + TWICE)
