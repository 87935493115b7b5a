"""What the tests of backups share: a machine with every bus, what an archive holds, block graphs."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snapkit import ask, images, lines

if TYPE_CHECKING:
    from enginekit import Engine

    from vms.models import VM, Task

EVERY_BUS = {
    "name": "every", "ostype": "l26", "memory": "32", "freeze": "1", "vga": "none", "serial0": "socket",
    "machine": "q35", "bios": "ovmf", "efidisk0": "local:1,efitype=4m", "scsihw": "virtio-scsi-single",
    "scsi0": "local:0.0625,format=qcow2,iothread=1", "scsi1": "local:0.03125,format=raw,discard=on",
    "virtio0": "local:0.0625,iothread=1", "virtio1": "local:0.03125", "sata0": "local:0.03125",
    "ide0": "local:0.03125", "scsi5": "local:0.03125,backup=0", "ide2": "none,media=cdrom",
}  # fmt: skip
"""``freeze``: QEMU has everything open and costs nothing, because its processor stands still."""
READ = ("efidisk0", "ide0", "sata0", "scsi0", "scsi1", "virtio0", "virtio1")


def dump_folder(engine: Engine) -> Path:
    return engine.home / "local" / "dump"


def left(engine: Engine) -> list[str]:
    """What lies in the storage's dump folder."""
    folder = dump_folder(engine)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def archive(engine: Engine, task: Task) -> Path:
    """The archive a task has made, by its log."""
    line = next(line for line in lines(task).splitlines() if line.startswith("archive: "))
    return dump_folder(engine) / line.split("'")[1].rpartition("/")[2]


def unpacked(path: Path, target: Path) -> dict[str, Path]:
    """The archive's members by ordinary tar: member → file."""
    target.mkdir()
    words = ["tar", "--sparse", *(["--zstd"] if path.suffix == ".zst" else []), "-C", str(target), "-xf"]
    subprocess.run([*words, str(path)], check=True)
    return {one.name: one for one in target.iterdir()}


def raw(engine: Engine, vm: VM, key: str, target: Path) -> Path:
    """A disk of a VM nobody writes, as a raw file."""
    name = disks(engine, vm)[key]
    words = ["qemu-img", "convert", "-U", "-f", name.suffix[1:], "-O", "raw", str(name), str(target)]
    subprocess.run(words, check=True)
    return target


def disks(engine: Engine, vm: VM) -> dict[str, Path]:
    """Drive key → its image, raw ones too."""
    from snapkit import config

    found = dict(images(engine, vm))
    for key, text in config(vm).items():
        volume = text.split(",")[0]
        if volume.endswith(".raw") and key != "tpmstate0":
            found[key] = engine.home / "local" / "images" / volume.partition(":")[2]
    return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def graph(engine: Engine, vmid: int) -> str:
    """All QEMU says of its block nodes and exports, in one text; equal texts are equal graphs."""
    blocks = ask(engine, vmid, "query-block")
    nodes = sorted(ask(engine, vmid, "query-named-block-nodes", flat=True), key=lambda n: n["node-name"])
    for node in nodes:  # what was written is no part of the graph
        node.pop("image", None)
    for block in blocks:
        block.get("inserted", {}).pop("image", None)
    edges = ask(engine, vmid, "x-debug-query-block-graph")
    named = {node["id"]: node["name"] for node in edges["nodes"]}
    drawn = sorted(f"{named.get(e['parent'])} {e['name']} {named.get(e['child'])}" for e in edges["edges"])
    exports = ask(engine, vmid, "query-block-exports")
    return json.dumps([blocks, nodes, drawn, exports], sort_keys=True, indent=1)


def write(engine: Engine, vm: VM, key: str, words: str) -> None:
    """Let the drive's device write while QEMU runs: ``write -P 7 0 64k``."""
    device = {"virtio": "/machine/peripheral/{}/virtio-backend", "efidisk": "/machine/system.flash1"}
    path = device.get(key.rstrip("0123456789"), "{}").format(key)
    answer: Any = ask(
        engine, vm.vmid, "human-monitor-command", **{"command-line": f'qemu-io -d {path} "{words}"'}
    )
    assert answer == "", answer
