"""A disk moved while its guest runs, against ``blockdev-mirror`` alone. Medians of one run.

    python benchmarks/move.py [-n COUNT] [--mib MIB]

Starts the product in a home of its own with a second storage beside ``local``, and a guest with a disk that
holds MIB of data. Then, COUNT times: moves that disk to the other storage through a task that deletes the old
volume, and does the same with a copy of that disk in a QEMU of its own, by the plainest means: ``qemu-img
create``, ``blockdev-mirror``, ``job-complete`` once both sides are the same, the old file closed and
unlinked. In turns, so that what else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import installation
from bare import PATIENCE, Talk

CONFIG = {
    "name": "bench", "ostype": "l26", "memory": "64", "scsihw": "virtio-scsi-single",
    "scsi0": "local:101/vm-101-disk-0.qcow2,iothread=1",
}  # fmt: skip
VMID = 101
SIZE = 8 << 30
AIM = 1.1


def filled(path: Path, mib: int) -> None:
    """A qcow2 with so much data that no two blocks are alike."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), str(SIZE)], check=True)
    with tempfile.NamedTemporaryFile(dir=path.parent) as raw:
        words = ["dd", "if=/dev/urandom", f"of={raw.name}", "bs=1M", f"count={mib}", "status=none"]
        subprocess.run(words, check=True)
        words = ["qemu-img", "convert", "-q", "-n", "-f", "raw", "-O", "qcow2", raw.name, str(path)]
        subprocess.run(["truncate", "-s", str(SIZE), raw.name], check=True)
        subprocess.run(words, check=True)


def node(path: Path, top: str) -> dict[str, Any]:
    """The block nodes the product opens for a target, without its throttle filter."""
    common = {"cache": {"direct": True, "no-flush": False}, "discard": "unmap", "detect-zeroes": "unmap"}
    file = {"driver": "file", "filename": str(path), "aio": "io_uring", **common}
    return {"driver": "qcow2", "node-name": top, **common, "file": file}


class Plain:
    """A QEMU that only has the disk."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder, self.at, self.number = folder, source, 0
        socket = folder / "qmp.sock"
        words = ["qemu-system-x86_64", "-machine", "pc,accel=tcg", "-nodefaults", "-S", "-display", "none"]
        words += ["-m", "64", "-qmp", f"unix:{socket},server=on,wait=off", "-object", "iothread,id=io"]
        words += [
            "-blockdev",
            json.dumps(node(source, "disk-0")),
            "-device",
            "virtio-scsi-pci,id=s,iothread=io",
        ]
        words += ["-device", "scsi-hd,drive=disk-0,id=scsi0"]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        self.talk = Talk(str(socket), time.perf_counter() + PATIENCE)

    def move(self, folder: Path) -> float:
        """Move the disk into a new file in ``folder``; answers the seconds it took."""
        begun = time.perf_counter()
        before, self.number = f"disk-{self.number}", self.number + 1
        target, top = folder / f"plain-{self.number}.qcow2", f"disk-{self.number}"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(target), str(SIZE)], check=True)
        self.good("blockdev-add", node(target, top))
        job = {"job-id": "mirror", "device": before, "target": top, "sync": "full", "auto-dismiss": False}
        self.good("blockdev-mirror", job)
        self.until("ready")
        self.good("job-complete", {"id": "mirror"})
        self.until("concluded")
        self.good("job-dismiss", {"id": "mirror"})
        self.good("blockdev-del", {"node-name": before})
        self.at.unlink()
        self.at = target
        return time.perf_counter() - begun

    def good(self, command: str, arguments: dict[str, Any]) -> Any:
        """A command that has to be obeyed."""
        reply = self.talk.ask(command, arguments)
        if "error" in reply:
            raise RuntimeError(f"{command}: {reply['error']}")
        return reply["return"]

    def until(self, status: str) -> None:
        """Wait for a state of the job."""
        while not any(job["status"] == status for job in self.good("query-jobs", {})):
            time.sleep(0.005)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def measure(count: int, mib: int) -> tuple[list[float], list[float]]:
    """Seconds of ``count`` moves each: through the product and plain."""
    ours, plain = [], []
    with installation.running() as house:
        other = house.home / "second"
        other.mkdir(mode=0o711)
        vm = prepared(house.home, other, mib)
        folders = [other, house.home / "local"]
        bare = Plain(house.home, house.home / "plain-0.qcow2")
        try:
            for turn in range(count + 1):
                names = ("second", "local")
                task = installation.do(
                    "qmmove", vm, {"disk": "scsi0", "storage": names[turn % 2], "delete": "1"}
                )
                alone = bare.move(folders[turn % 2])
                if turn and task.seconds is not None:  # the first fills caches
                    ours.append(task.seconds)
                    plain.append(alone)
        finally:
            bare.close()
    return ours, plain


def prepared(home: Path, other: Path, mib: int) -> Any:
    """The running VM with its filled disk, and a copy of that disk for the plain QEMU."""
    from vms.models import Node, Storage
    from vms.operations.base import submit_on

    node = Node.objects.get()
    Storage.objects.create(name="second", path=str(other))
    disk = home / "local" / "images" / str(VMID) / f"vm-{VMID}-disk-0.qcow2"
    disk.parent.mkdir(mode=0o711, parents=True)
    filled(disk, mib)
    shutil.copy(disk, home / "plain-0.qcow2")
    scan = submit_on("storagescan", node=node, user=None, params={"storage": "local"})
    installation.until(lambda: type(scan).objects.get(pk=scan.pk).finished, "the storage is scanned")
    vm = installation.add_vm(VMID, CONFIG)
    installation.do("qmstart", vm)
    return vm


def main() -> int:
    """Command line; exit code 1 when the ratio misses the aim."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=10, help="moves of each kind (10)")
    parser.add_argument("--mib", type=int, default=2048, help="MiB of data on the disk (2048)")
    options = parser.parse_args()
    ours, plain = measure(options.n, options.mib)
    ratio = statistics.median(ours) / statistics.median(plain)
    print(f"{f's, n={options.n}, {options.mib} MiB':24}{'median':>8}{'min':>8}{'max':>8}")
    for name, values in (("a move, by its task", ours), ("blockdev-mirror alone", plain)):
        print(f"{name:24}{statistics.median(values):8.2f}{min(values):8.2f}{max(values):8.2f}")
    print(f"ratio {ratio:.2f} (aim \u2264 {AIM})")
    return 0 if ratio <= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
