"""A backup's copy against ``qemu-img convert`` of the same disk, and how long a guest's agent is held for it.

    python benchmarks/backup.py [-n COUNT] [--mib MIB] [--pack]

COUNT times, in turns: ``vzdump`` of a running VM (a disk behind an I/O thread, MIB megabytes of random
data), the whole task until its archive is safe on the disk; then ``qemu-img convert`` of the same disk to a
raw file, and its sync. After that COUNT backups of a guest that writes, with its agent: the seconds its log
tells that its file systems stood still. The guest is the tests' own (``tests/guest/build.py``).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import installation
from move import filled

if TYPE_CHECKING:
    from house import House

    from vms.models import VM

VMID, GUEST = 101, 102
AIM, STILL = 0.8, 0.2
CONFIG = {
    "name": "bench", "memory": "64", "vga": "none", "freeze": "1", "scsihw": "virtio-scsi-single",
    "scsi0": f"local:{VMID}/vm-{VMID}-disk-0.qcow2,iothread=1",
}  # fmt: skip
WRITES = "while :; do dd if=/dev/urandom of=/dev/sda bs=64k count=200 conv=fsync; done >/dev/null 2>&1 &"


def told(task: Any, pattern: str) -> float:
    """A number from a task's log."""
    text = "\n".join(line.text for line in task.lines.all())
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"the log does not tell it:\n{text}")
    return float(found[1])


def copies(house: House, count: int, mib: int, compress: str) -> tuple[list[float], list[float]]:
    """Seconds of each copy: the task's and ``qemu-img``'s."""
    vm, disk = prepared(house.home, mib)
    ours, plain = [], []
    target = house.home / "local" / "dump" / "plain.raw"
    for turn in range(count + 1):
        begun = time.perf_counter()
        installation.do("vzdump", vm, {"compress": compress})
        taken = time.perf_counter() - begun
        begun = time.perf_counter()
        words = ["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", str(disk), str(target)]
        subprocess.run(words, check=True)
        descriptor = os.open(target, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        alone = time.perf_counter() - begun
        for path in (house.home / "local" / "dump").iterdir():
            path.unlink()
        if turn:  # the first fills caches
            ours.append(taken)
            plain.append(alone)
    installation.do("qmstop", vm)
    return ours, plain


def prepared(home: Path, mib: int) -> tuple[VM, Path]:
    """The VM, QEMU having its filled disk open, and the disk."""
    from vms.models import Node
    from vms.operations.base import submit_on

    disk = home / "local" / "images" / str(VMID) / f"vm-{VMID}-disk-0.qcow2"
    disk.parent.mkdir(mode=0o711, parents=True)
    filled(disk, mib)
    scan = submit_on("storagescan", node=Node.objects.get(), user=None, params={"storage": "local"})
    installation.until(lambda: type(scan).objects.get(pk=scan.pk).finished, "the storage is scanned")
    vm = installation.add_vm(VMID, CONFIG)
    installation.do("qmstart", vm)
    return vm, disk


def frozen(house: House, count: int) -> list[float]:
    """Seconds the file systems of a guest that writes stood still."""
    from vms.models import Node
    from vms.models.configuration import save_config
    from vms.operations import agent
    from vms.operations.drafts import new_draft

    builder = installation.ROOT / "tests" / "guest" / "build.py"
    pieces = json.loads(subprocess.run([sys.executable, builder], stdout=subprocess.PIPE, check=True).stdout)
    for name in ("kernel", "initrd"):
        (house.home / name).write_bytes(Path(pieces[name]).read_bytes())
        (house.home / name).chmod(0o644)
    words = ["-kernel", f"{house.home}/kernel", "-initrd", f"{house.home}/initrd", "-append"]
    words.append("console=tty0 console=ttyS0,115200 quiet panic=5")
    vm = new_draft(None, Node.objects.get(), vmid=GUEST)
    save_config(
        vm,
        {"name": "writes", "ostype": "l26", "memory": "256", "agent": "1", "args": shlex.join(words),
         "scsihw": "virtio-scsi-single", "scsi0": "local:0.25,iothread=1"},
    )  # fmt: skip
    installation.do("qmcreate", vm)
    installation.do("qmstart", vm)

    def up() -> bool:
        vm.refresh_from_db()
        return bool(vm.agent.get("up"))

    installation.until(up, "the guest's agent is up", 120)
    asked = agent.ask("exec", vm=vm, user=None, argv=["/bin/sh", "-c", WRITES], input=b"", timeout=0)
    installation.until(lambda: type(asked).objects.get(pk=asked.pk).finished, "the guest writes")
    tasks = [installation.do("vzdump", vm, {"compress": "zstd"}) for _ in range(count)]
    installation.do("qmstop", vm)
    return [told(task, r"thawed after ([0-9.]+) s") for task in tasks]


def main() -> int:
    """Command line; exit code 1 when an aim is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=7, help="turns (7)")
    parser.add_argument("--mib", type=int, default=1024, help="MiB of data on the disk (1024)")
    parser.add_argument("--pack", action="store_true", help="pack the archives with zstd")
    options = parser.parse_args()
    with installation.running() as house:
        ours, plain = copies(house, options.n, options.mib, "zstd" if options.pack else "0")
        still = frozen(house, options.n)
    ratio = statistics.median(plain) / statistics.median(ours)
    print(f"{f's, n={options.n}, {options.mib} MiB':30}{'median':>8}{'min':>8}{'max':>8}")
    rows = (("a backup, its whole task", ours), ("qemu-img convert alone", plain), ("frozen", still))
    for name, values in rows:
        print(f"{name:30}{statistics.median(values):8.2f}{min(values):8.2f}{max(values):8.2f}")
    print(f"throughput ratio {ratio:.2f} (aim \u2265 {AIM}); frozen: aim \u2264 {STILL}")
    return 0 if ratio >= AIM and statistics.median(still) <= STILL else 1


if __name__ == "__main__":
    sys.exit(main())
