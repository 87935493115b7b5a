"""Snapshot with memory, rollback, hibernate and wake through tasks, against the same done by hand over QMP.

    python benchmarks/snapshot.py [-n COUNT] [--mib MIB]

A guest with a qcow2 disk and MIB megabytes of memory full of random bytes (QEMU's ``loader`` device puts them
there). COUNT times, in turns: the four verbs by their tasks, from the worker's claim to the stored end; then
the same guest from the same arguments without the product: ``stop``, a ``transaction``, ``migrate fd:``,
``fsync``, ``cont`` or ``quit``, ``qemu-img snapshot -a``, ``-incoming fd:``, ``cont``.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import installation
from bare import PATIENCE, Talk, monitor_path
from start import arguments, moved

if TYPE_CHECKING:
    from house import House

    from vms.models import VM

VMID = 100
AIM = 1.15
CONFIG = {
    "name": "bench", "ostype": "l26", "scsihw": "virtio-scsi-single", "scsi0": "local:1", "vga": "none",
    "serial0": "socket",
}  # fmt: skip
VERBS = ("snapshot", "rollback", "hibernate", "wake")


class Bare:
    """The guest without the product: a process and its monitor."""

    def __init__(self, argv: Sequence[str], state: Path | None = None) -> None:
        words, descriptor = list(argv), None
        if state is not None:
            descriptor = os.open(state, os.O_RDONLY)
            words += ["-S", "-incoming", f"fd:{descriptor}"]
        place = Path(monitor_path(argv))
        place.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=() if descriptor is None else (descriptor,),
        )  # fmt: skip
        self.talk = Talk(str(place), time.perf_counter() + PATIENCE)
        if descriptor is not None:
            while self.status() == "inmigrate":
                time.sleep(0.002)
            os.close(descriptor)
            self.talk.ask("cont")

    def status(self) -> str:
        return str(self.talk.ask("query-status")["return"]["status"])

    def write(self, target: Path) -> None:
        """The memory of the guest, which stands still, into a file; on the disk when it returns."""
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self.talk.ask("migrate-set-parameters", {"max-bandwidth": 8 << 30})
        line = json.dumps({"execute": "getfd", "arguments": {"fdname": "state"}}).encode() + b"\n"
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
        self.talk.socket.sendmsg([line], [rights])
        while "event" in json.loads(self.talk.file.readline()):
            continue
        self.talk.ask("migrate", {"uri": "fd:state"})
        while self.talk.ask("query-migrate")["return"]["status"] != "completed":
            time.sleep(0.002)
        os.fsync(descriptor)
        os.close(descriptor)

    def quit(self) -> None:
        self.talk.ask("quit")
        self.talk.close()
        self.process.wait()


def timed(work: Callable[[], Any]) -> float:
    """Seconds that ``work`` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def by_hand(argv: list[str], disk: Path, state: Path) -> dict[str, float]:
    """The four verbs without the product."""
    found: dict[str, float] = {}
    guest = Bare(argv)

    def snapshot() -> None:
        guest.talk.ask("stop")
        data = {"device": "drive-scsi0", "name": "bench"}
        answer = guest.talk.ask(
            "transaction", {"actions": [{"type": "blockdev-snapshot-internal-sync", "data": data}]}
        )
        if "error" in answer:
            raise RuntimeError(str(answer["error"]))
        guest.write(state)
        guest.talk.ask("cont")

    def rollback() -> None:
        nonlocal guest
        guest.quit()
        subprocess.run(["qemu-img", "snapshot", "-a", "bench", str(disk)], check=True)
        guest = Bare(argv, state)

    def hibernate() -> None:
        guest.talk.ask("stop")
        guest.write(state)
        guest.quit()

    def wake() -> None:
        nonlocal guest
        guest = Bare(argv, state)
        state.unlink()  # it is used up

    for verb, work in zip(VERBS, (snapshot, rollback, hibernate, wake), strict=True):
        found[verb] = timed(work)
    guest.quit()
    subprocess.run(["qemu-img", "snapshot", "-d", "bench", str(disk)], check=True)
    return found


def by_tasks(vm: VM) -> dict[str, float]:
    """The four verbs through the product, from claim to end. The guest runs before and is off afterwards."""
    found: dict[str, float] = {}
    asked = (
        ("snapshot", "qmsnapshot", {"snapname": "bench", "vmstate": "1"}),
        ("rollback", "qmrollback", {"snapname": "bench"}), ("hibernate", "qmsuspend", {}),
        ("wake", "qmstart", {}),
    )  # fmt: skip
    for verb, type_, params in asked:
        task = installation.do(type_, vm, params)
        if task.seconds is None:
            raise RuntimeError(f"{task.label} has no end")
        found[verb] = task.seconds
    installation.do("qmdelsnapshot", vm, {"snapname": "bench"})
    installation.do("qmstop", vm)
    return found


def measure(count: int, mib: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds by verb: through tasks, and by hand."""
    ours: dict[str, list[float]] = {verb: [] for verb in VERBS}
    bare: dict[str, list[float]] = {verb: [] for verb in VERBS}
    with installation.running() as house:
        vm = made(config(house, mib))
        place = Path(tempfile.mkdtemp(prefix="pvb-", dir="/tmp"))
        disk = house.home / "local" / "images" / str(VMID) / f"vm-{VMID}-disk-0.qcow2"
        try:
            for turn in range(count + 1):
                installation.do("qmstart", vm)
                argv = arguments(house.guest_pid(VMID) or 0)
                mine = by_tasks(vm)
                alone = by_hand(moved(argv, house, vm, place), disk, disk.with_name("bare.state"))
                for verb in VERBS if turn else ():  # the first turn fills caches
                    ours[verb].append(mine[verb])
                    bare[verb].append(alone[verb])
        finally:
            shutil.rmtree(place)
    return ours, bare


def made(mapping: dict[str, str]) -> VM:
    """The VM with its disk."""
    from vms.models import Node
    from vms.models.configuration import save_config
    from vms.operations.drafts import new_draft

    vm = new_draft(None, Node.objects.get(), vmid=VMID)
    save_config(vm, mapping)
    installation.do("qmcreate", vm)
    return vm


def config(house: House, mib: int) -> dict[str, str]:
    """The machine: twice the memory that is filled, from an address no firmware uses."""
    content = house.home / "random.bin"
    content.write_bytes(os.urandom(mib << 20))
    content.chmod(0o644)
    words = ["-device", f"loader,file={content},addr=0x2000000,force-raw=on"]
    return {**CONFIG, "memory": str(mib + 128), "args": shlex.join(words)}


def main() -> int:
    """Command line; exit code 1 when a ratio misses the aim."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=7, help="turns (7)")
    parser.add_argument("--mib", type=int, default=1024, help="megabytes of memory in use (1024)")
    options = parser.parse_args()
    ours, bare = measure(options.n, options.mib)
    title = f"seconds, n={options.n}, {options.mib} MiB"
    print(f"{title:28}{'tasks':>8}{'by hand':>9}{'ratio':>7}{'spread':>16}")
    missed = False
    for verb in VERBS:
        mine, alone = statistics.median(ours[verb]), statistics.median(bare[verb])
        missed |= mine / alone > AIM
        spread = f"{min(ours[verb]):.2f} … {max(ours[verb]):.2f}"
        print(f"{verb:28}{mine:8.2f}{alone:9.2f}{mine / alone:7.2f}{spread:>16}")
    print(f"aim ≤ {AIM}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
