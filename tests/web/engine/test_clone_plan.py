"""How each drive of a clone is made, and what cannot be cloned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vms.errors import ConfigError, LockedError, StateError, VMError
from vms.models import VM, Node, Snapshot, Storage, Volume
from vms.models.configuration import config_of, save_config
from vms.operations.base import parse_params
from vms.operations.clone import configuration, define, volumes
from vms.operations.cloneplan import CloneParams, Plan, plan_of
from vms.operations.inmemory import as_clone
from vms.storage import base

pytestmark = pytest.mark.django_db
NAMES = {
    "scsi0": "900/base-900-disk-0.qcow2",
    "scsi1": "900/base-900-disk-1.raw",
    "efidisk0": "900/base-900-disk-2.raw",
    "tpmstate0": "900/base-900-disk-3.raw",
    "ide0": "900/vm-900-cloudinit.qcow2",
    "ide2": "iso/debian.iso",
    "unused0": "900/vm-900-disk-9.qcow2",
}


@pytest.fixture
def source(make_vm: Callable[..., VM], node: Node, storage: Storage) -> VM:
    """A template with one drive of each kind."""
    for name in NAMES.values():
        Volume.objects.create(
            storage=storage, node=node, name=name, content="iso" if name.startswith("iso") else "images",
            format=name.rpartition(".")[2], size=1 << 20, vmid=None if name.startswith("iso") else 900,
        )  # fmt: skip
    config = {key: f"local:{name}" for key, name in NAMES.items()}
    config |= {"ide0": f"{config['ide0']},media=cdrom", "ide2": f"{config['ide2']},media=cdrom"}
    config |= {
        "efidisk0": f"{config['efidisk0']},efitype=4m",
        "scsi0": f"{config['scsi0']},format=qcow2,discard=on",
    }
    return make_vm(900, {**config, "template": "1", "name": "gold", "sata0": "none,media=cdrom"})


def plan(make_vm: Callable[..., VM], **params: str) -> Plan:
    target = VM.everything.filter(vmid=101).first() or make_vm(101, {}, stage="draft")
    return plan_of(parse_params(CloneParams, {"clone-of": "900", **params}), target)


def how(made: Plan) -> dict[str, str]:
    return {piece.slot: f"{piece.how} {piece.format}".strip() for piece in made.pieces}


KEPT = {"ide0": "seed qcow2", "ide2": "keep", "sata0": "keep", "tpmstate0": "copy raw"}


def test_linked(make_vm: Callable[..., VM], source: VM) -> None:
    """Disks and EFI variables lie on the bases; a TPM and a cloud-init drive never do."""
    made = plan(make_vm)
    assert how(made) == {**KEPT, "scsi0": "link qcow2", "scsi1": "link qcow2", "efidisk0": "link qcow2"}
    drive = next(piece for piece in made.pieces if piece.slot == "scsi0")
    assert drive.with_volume("local:101/x", "1G") == "local:101/x,discard=on,size=1G"


def test_full(make_vm: Callable[..., VM], source: VM) -> None:
    assert how(plan(make_vm, full="1")) == {
        **KEPT, "scsi0": "copy qcow2", "scsi1": "copy raw", "efidisk0": "copy raw"
    }  # fmt: skip
    assert how(plan(make_vm, full="1", format="qcow2"))["scsi1"] == "copy qcow2"
    assert how(plan(make_vm, full="1", format="qcow2"))["efidisk0"] == "copy raw"


@pytest.mark.parametrize(
    ("columns", "params", "error", "words"),
    [
        (
            {"template": False, "status": "running"},
            {"full": "1"},
            StateError,
            "cannot clone TPM state while VM is",
        ),
        ({"lock": "backup"}, {}, LockedError, "VM 900 is locked (backup)"),
        ({}, {"target": "pve2"}, ConfigError, "can't clone VM to node 'pve2' (VM uses local storage)"),
        ({}, {"warm": "1"}, StateError, "VM 900 keeps no warm state."),
        ({}, {"clone-of": "901"}, VMError, "There is no VM 901."),
    ],
)
def test_refused(
    make_vm: Callable[..., VM], source: VM, columns: dict[str, str], params: dict[str, str],
    error: type[VMError], words: str,
) -> None:  # fmt: skip
    Node.objects.create(name="pve2")
    VM.objects.filter(vmid=900).update(**columns)
    with pytest.raises(error) as caught:
        plan(make_vm, **params)
    assert words in str(caught.value)


def test_only_a_base_has_linked_clones(make_vm: Callable[..., VM], source: VM) -> None:
    Volume.objects.filter(name=NAMES["scsi1"]).update(name="900/vm-900-disk-1.raw")
    with pytest.raises(StateError) as caught:
        plan(make_vm)
    text = "Linked clone feature is not supported for 'local:900/vm-900-disk-1.raw' (scsi1)"
    assert str(caught.value) == text


def test_a_template_that_is_being_warmed_is_no_running_machine(
    make_vm: Callable[..., VM], source: VM
) -> None:
    VM.objects.filter(vmid=900).update(status="running")
    assert how(plan(make_vm))["tpmstate0"] == "copy raw"


def test_of_a_snapshot(make_vm: Callable[..., VM], source: VM) -> None:
    """Its disks, not today's; a raw one was never part of it."""
    VM.objects.filter(vmid=900).update(template=False)
    Snapshot.objects.create(
        vm=source, name="one", config={"memory": "512", "scsi0": f"local:{NAMES['scsi0']}"}
    )
    assert how(plan(make_vm, snapname="one")) == {"scsi0": "copy qcow2"}
    Snapshot.objects.create(vm=source, name="two", config={"scsi1": f"local:{NAMES['scsi1']}"})
    with pytest.raises(StateError, match="Full clone feature is not supported for a snapshot of"):
        plan(make_vm, snapname="two")
    Snapshot.objects.create(vm=source, name="half", config={}, state="prepare")
    with pytest.raises(ConfigError, match="is not complete"):
        plan(make_vm, snapname="half")


