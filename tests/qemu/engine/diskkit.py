"""What tests of disks share: a VM with a filled disk, a second storage, a look at what a disk holds."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from vms.qemu import blocknodes

if TYPE_CHECKING:
    from enginekit import Engine

    from vms.models import VM, Storage, Task

MIB = 1 << 20
CONFIG = {
    "name": "disks", "ostype": "l26", "memory": "64", "scsihw": "virtio-scsi-single",
    "scsi0": "local:0.0625,format=qcow2,iothread=1", "boot": "order=scsi0",
}  # fmt: skip
"""A disk of 64 MiB with a thread of its own, and a guest that finds nothing to boot."""


def created(engine: Engine, vmid: int = 100, mib: int = 4, **more: str) -> VM:
    """A VM whose scsi0 holds ``mib`` MiB of a pattern."""
    vm = engine.draft(CONFIG | more, vmid)
    engine.do("qmcreate", vm)
    if mib:
        fill(engine.home / "local" / "images" / str(vmid) / f"vm-{vmid}-disk-0.qcow2", mib)
    return vm


def fill(path: Path, mib: int, fmt: str = "") -> None:
    """Write a pattern from the disk's start, as a guest would."""
    words = ["qemu-io", "-f", fmt or path.suffix[1:], "-c", f"write -q -P 90 0 {mib}M", str(path)]
    subprocess.run(words, check=True)


def compressed(path: Path, raw: Path) -> None:
    """Give a qcow2 128 MiB that take little room while they are compressed, and all of it in a copy."""
    raw.write_bytes(b"pvelite!" * (16 << 20))
    convert = ["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", str(raw), str(path)]
    subprocess.run(convert, check=True)
    raw.unlink()


def second(engine: Engine) -> Storage:
    """Another storage beside ``local``."""
    from vms.models import Storage

    folder = engine.home / "second"
    folder.mkdir(mode=0o711, exist_ok=True)
    return Storage.objects.get_or_create(name="second", defaults={"path": str(folder)})[0]


def lines(task: Task) -> str:
    return "\n".join(line.text for line in task.lines.all())


def config(vm: VM) -> dict[str, str]:
    """The configuration as it is stored now."""
    from vms.models import VM as Row
    from vms.models.configuration import config_of

    return config_of(Row.everything.get(pk=vm.pk))


def path_of(volid: str) -> Path:
    from vms.models import Storage
    from vms.storage.directory import DirectoryStorage

    name = volid.partition(":")[0]
    return DirectoryStorage(name, Storage.objects.get(name=name).path).path(volid)


def holds_pattern(volid: str, mib: int = 4) -> bool:
    """Whether a disk holds what :func:`fill` wrote and nothing behind it, also while it is in use."""
    path = path_of(volid)
    words = ["qemu-io", "-U", "-r", "-f", path.suffix[1:], "-c", f"read -q -P 90 0 {mib}M"]
    words += ["-c", f"read -q -P 0 {mib}M 8M", str(path)]
    found = subprocess.run(words, check=False, capture_output=True, text=True)
    return found.returncode == 0 and "failed" not in found.stdout


def left_in_qemu(engine: Engine, vmid: int, key: str) -> tuple[list[str], set[str]]:
    """The jobs and the top nodes of a drive that QEMU still has."""
    from vms.qemu.monitor import Monitor

    async def ask() -> tuple[list[str], set[str]]:
        monitor = await Monitor.connect(engine.run_dir / "vm" / str(vmid) / "qmp" / "qmp-ops.sock")
        try:
            jobs = [str(job["id"]) for job in await monitor.execute("query-jobs")]
            found = await blocknodes.names(monitor)
        finally:
            await monitor.close()
        return jobs, {name for name in found if name.startswith(f"drive-{key}")}

    return asyncio.run(ask())


def files(engine: Engine) -> list[str]:
    """Every disk on both storages, by storage."""
    found = [f"local:{name}" for name in engine.images()]
    folder = engine.home / "second" / "images"
    return found + sorted(f"second:{path.relative_to(folder)}" for path in folder.rglob("*-disk-*"))
