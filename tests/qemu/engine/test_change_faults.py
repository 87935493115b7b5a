"""A change of a running VM, its worker killed at every border: no orphan volume, no lost disk."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from enginekit import Engine
from faultkit import at_every_border, die_at

if TYPE_CHECKING:
    from vms.models import VM, Task

FIRST, SECOND = "100/vm-100-disk-0.qcow2", "100/vm-100-disk-1.qcow2"
CONFIG = {
    "name": "halves", "ostype": "l26", "memory": "64", "freeze": "1", "scsihw": "virtio-scsi-pci",
    "scsi0": "local:1", "boot": "order=scsi0",
}  # fmt: skip


def in_qemu(engine: Engine) -> tuple[set[str], set[str]]:
    """The ids of QEMU's disks, and the names of the top nodes behind them."""

    async def asked() -> tuple[set[str], set[str]]:
        from vms.qemu.monitor import Monitor

        monitor = await Monitor.connect(engine.run_dir / "vm" / "100" / "qmp" / "qmp-ops.sock")
        try:
            found = await monitor.execute("qom-list", {"path": "/machine/peripheral"})
            nodes = await monitor.execute("query-named-block-nodes", {"flat": True})
        finally:
            await monitor.close()
        disks = {str(entry["name"]) for entry in found if entry["name"] in ("scsi0", "scsi1")}
        return disks, {node["node-name"] for node in nodes if node["node-name"].startswith("drive-")}

    return asyncio.run(asked())


def has(engine: Engine, vm: VM, *disks: str, unused: str = "") -> None:
    """The rows, QEMU and the storage agree on what the VM has; nothing waits, nothing is locked."""
    from vms.models import Volume
    from vms.models.configuration import config_of, with_parts

    fresh = with_parts(type(vm).everything.filter(pk=vm.pk)).get()
    config = config_of(fresh)
    assert (fresh.pending, fresh.lock, fresh.draft, fresh.status) == ({}, "", {}, "prelaunch")
    assert {key for key in config if key in ("scsi0", "scsi1")} == set(disks)
    assert config.get("unused0", "") == unused
    assert in_qemu(engine) == (set(disks), {f"drive-{disk}" for disk in disks})
    files = [FIRST, SECOND] if "scsi1" in disks or unused else [FIRST]
    assert engine.images() == files
    assert sorted(Volume.objects.filter(vmid=100).values_list("name", flat=True)) == files


def test_a_disk_is_added_whole_and_removed_whole(engine: Engine) -> None:
    """Whatever the next worker finds, it finishes."""
    vm = engine.draft(CONFIG, 100)
    engine.do("qmcreate", vm, start="1")

    def bare() -> VM:
        engine.do("qmconfig", vm, delete="scsi1", force="1")
        return vm

    def added(vm: VM, task: Task, name: str) -> None:
        assert task.status == "ok", (name, task.message)
        has(engine, vm, "scsi0", "scsi1")

    names = at_every_border(engine, "qmconfig", bare, added, set=json.dumps({"scsi1": "local:1"}))
    assert names == ["made scsi1", "noted", "told scsi1"]

    def full() -> VM:
        if "unused0" in fresh_config(vm):
            engine.do("qmconfig", vm, delete="unused0")
        if "scsi1" not in fresh_config(vm):
            engine.do("qmconfig", vm, set=json.dumps({"scsi1": "local:1"}))
        return vm

    def removed(vm: VM, task: Task, name: str) -> None:
        assert task.status == "ok", (name, task.message)
        has(engine, vm, "scsi0")

    names = at_every_border(engine, "qmconfig", full, removed, delete="scsi1", force="1")
    assert names == ["noted", "told scsi1", f"deleted {SECOND}"]
    for number in (1, 2):
        task = die_at(engine, "qmconfig", number, full(), delete="scsi1")
        assert task.status == "ok", task.message
        has(engine, vm, "scsi0", unused=f"local:{SECOND}")


def fresh_config(vm: VM) -> dict[str, str]:
    from vms.models.configuration import config_of, with_parts

    return config_of(with_parts(type(vm).everything.filter(pk=vm.pk)).get())
