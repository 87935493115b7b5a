"""Task claimed → guest running, against the very same argument list run bare. Medians of one run.

    python benchmarks/start.py [-n COUNT]

Starts the product in a home of its own, defines a VM as the wizard would for Linux, and then, COUNT times
(at least 10): starts it through a task, notes the arguments QEMU really got, stops it, and runs those
arguments bare (``benchmarks/bare.py``) with the run folder moved elsewhere. Interleaved, so that what else
the machine does meets both alike. "Running" is QEMU's own first answer to the worker; "ended" is later by the
bookkeeping that makes the state visible to everybody.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import installation
from bare import bare_start

if TYPE_CHECKING:
    from house import House

    from vms.models import VM

CONFIG = {
    "name": "bench",
    "ostype": "l26",
    "cores": "2",
    "memory": "512",
    "scsihw": "virtio-scsi-single",
    "net0": "virtio=BC:24:11:00:00:01",
    "agent": "1",
}
VMID = 100
AIM = 1.25


def arguments(pid: int) -> list[str]:
    """What that process was started with."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")


def moved(argv: list[str], house: House, vm: VM, place: Path) -> list[str]:
    """The same arguments with the VM's run folder at ``place``; its sockets' folders are made."""
    folder = str(house.home / "run" / "vm" / str(vm.vmid))
    for name in ("qmp", "console", "agent", "tpm"):
        (place / name).mkdir(exist_ok=True)
    return [word.replace(folder, str(place)) for word in argv]


def measure(count: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds of ``count`` starts: through the product until running, until the task's end, and bare."""
    ours, whole, bare = [], [], []
    with installation.running() as house:
        vm = installation.add_vm(VMID, CONFIG)
        place = Path(tempfile.mkdtemp(prefix="pvb-", dir="/tmp"))
        try:
            for turn in range(count + 1):
                task = installation.do("qmstart", vm)
                pid = house.guest_pid(VMID)
                vm.refresh_from_db()
                if pid is None or task.seconds is None or task.started is None:
                    raise RuntimeError("the task ended well but QEMU does not run")
                argv, vm_ready = arguments(pid), vm.launch["observed"]
                installation.do("qmstop", vm)
                alone = bare_start(moved(argv, house, vm, place))
                if turn:  # the first start fills caches
                    ours.append(vm_ready - task.started.timestamp())
                    whole.append(task.seconds)
                    bare.append(alone)
        finally:
            shutil.rmtree(place)
    return ours, whole, bare


def line(name: str, seconds: list[float]) -> str:
    """One row of the table, in milliseconds."""
    values = sorted(value * 1000 for value in seconds)
    return f"{name:24}{statistics.median(values):8.1f}{values[0]:8.1f}{values[-1]:8.1f}"


def main() -> int:
    """Command line; exit code 1 when the ratio misses the aim."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=10, help="starts of each kind (10)")
    count = max(10, parser.parse_args().n)
    ours, whole, bare = measure(count)
    ratio = statistics.median(ours) / statistics.median(bare)
    print(f"{f'ms, n={count}':24}{'median':>8}{'min':>8}{'max':>8}")
    print(line("task claimed → running", ours))
    print(line("task claimed → ended", whole))
    print(line("the same argv, bare", bare))
    print(f"ratio {ratio:.2f} (aim ≤ {AIM})")
    return 0 if ratio <= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
