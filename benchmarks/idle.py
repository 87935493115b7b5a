"""What the worker costs a guest that runs: its CPU time and its memory, before and with 20 guests.

    python benchmarks/idle.py [-n GUESTS] [--seconds SECONDS]

Starts the product in a home of its own, starts and stops one guest (what the first one makes the worker
load is not a guest's cost), reads the worker's CPU time over SECONDS (60: samples are stored once a
minute), starts GUESTS through tasks and reads it again. Three of the guests are the tests' own
(``tests/guest/build.py``), booted, with an agent and a balloon driver that answer; the others are QEMU
with ``-S``, which asks as much of the worker and leaves the processors alone. Memory is what is the
worker's alone (private pages): what it shares with other Python processes costs nothing more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import installation

if TYPE_CHECKING:
    from vms.models import VM

CPU_AIM, MEMORY_AIM = 0.2, 0.3
"""Per guest: percent of one core, MiB."""
BOOTED = 3
REST = 15
"""Seconds after a start or a stop in which the worker still does what that, and not a guest, costs."""
CONFIG = {"ostype": "l26", "memory": "64", "agent": "1", "scsihw": "virtio-scsi-single", "net0": "virtio"}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """The worker over a while: percent of one core, MiB at the end of it."""

    cpu: float
    memory: float


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def private_mib(pid: int) -> float:
    """Memory that is this process's alone."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def cost(pid: int, seconds: float) -> Cost:
    """Watch a process for a while."""
    before, begun = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return Cost(100 * (cpu_seconds(pid) - before) / (time.monotonic() - begun), private_mib(pid))


def template(disk: Path) -> VM:
    """The tests' guest as a template, so that each booted guest has a disk of its own."""
    from vms.models import Node, Volume
    from vms.models.configuration import save_config
    from vms.operations.drafts import new_draft

    vm = new_draft(None, Node.objects.get(), vmid=900)
    save_config(vm, {**CONFIG, "name": "source", "memory": "192", "scsi0": "local:1,format=raw"})
    installation.do("qmcreate", vm)
    row = Volume.objects.select_related("storage").get(vmid=900)
    shutil.copyfile(disk, Path(row.storage.path) / "images" / row.name)
    Volume.objects.filter(pk=row.pk).update(size=disk.stat().st_size)
    installation.do("qmtemplate", vm)
    return vm


def booted(source: VM, vmid: int) -> VM:
    """A guest with a system in it, once its agent has answered."""
    from vms.models import VM
    from vms.operations.clone import clone

    clone(source, None, newid=vmid, params={"start": "1"})

    def told() -> bool:
        return VM.objects.filter(vmid=vmid).exclude(agent={}).exists()

    installation.until(told, f"the agent of VM {vmid}", 180)
    return VM.objects.get(vmid=vmid)


def start_guests(source: VM, count: int) -> None:
    """``count`` guests, the first :data:`BOOTED` of them with a system in them that answers."""
    for vmid in range(100, 100 + BOOTED):
        booted(source, vmid)
    for vmid in range(100 + BOOTED, 100 + count):
        mac = f"virtio=BC:24:11:00:00:{vmid - 100:02X}"
        config = {**CONFIG, "name": f"idle-{vmid}", "net0": mac, "freeze": "1"}
        installation.do("qmstart", installation.add_vm(vmid, config))


def main() -> int:
    """Command line; exit code 1 when an aim is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=20, help="guests (20)")
    parser.add_argument("--seconds", type=float, default=60, help="how long to watch, twice (60)")
    options = parser.parse_args()
    with installation.running() as house:
        worker = house.role_pid("worker")
        builder = installation.ROOT / "tests" / "guest" / "build.py"
        made = subprocess.run([sys.executable, builder], stdout=subprocess.PIPE, check=True)
        source = template(Path(json.loads(made.stdout)["disk"]))
        installation.do("qmstop", booted(source, 899))
        time.sleep(REST)
        alone = cost(worker, options.seconds)
        start_guests(source, options.n)
        time.sleep(REST)
        many = cost(worker, options.seconds)
    cpu, memory = (many.cpu - alone.cpu) / options.n, (many.memory - alone.memory) / options.n
    print(f"{'the worker':24}{'% of a core':>12}{'MiB':>8}")
    print(f"{'without guests':24}{alone.cpu:12.2f}{alone.memory:8.1f}")
    print(f"{f'with {options.n} guests':24}{many.cpu:12.2f}{many.memory:8.1f}")
    print(f"{'a guest':24}{cpu:12.3f}{memory:8.2f}")
    print(f"(aims ≤ {CPU_AIM} % of a core, ≤ {MEMORY_AIM} MiB)")
    return 0 if cpu <= CPU_AIM and memory <= MEMORY_AIM else 1


if __name__ == "__main__":
    sys.exit(main())
