"""Block devices: waiting for one to appear, and letting QEMU's user open it.

QEMU never runs as root to reach a device: the node of the volume, and of nothing else, is given to its user.
udev leaves the owner alone when it looks at the device again.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import stat
import time
from pathlib import Path

from vms.errors import StorageError

PATIENCE = 10.0
"""Seconds udev gets to make the node of a device that was just switched on."""


async def hand_over(path: Path, volid: str, user: str | None) -> None:
    """Make an active volume's device QEMU's. ``user``: whom QEMU runs as, None for ourselves.

    Raises :class:`StorageError` when no device appears, when it is none, or when it may not be opened.
    """
    deadline = time.monotonic() + PATIENCE
    while not await asyncio.to_thread(path.exists):
        if time.monotonic() > deadline:
            raise StorageError(f"volume '{volid}' is active, but there is no device {path}")
        await asyncio.sleep(0.02)
    await asyncio.to_thread(_give, path, volid, user)


def is_device(path: Path) -> bool:
    """Whether a path leads to a block device."""
    return stat.S_ISBLK(path.stat().st_mode)


def _give(path: Path, volid: str, user: str | None) -> None:
    if not is_device(path):
        raise StorageError(f"volume '{volid}' is not used: {path} is no block device")
    if os.geteuid() != 0:
        if not os.access(path, os.R_OK | os.W_OK):
            raise StorageError(
                f"{path} may not be opened by us", hint="Let root run the worker, or join the group 'disk'."
            )
        return
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
    os.chmod(path, 0o600)
