"""What the snapshot tests share: a VM with every kind of disk that never boots, patterns on its disks."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enginekit import Engine

    from vms.models import VM, Task

DISKS = {
    "name": "disks", "ostype": "l26", "memory": "32", "freeze": "1", "vga": "none", "serial0": "socket",
    "scsihw": "virtio-scsi-single", "scsi0": "local:0.0625,format=qcow2", "virtio1": "local:0.0625",
    "ide2": "none,media=cdrom", "vmgenid": "1",
}  # fmt: skip
"""``freeze``: QEMU has everything open and costs nothing, because its processor stands still."""
SECURE = {
    "machine": "q35",
    "bios": "ovmf",
    "efidisk0": "local:1,efitype=4m",
    "tpmstate0": "local:1,version=v2.0",
}


def lines(task: Task) -> str:
    return "\n".join(line.text for line in task.lines.all())


def config(vm: VM) -> dict[str, str]:
    from vms.models.configuration import config_of

    return config_of(type(vm).everything.get(pk=vm.pk))


def tree(vm: VM) -> dict[str, str]:
    """Snapshot → its parent; ``""`` is the VM now."""
    fresh = type(vm).everything.get(pk=vm.pk)
    found = {one.name: one.parent.name if one.parent else "" for one in fresh.snapshots.all()}
    return found | {"": fresh.parent.name if fresh.parent else ""}


def ask(engine: Engine, vmid: int, command: str, **arguments: Any) -> Any:
    """A QMP command on the operators' socket."""
    from vms.qemu.monitor import Monitor

    async def asked() -> Any:
        monitor = await Monitor.connect(engine.run_dir / "vm" / str(vmid) / "qmp" / "qmp-ops.sock")
        try:
            return await monitor.execute(command, arguments or None)
        finally:
            await monitor.close()

    return asyncio.run(asked())


DEVICES = {"virtio": "/machine/peripheral/{}/virtio-backend", "efidisk": "/machine/system.flash1"}
"""Where QEMU's tree has a drive's device when that is not the key itself."""


def paint(engine: Engine, vm: VM, pattern: int) -> None:
    """Fill the beginning of each disk with one byte, as its device would while QEMU runs."""
    for key, name in images(engine, vm).items():
        words = f"write -P {pattern} 0 64k"
        if vm.running:
            device = DEVICES.get(key.rstrip("0123456789"), "{}").format(key)
            line = f'qemu-io -d {device} "{words}"'
            assert ask(engine, vm.vmid, "human-monitor-command", **{"command-line": line}) == ""
        else:
            subprocess.run(
                ["qemu-io", "-f", "qcow2", "-c", words, str(name)], check=True, capture_output=True
            )


def painted(engine: Engine, vm: VM) -> set[int]:
    """The byte at the beginning of each disk of a VM that is off, or which nobody writes."""
    found = set()
    for name in images(engine, vm).values():
        dump = name.with_suffix(".dump")
        words = [
            "qemu-img",
            "dd",
            "-U",
            "-f",
            "qcow2",
            "-O",
            "raw",
            "bs=64k",
            "count=1",
            f"if={name}",
            f"of={dump}",
        ]
        subprocess.run(words, check=True, capture_output=True)
        found |= set(dump.read_bytes())
        dump.unlink()
    return found


def images(engine: Engine, vm: VM) -> dict[str, Path]:
    """Drive key → its qcow2."""
    folder = engine.home / "local" / "images"
    drives = {key: text.split(",")[0].partition(":")[2] for key, text in config(vm).items()}
    return {
        key: folder / name for key, name in drives.items() if name.endswith(".qcow2") and "unused" not in key
    }


def inside_disk(engine: Engine, vm: VM) -> dict[str, list[str]]:
    """Drive key → the snapshots its qcow2 holds."""
    import json

    found = {}
    for key, name in images(engine, vm).items():
        said = subprocess.run(
            ["qemu-img", "info", "-U", "--output=json", str(name)], check=True, capture_output=True
        ).stdout
        found[key] = [one["name"] for one in json.loads(said).get("snapshots", [])]
    return found
