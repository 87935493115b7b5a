"""A full clone on a file system that shares blocks against ``cp --reflink=always`` of the same disk.

    python benchmarks/reflink.py [-n COUNT] [--mib MIB] [--kind btrfs|xfs]

COUNT times each, in turns, on a file system of its own in a file, mounted by a loop device (root only). Ours
is one task, from the worker's claim to its end, and the driver's copy alone; plain is ``cp`` and ``sync`` of
its copy, because ours is on the disk when it is told of.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import installation

VMID = 100
MAKERS = {"btrfs": ["mkfs.btrfs", "-q"], "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"]}
CONFIG = {"name": "bench", "ostype": "l26", "memory": "64", "scsihw": "virtio-scsi-single"}


@contextmanager
def mounted(kind: str, size: int) -> Iterator[Path]:
    """A new file system; unmounted and gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="pvr-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)
        image, place = folder / "image", folder / "mnt"
        image.touch()
        os.truncate(image, size)
        place.mkdir()
        subprocess.run([*MAKERS[kind], str(image)], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
        place.chmod(0o711)
        try:
            yield place
        finally:
            subprocess.run(["umount", str(place)], check=True)


def plain(disk: Path, target: Path) -> float:
    """Seconds of ``cp --reflink=always`` and ``sync``."""
    began = time.perf_counter()
    subprocess.run(["cp", "--reflink=always", str(disk), str(target)], check=True)
    subprocess.run(["sync", str(target)], check=True)
    took = time.perf_counter() - began
    target.unlink()
    return took


async def _nobody(fraction: float) -> None:
    return


async def alone(root: Path, volid: str) -> float:
    """Seconds of the driver's copy, without a task around it."""
    from vms.storage import open_storage

    driver = open_storage("fast", {"type": "btrfs", "path": str(root)}, user="pvelite")
    source = await driver.find(volid)
    began = time.perf_counter()
    made = await driver.copy(998, source, "raw", _nobody)
    took = time.perf_counter() - began
    await driver.free(made.volid)
    return took


def measure(count: int, mib: int, kind: str) -> dict[str, list[float]]:
    """Seconds of ``count`` copies each way."""
    import asyncio

    found: dict[str, list[float]] = {"task": [], "driver": [], "cp": []}
    with mounted(kind, (mib + 2048) << 20) as place, installation.running():
        from vms.models import VM, Node, Storage, Volume
        from vms.models.configuration import save_config
        from vms.operations.base import submit
        from vms.operations.clone import clone
        from vms.operations.drafts import new_draft

        Storage.objects.create(name="fast", kind="btrfs", path=str(place), content=["images"])
        vm = new_draft(None, Node.objects.get(), vmid=VMID)
        save_config(vm, {**CONFIG, "scsi0": f"fast:{mib / 1024:.3f},format=raw"})
        installation.do("qmcreate", vm)
        volume = Volume.objects.select_related("storage").get(vmid=VMID)
        disk = place / "images" / volume.name
        subprocess.run(
            [
                "dd",
                "if=/dev/urandom",
                f"of={disk}",
                "bs=1M",
                f"count={mib}",
                "conv=notrunc,fsync",
                "status=none",
            ],
            check=True,
        )
        for turn in range(count + 1):
            task = clone(VM.objects.get(vmid=VMID), None, newid=101, params={"full": "1"})
            installation.until(lambda task=task: type(task).objects.get(pk=task.pk).finished, "the clone")
            task.refresh_from_db()
            driver = asyncio.run(alone(place, volume.volid))
            bare = plain(disk, place / "plain.raw")
            if turn and task.seconds is not None:  # the first fills caches
                for key, value in zip(found, (task.seconds, driver, bare), strict=True):
                    found[key].append(value)
            gone = submit("qmdestroy", vm=VM.objects.get(vmid=101), user=None, params={"now": "1"})
            installation.until(lambda gone=gone: type(gone).objects.get(pk=gone.pk).finished, "its end")
    return found


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=10, help="copies of each kind (10)")
    parser.add_argument("--mib", type=int, default=1024, help="MiB of data on the disk (1024)")
    parser.add_argument("--kind", choices=sorted(MAKERS), default="btrfs", help="the file system")
    options = parser.parse_args()
    found = measure(options.n, options.mib, options.kind)
    print(f"{f'ms, n={options.n}, {options.mib} MiB':26}{'median':>8}{'min':>8}{'max':>8}")
    names = {
        "task": "a full clone, by its task",
        "driver": "the driver's copy",
        "cp": "cp --reflink and sync",
    }
    for key, values in found.items():
        each = [value * 1000 for value in values]
        print(f"{names[key]:26}{statistics.median(each):8.1f}{min(each):8.1f}{max(each):8.1f}")
    base = statistics.median(found["cp"])
    for key in ("task", "driver"):
        print(f"{names[key]}: ratio {statistics.median(found[key]) / base:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
