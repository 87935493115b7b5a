"""Asking for a backup: who may, what is refused before anything happens, what may be done meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vms.errors import AccessError, ConfigError, ConfigErrors, LockedError, StateError
from vms.models import VM, Storage
from vms.operations.backupplan import chosen
from vms.operations.base import submit


def test_who_may(
    make_vm: Callable[..., VM], storage: Storage, anna: Any, grant: Callable[[Any, str, str], Any]
) -> None:
    """VM.Backup on the VM, and room on both storages."""
    vm = make_vm()
    Storage.objects.create(name="fast", path="/tmp/fast")
    asked = {"storage": "local", "fleecing": "1,storage=fast"}
    for path, role in (("/vms/100", "PVEVMUser"), ("/storage/local", "PVEDatastoreUser")):
        with pytest.raises(AccessError):
            submit("vzdump", vm=vm, user=anna, params=asked)
        anna = grant(anna, path, role)
    with pytest.raises(AccessError, match="/storage/fast"):
        submit("vzdump", vm=vm, user=anna, params=asked)
    anna = grant(anna, "/storage/fast", "PVEDatastoreUser")
    task = submit("vzdump", vm=vm, user=anna, params=asked)
    vm.refresh_from_db()
    assert (task.lock, vm.lock, task.label) == ("backup", "backup", "Backup 100 (web)")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"storage": "none"}, "storage 'none' does not exist"),
        ({"storage": "disks"}, "does not take backups"),
        ({"mode": "quick"}, "mode"),
        ({"compress": "lzo"}, "compress"),
        ({"notes-template": "{{password}}"}, "stands for nothing"),
        ({"prune-backups": "keep-everything=1"}, "prune-backups"),
        ({"fleecing": "1"}, "needs a storage"),
        ({"fleecing": "1,storage=none"}, "does not exist"),
        ({"bwlimit": "-1"}, "below the smallest"),
    ],
)
def test_refused(make_vm: Callable[..., VM], storage: Storage, asked: dict[str, str], words: str) -> None:
    Storage.objects.create(name="disks", path="/tmp/disks", content=["images"])
    vm = make_vm()
    with pytest.raises((ConfigError, ConfigErrors), match=words):
        submit("vzdump", vm=vm, user=None, params=asked)
    vm.refresh_from_db()
    assert vm.lock == ""


def test_states(make_vm: Callable[..., VM]) -> None:
    with pytest.raises(StateError, match="not created yet"):
        submit("vzdump", vm=make_vm(100, stage="draft"), user=None)
    with pytest.raises(StateError, match="paused - cannot shutdown"):
        submit("vzdump", vm=make_vm(101, status="paused"), user=None, params={"mode": "stop"})
    vm = make_vm(102, status="running")
    submit("vzdump", vm=vm, user=None)
    for verb in ("qmshutdown", "qmreset", "qmreboot", "vzdump", "qmdestroy"):
        with pytest.raises(LockedError, match="Backup 102"):
            submit(verb, vm=vm, user=None)
    for verb in ("qmpause", "qmstop"):
        submit(verb, vm=vm, user=None)


def test_what_is_in_it() -> None:
    """Every disk but those PVE leaves out."""
    config = {
        "scsi0": "local:100/vm-100-disk-0.qcow2,size=1G", "virtio1": "local:100/vm-100-disk-1.raw,backup=0",
        "ide2": "local:iso/debian.iso,media=cdrom", "ide3": "local:100/vm-100-cloudinit.qcow2,media=cdrom",
        "sata0": "none,media=cdrom", "scsi1": "/dev/sdb", "unused0": "local:100/vm-100-disk-2.qcow2",
        "efidisk0": "local:100/vm-100-disk-3.qcow2", "tpmstate0": "local:100/vm-100-disk-4.raw,version=v2.0",
        "name": "web",
    }  # fmt: skip
    wanted, left_out = chosen(config)
    assert list(wanted) == ["scsi0", "tpmstate0"]
    assert left_out == {
        "virtio1": "backup=0", "ide2": "a CD drive", "ide3": "made anew when it is needed",
        "sata0": "a CD drive", "scsi1": "a device or file of the node",
        "efidisk0": "its firmware is not in use",
    }  # fmt: skip
    assert "efidisk0" in chosen({**config, "bios": "ovmf"})[0]
