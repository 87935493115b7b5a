"""Patterns on disks that lie on any kind of storage, and a VM that has some."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from snapkit import DEVICES, ask, config

if TYPE_CHECKING:
    from enginekit import Engine

    from vms.models import VM, Volume

BASE = {
    "name": "fast", "ostype": "l26", "memory": "32", "freeze": "1", "vga": "none", "serial0": "socket",
    "scsihw": "virtio-scsi-single", "ide2": "none,media=cdrom",
}  # fmt: skip


def disks(vm: VM) -> dict[str, Volume]:
    """Drive key → the volume in it, but for CD drives and what is in no drive."""
    return {
        disk.slot: disk.volume
        for disk in type(vm).objects.get(pk=vm.pk).disks.select_related("volume__storage")
        if disk.volume is not None and disk.media == "disk" and not disk.slot.startswith("unused")
    }


def place(volume: Volume) -> str:
    """Where the test finds it: all these storages have paths."""
    from vms.storage import open_storage

    return str(open_storage(volume.storage.name, volume.storage.facts()).path(volume.volid))


def paint(engine: Engine, vm: VM, pattern: int) -> None:
    """Fill the beginning of each disk with one byte, as its device would while QEMU runs."""
    for key, volume in disks(vm).items():
        words = f"write -P {pattern} 0 64k"
        if vm.running:
            device = DEVICES.get(key.rstrip("0123456789"), "{}").format(key)
            line = f'qemu-io -d {device} "{words}"'
            assert ask(engine, vm.vmid, "human-monitor-command", **{"command-line": line}) == ""
        else:
            argv = ["qemu-io", "-f", volume.format, "-c", words, place(volume)]
            subprocess.run(argv, check=True, capture_output=True)


def painted(vm: VM) -> set[int]:
    """The byte at the beginning of each disk of a VM that is off, or which nobody writes."""
    found = set()
    for volume in disks(vm).values():
        with tempfile.NamedTemporaryFile(prefix="pvd-") as dump:
            words = ["-U", "-f", volume.format, "-O", "raw", "bs=64k", "count=1", f"if={place(volume)}"]
            subprocess.run(["qemu-img", "dd", *words, f"of={dump.name}"], check=True, capture_output=True)
            found |= set(Path(dump.name).read_bytes())
    return found


def size(vm: VM, key: str) -> str:
    """The size a drive says it has."""
    return next(word[5:] for word in config(vm)[key].split(",") if word.startswith("size="))