@pytest.mark.parametrize("params", [{}, {"full": "1", "name": "other", "description": "a%0Ab"}])
def test_what_is_started_is_what_is_written(
    make_vm: Callable[..., VM], source: VM, params: dict[str, str]
) -> None:
    """A clone is started before its rows are there; they say then what QEMU was given."""
    save_config(
        source,
        {
            **config_of(source), "net0": "virtio,bridge=vmbr0,tag=7,firewall=1", "net1": "e1000",
            "cores": "3", "memory": "1024", "tags": "a;b",
            "ostype": "l26", "scsihw": "virtio-scsi-single", "args": "-S",
            "vmgenid": "6b4ea8b4-0c06-4a7b-9b8c-7e62a3f0a0a1",
        },
    )  # fmt: skip
    planned, target = plan(make_vm, **params), VM.everything.get(vmid=101)
    made = {
        piece.slot: base.Volume(
            volid=f"local:101/vm-101-disk-{number}.{piece.format}", content="images", format=piece.format,
            size=1 << 20, used=0, path=Path("/nowhere"), vmid=101,
        )
        for number, piece in enumerate(planned.made())
    }  # fmt: skip
    mapping = configuration(planned, made, parse_params(CloneParams, {"clone-of": "900", **params}))
    born = as_clone(target, mapping, volumes(target, planned, made))
    define(target, planned, made, mapping, "")
    row = VM.objects.get(vmid=101)
    assert config_of(born) == config_of(row)
    assert (born.pk, born.options, born.nics.all()[0].tag) == (row.pk, row.options, 7)
    assert {disk.slot: disk.file for disk in born.disks.all()} == {
        disk.slot: disk.file for disk in row.disks.all()
    }
