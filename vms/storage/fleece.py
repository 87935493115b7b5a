"""Temporary images for what a guest overwrites while it is backed up: files that have no name.

They exist as long as QEMU has them open, so that whatever happens none is left behind.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

from vms.errors import StorageError
from vms.storage import image

_NAME = ".fleece-"
_OPEN = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


async def make(folder: Path, vmid: int, size: int) -> int:
    """The descriptor of an empty qcow2 of ``size`` bytes on the file system of ``folder``; close it after
    use. Raises :class:`StorageError`."""
    path = folder / f"{_NAME}{vmid}-{secrets.token_hex(8)}.qcow2"
    descriptor = -1
    try:
        await asyncio.to_thread(folder.mkdir, mode=0o711, parents=True, exist_ok=True)
        descriptor = os.open(path, _OPEN, 0o600)
        await image.create(path, size, "qcow2")
    except BaseException as error:
        if descriptor >= 0:
            os.close(descriptor)
        if isinstance(error, OSError):
            raise StorageError(f"no fleecing image can be made in {folder}: {error.strerror}") from error
        raise
    finally:
        path.unlink(missing_ok=True)
    return descriptor


def clear(folder: Path, vmid: int) -> None:
    """Remove what a worker left that died in the instant between making one and taking its name away."""
    for path in folder.glob(f"{_NAME}{vmid}-*.qcow2"):
        path.unlink(missing_ok=True)
