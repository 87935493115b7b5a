"""What tests of restores share: backups made by hand, and a look at what came of them."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "backup"))
from archivekit import Memory, forged, manifest_of, packed

from vms.backup.archive import ArchiveWriter
from vms.backup.manifest import ArchivedDisk

if TYPE_CHECKING:
    from enginekit import Engine

    from vms.models import VM, Task

__all__ = ["Memory", "forged", "packed"]

MIB = 1 << 20
SIZE = 16 * MIB
CONF = {
    "name": "restored", "ostype": "l26", "memory": "64", "scsihw": "virtio-scsi-single",
    "boot": "order=scsi0",
    "scsi0": "local:101/vm-101-disk-0.qcow2,discard=on,size=16M",
    "virtio1": "local:101/vm-101-disk-1.raw,size=16M",
    "net0": "virtio=BC:24:11:00:01:01", "ide2": "none,media=cdrom",
    "vmgenid": "0b0f5f5e-36b1-4c54-9b87-1f6d2a4d9c01",
    "smbios1": "uuid=6f1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d", "description": "as it was",
}  # fmt: skip
_moments = itertools.count()


def disks(seed: int = 1) -> dict[str, Memory]:
    """Two disks with data, gaps and zeroes."""
    pattern = bytes([seed]) * 100_000
    return {
        "scsi0": Memory(SIZE, {0: pattern, 4 * MIB: bytes(MIB), SIZE - 512: bytes([seed + 1]) * 512}),
        "virtio1": Memory(SIZE, {8 * MIB: pattern * 10}),
    }


def text(conf: Mapping[str, str]) -> bytes:
    from vms.config import conffile

    main = dict(conf)
    description = main.pop("description", "")
    return conffile.format(conffile.ConfFile(description=description, main=main)).encode()


def backup(
    engine: Engine,
    conf: Mapping[str, str] = CONF,
    content: Mapping[str, Memory] | None = None,
    *,
    vmid: int = 101,
) -> str:
    """A backup of VM 101 on the storage ``local``; its volume id."""
    held = dict(disks() if content is None else content)
    rows = tuple(
        ArchivedDisk(
            key=key, volid=conf[key].partition(",")[0], format=conf[key].partition(",")[0].rpartition(".")[2],
            size=disk.size, member=f"{key}.raw",
        )
        for key, disk in held.items()
    )  # fmt: skip
    manifest = dataclasses.replace(manifest_of({}, vmid=vmid), disks=rows)

    async def write(path: Path) -> None:
        with path.open("wb") as file:
            async with ArchiveWriter(file.fileno()) as writer:
                await writer.add_text("manifest.json", manifest.format())
                await writer.add_text("qemu.conf", text(conf))
                for key, disk in held.items():
                    await writer.add_disk(f"{key}.raw", disk)
                await writer.finish()

    return put(engine, lambda path: asyncio.run(write(path)), vmid=vmid)


def put(engine: Engine, write: Callable[[Path], object], *, vmid: int = 101) -> str:
    """A backup whose file ``write`` makes; its volume id, known to the rows."""
    from vms.operations.base import submit_on

    seconds = next(_moments)
    clock = f"{seconds // 3600:02}_{seconds // 60 % 60:02}_{seconds % 60:02}"
    name = f"vzdump-qemu-{vmid}-2026_01_31-{clock}.tar.zst"
    path = engine.home / "local" / "dump" / name
    path.parent.mkdir(exist_ok=True)
    write(path)
    engine.end(submit_on("storagescan", node=engine.node, user=None, params={"storage": "local"}))
    return f"local:backup/{name}"


def restore(engine: Engine, archive: str, vmid: int | None = 101, user: Any = None, **params: str) -> Task:
    from vms.operations.restore import restore

    return restore(archive, user, node=engine.node, vmid=vmid, params=params)


def done(engine: Engine, task: Task, within: float = 90) -> VM:
    """Wait for a restore that has to end well; the VM."""
    from vms.models import VM

    engine.end(task, within)
    told = f"{task.message}\n" + "\n".join(line.text for line in task.lines.all())
    assert task.status in ("ok", "warnings"), told
    return VM.objects.get(vmid=task.vmid)


def failed(engine: Engine, task: Task, within: float = 90) -> str:
    """Wait for a restore that has to fail; its message."""
    engine.end(task, within)
    assert task.status == "error", task.status
    return str(task.message)


def content(volid: str) -> bytes:
    """All a guest would read from a volume."""
    import subprocess
    import tempfile

    from diskkit import path_of

    path = path_of(volid)
    if path.suffix == ".raw":
        return path.read_bytes()
    with tempfile.NamedTemporaryFile() as raw:
        convert = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(path), raw.name]
        subprocess.run(convert, check=True)
        return Path(raw.name).read_bytes()


def drives(vm: VM) -> dict[str, str]:
    """Drive → volume id, of those that hold one."""
    from diskkit import config

    from vms.models.configuration import is_drive

    found = {key: value.partition(",")[0] for key, value in config(vm).items() if is_drive(key)}
    return {key: volid for key, volid in found.items() if ":" in volid}


def holds(vm: VM, wanted: Mapping[str, Memory]) -> None:
    """Insist that the VM's disks are these, byte for byte."""
    there = drives(vm)
    for key, disk in wanted.items():
        assert content(there[key])[: disk.size] == disk.content, key


def nothing_left(engine: Engine) -> None:
    """No socket, no process and no unfinished file of a restore."""
    assert list((engine.run_dir / "nbd").glob("*")) == []
    assert [line for line in engine.strays() if "qemu-storage-daemon" in line or "extract" in line] == []
