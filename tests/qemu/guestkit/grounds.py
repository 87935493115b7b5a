"""What storages are tested on: a file system of its own in a file, block devices, or what stands for them.

Whether this machine has loop devices and may mount is found out by trying. Where it may not, a folder stands
for a mounted file system, copying for sharing blocks and a plain file for a device.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = 2 << 30
MAKERS = {"btrfs": ["mkfs.btrfs", "-q"], "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"]}


def attach(file: Path) -> str:
    """A loop device on a file. Raises :class:`OSError` where there are none."""
    for _ in range(10):  # another process may take the free one first
        found = subprocess.run(["losetup", "--find", "--show", str(file)], capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.strip()
    raise OSError(found.stderr)


def detach(device: str) -> None:
    """End a loop device of ours."""
    subprocess.run(["losetup", "--detach", device], check=True)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder any user may cross, all the way down."""
    made = Path(tempfile.mkdtemp(prefix="pvg-", dir="/tmp"))
    made.chmod(0o711)
    try:
        yield made
    finally:
        shutil.rmtree(made)


def loops(folder: Path) -> bool:
    """Whether this machine lets us use loop devices."""
    if os.geteuid() != 0 or not shutil.which("losetup"):
        return False
    file = folder / "probe"
    file.write_bytes(bytes(1 << 20))
    try:
        device = attach(file)
    except OSError:
        return False
    finally:
        file.unlink()
    try:
        return os.path.exists(device)
    finally:
        detach(device)


@contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path | None]:
    """A new file system of that kind, in a file below ``folder`` and mounted; None where that cannot be."""
    place, file = folder / kind, folder / f"{kind}.img"
    place.mkdir()
    if not loops(folder) or not shutil.which(MAKERS[kind][0]):
        yield None
        return
    file.touch()
    os.truncate(file, SIZE)
    subprocess.run([*MAKERS[kind], str(file)], check=True, stdout=subprocess.DEVNULL)
    device = attach(file)
    try:
        if subprocess.run(["mount", "-t", kind, device, str(place)], capture_output=True).returncode:
            yield None
            return
        place.chmod(0o711)
        try:
            yield place
        finally:
            subprocess.run(["umount", str(place)], check=True)
    finally:
        detach(device)
        file.unlink()
