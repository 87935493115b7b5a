"""A small house to look at: a node, a storage in a real folder, a VM, people with and without rights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from vms.models import VM, AclEntry, Disk, Node, Storage, StorageStatus, Task, TaskLogLine, Volume

GIB = 1 << 30
BACKEND = "django.contrib.auth.backends.ModelBackend"
FULL = {
    "name": "web-01", "ostype": "l26", "memory": "2048", "cores": "2", "scsihw": "virtio-scsi-single",
    "machine": "q35", "agent": "1", "scsi0": "local:101/vm-101-disk-0.qcow2,iothread=1,size=32G",
    "ide2": "local:iso/debian.iso,media=cdrom", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1",
    "serial0": "socket", "usb0": "spice", "rng0": "/dev/urandom", "watchdog": "i6300esb",
    "audio0": "device=AC97", "numa0": "cpus=0-1,memory=2048", "hostpci0": "mapping=card",
}  # fmt: skip
"""A machine with one of each part that has a dialog."""
FACTS = {
    "qemu_version": "7.2.0", "qemu_binary": "/usr/bin/qemu-system-x86_64", "kvm": False, "threads": 4,
    "accel_reason": "/dev/kvm is not there", "memory": 8 * GIB, "memory_free": 4 * GIB,
    "bridges": [{"name": "vmbr0", "active": True, "mtu": 1500}], "qemu_user": "pvelite",
}  # fmt: skip


@dataclass
class Scene:
    """What a page test needs at hand."""

    node: Node
    storage: Storage
    vm: VM
    iso: Volume
    free_iso: Volume
    task: Task
    folder: Path

    def add_vms(self, count: int, first: int = 200) -> None:
        """More stopped VMs, each with a disk in the rows."""
        for vmid in range(first, first + count):
            vm = VM.everything.create(
                vmid=vmid, node=self.node, stage=VM.Stage.DEFINED, name=f"app-{vmid}", tags="prod"
            )
            Disk.objects.create(vm=vm, slot="ide2", volume=self.iso, media="cdrom")
            Task.objects.create(
                type="qmstart", node=self.node, vm=vm, vmid=vmid, status="ok", ended=timezone.now()
            )


def online(node: Node) -> None:
    """Its worker was heard of just now."""
    Node.objects.filter(pk=node.pk).update(heartbeat=timezone.now())


@pytest.fixture
def scene(db: None, tmp_path: Path, settings: Any) -> Scene:
    """VM 101 web-01, stopped, on node pve1; storage local with one ISO in a drive and one in none."""
    settings.CONF = dataclasses.replace(settings.CONF, node="pve1")
    folder = tmp_path / "local"
    node = Node.objects.create(name="pve1", facts=FACTS, heartbeat=timezone.now())
    storage = Storage.objects.create(name="local", path=str(folder))
    StorageStatus.objects.create(
        storage=storage, node=node, total=100 * GIB, used=40 * GIB, available=60 * GIB
    )
    vm = VM.everything.create(
        vmid=101, node=node, stage=VM.Stage.DEFINED, name="web-01", tags="prod;web", cores=2, memory=2048,
        ostype="l26", status_since=timezone.now(), options={"scsihw": "virtio-scsi-single", "agent": "1"},
    )  # fmt: skip
    own = Volume.objects.create(
        storage=storage, node=node, name="101/vm-101-disk-0.qcow2", content="images", format="qcow2",
        size=32 * GIB, vmid=101,
    )  # fmt: skip
    iso, free = (
        Volume.objects.create(
            storage=storage, node=node, name=f"iso/{name}", content="iso", format="iso", size=600 << 20
        )
        for name in ("debian.iso", "memtest.iso")
    )
    Disk.objects.create(vm=vm, slot="scsi0", volume=own, storage=storage, size=32 * GIB)
    Disk.objects.create(vm=vm, slot="ide2", volume=iso, media="cdrom")
    task = Task.objects.create(
        type="qmstart", node=node, vm=vm, vmid=101, label="Start 101 (web-01)", username="somebody",
        status=Task.Status.ERROR, message='Failed to get "write" lock', detail="qemu: raw words",
        ended=timezone.now(), upid="UPID:pve1:00000001:00000000:66000000:qmstart:101:somebody@pam:",
    )  # fmt: skip
    TaskLogLine.objects.create(task=task, text="undone: remove tap101i0")
    return Scene(node, storage, vm, iso, free, task, folder)


def signed_in(user: Any, **options: Any) -> Client:
    """A browser of ``user``."""
    client = Client(**options)
    client.force_login(user, backend=BACKEND)
    return client


def person(name: str, **roles: str) -> Any:
    """A user with roles: ``vms__101="PVEVMUser"`` is a role on ``/vms/101``; ``root=…`` one on ``/``."""
    user = get_user_model().objects.create_user(name, password="x")
    for where, role in roles.items():
        path = "/" if where == "root" else "/" + where.replace("__", "/")
        AclEntry.objects.create(user=user, path=path, role=role)
    return user


@pytest.fixture
def operator(db: None) -> Any:
    return get_user_model().objects.create_superuser("operator", password="x")


@pytest.fixture
def boss(operator: Any) -> Client:
    """An operator's browser."""
    return signed_in(operator)
