"""A linked clone and its start, and a warm clone until its agent answers, against the same done by hand.

    python benchmarks/clone.py [-n COUNT] [--only linked|warm]

COUNT times each, in turns. Linked: from the worker's claim of one task (clone and start) to QEMU's first
"running", against ``qemu-img create -b`` and the very same arguments run bare. Warm: from the claim until the
clone's agent answers, against ``qemu-img create -b``, the same arguments with ``-incoming fd:``, ``cont`` and
the first answer of the agent; the guest is the tests' own (``tests/guest/build.py``), booted once.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import installation
from bare import bare_start
from snapshot import Bare
from start import arguments, line, moved

if TYPE_CHECKING:
    from house import House

    from vms.models import VM

SOURCES, CLONE = {"linked": 900, "warm": 901}, 101
AIMS = {"linked": 1.25, "warm": 2.0}
CONFIG = {
    "name": "bench", "ostype": "l26", "agent": "1", "scsihw": "virtio-scsi-single", "machine": "q35",
    "net0": "virtio",
}  # fmt: skip
LINKED = {**CONFIG, "cores": "2", "memory": "512", "scsi0": "local:20,format=qcow2"}
WARM = {**CONFIG, "memory": "192", "scsi0": "local:1,format=qcow2"}


class Times:
    """What was measured, in seconds."""

    def __init__(self) -> None:
        self.claimed: list[float] = []
        self.asked: list[float] = []
        self.bare: list[float] = []

    def add(self, claimed: float, asked: float, bare: float) -> None:
        self.claimed.append(claimed)
        self.asked.append(asked)
        self.bare.append(bare)

    @property
    def ratio(self) -> float:
        return statistics.median(self.claimed) / statistics.median(self.bare)


def template(vmid: int, config: dict[str, str], disk: Path | None = None) -> VM:
    """A template; ``disk`` becomes the contents of its first one."""
    from vms.models import Node, Volume
    from vms.models.configuration import save_config
    from vms.operations.drafts import new_draft

    vm = new_draft(None, Node.objects.get(), vmid=vmid)
    save_config(vm, config)
    installation.do("qmcreate", vm)
    if disk is not None:
        row = Volume.objects.select_related("storage").get(vmid=vmid)
        target = Path(row.storage.path) / "images" / row.name
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, target], check=True)
        Volume.objects.filter(pk=row.pk).update(size=disk.stat().st_size)
    installation.do("qmtemplate", vm)
    return vm


def cloned(source: VM, params: dict[str, str], key: str) -> tuple[VM, float, float]:
    """A clone that runs, and the seconds from the claim and from the asking to what its launch record calls
    ``key``."""
    from vms.models import VM as Model
    from vms.operations.clone import clone

    begun = time.time()
    task = clone(source, None, newid=CLONE, params=params)

    def finished() -> bool:
        task.refresh_from_db()
        return task.finished

    installation.until(finished, task.label)
    if task.status not in (task.Status.OK, task.Status.WARNINGS) or task.started is None:
        raise RuntimeError(f"{task.label}: {task.message}\n{task.detail}")
    vm = Model.objects.get(vmid=CLONE)
    reached = float(vm.launch[key])
    return vm, reached - task.started.timestamp(), reached - begun


def gone(vm: VM) -> None:
    """The clone's end."""
    from vms.operations.base import submit

    installation.do("qmstop", vm)
    task = submit("qmdestroy", vm=vm, user=None, params={"now": "1"})

    def finished() -> bool:
        task.refresh_from_db()
        return task.finished

    installation.until(finished, task.label)


def overlay(house: House, base: str) -> Path:
    """The clone's disk by hand, over the same base; its folder."""
    folder = house.home / "local" / "images" / str(CLONE)
    folder.mkdir()
    target = folder / f"vm-{CLONE}-disk-0.qcow2"
    words = ["-q", "-f", "qcow2", "-F", "qcow2", "-b", f"../{base}", str(target)]
    subprocess.run(["qemu-img", "create", *words], check=True)
    return folder


def linked(house: House, count: int, place: Path) -> Times:
    """Linked clone and start."""
    times, source = Times(), template(SOURCES["linked"], LINKED)
    for turn in range(count + 1):
        vm, claimed, asked = cloned(source, {"start": "1"}, "observed")
        argv = moved(arguments(house.guest_pid(CLONE) or 0), house, vm, place)
        gone(vm)
        begun = time.perf_counter()
        folder = overlay(house, f"{source.vmid}/base-{source.vmid}-disk-0.qcow2")
        made = time.perf_counter() - begun
        alone = made + bare_start(argv)
        shutil.rmtree(folder)
        if turn:  # the first one fills caches
            times.add(claimed, asked, alone)
    return times


def answers(path: Path) -> None:
    """Wait for the first answer of the guest agent behind a socket."""
    while True:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(0.5)
        try:
            link.connect(str(path))
            link.sendall(
                b"\xff" + json.dumps({"execute": "guest-sync", "arguments": {"id": 7}}).encode() + b"\n"
            )
            if b"return" in link.recv(200):
                return
        except (TimeoutError, OSError):
            continue
        finally:
            link.close()


def warm(house: House, count: int, place: Path) -> Times:
    """Warm clone until its agent answers."""
    builder = installation.ROOT / "tests" / "guest" / "build.py"
    pieces = json.loads(subprocess.run([sys.executable, builder], stdout=subprocess.PIPE, check=True).stdout)
    times, source = Times(), template(SOURCES["warm"], WARM, Path(pieces["disk"]))
    installation.do("qmwarm", source)
    images = house.home / "local" / "images"
    state = images / str(source.vmstate.name if source.vmstate else "")
    for turn in range(count + 1):
        vm, claimed, asked = cloned(source, {"warm": "1"}, "answered")
        argv = moved(arguments(house.guest_pid(CLONE) or 0), house, vm, place)
        gone(vm)
        argv = argv[: argv.index("-incoming") - 1]
        begun = time.perf_counter()
        folder = overlay(house, f"{source.vmid}/base-{source.vmid}-disk-1.qcow2")
        guest = Bare(argv, state)
        answers(place / "agent" / "qga.sock")
        alone = time.perf_counter() - begun
        guest.quit()
        shutil.rmtree(folder)
        if turn:
            times.add(claimed, asked, alone)
    return times


def main() -> int:
    """Command line; exit code 1 when a ratio misses its aim."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=10, help="clones of each kind (10)")
    parser.add_argument("--only", choices=tuple(AIMS), help="only this kind")
    options = parser.parse_args()
    wanted = {
        kind: work for kind, work in (("linked", linked), ("warm", warm)) if options.only in (None, kind)
    }
    place = Path(tempfile.mkdtemp(prefix="pvb-", dir="/tmp"))
    try:
        with installation.running() as house:
            found = {kind: work(house, options.n, place) for kind, work in wanted.items()}
    finally:
        shutil.rmtree(place)
    for kind, times in found.items():
        print(f"{f'{kind}, ms, n={options.n}':24}{'median':>8}{'min':>8}{'max':>8}")
        print(line("claimed → there", times.claimed))
        print(line("asked → there", times.asked))
        print(line("by hand", times.bare))
        print(f"ratio {times.ratio:.2f} (aim ≤ {AIMS[kind]})\n")
    missed = any(times.ratio > AIMS[kind] for kind, times in found.items())
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
