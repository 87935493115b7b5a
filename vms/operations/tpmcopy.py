"""The TPM's state in a snapshot: a copy of its emulator's file, beside the saved memories."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from vms.errors import StateError, StorageError
from vms.models import Volume
from vms.operations.base import Context
from vms.operations.snapdisks import Held, driver_of
from vms.operations.volumes import keep_volume
from vms.qemu import statefile, tpm

TRIES = 20
"""Looks at the file until two in a row are the same: the emulator may be at its last command."""


def name_of(snapshot: str) -> str:
    """What the copy is called among the saved memories; no snapshot can be called so."""
    return f"{snapshot}.tpm"


async def copy(ctx: Context, held: Held, snapshot: str) -> Volume:
    """Keep a copy of the TPM's state; its guest stands still or is off."""
    driver = driver_of(ctx, held.volume)
    content = await settled(driver.path(held.volume.volid))
    found = await driver.allocate_state(held.volume.vmid, name_of(snapshot), len(content))
    await asyncio.to_thread(_write, found.path, content, held.volume.size)
    return await ctx.db(keep_volume, held.volume.storage, ctx.vm.node, await driver.find(found.volid))


async def put_back(ctx: Context, held: Held, kept: Volume) -> None:
    """Make the TPM's state what the copy holds; no emulator runs."""
    content = await asyncio.to_thread(_read, driver_of(ctx, kept).path(kept.volid))
    place = driver_of(ctx, held.volume).path(held.volume.volid)
    await asyncio.to_thread(_write, place, content, held.volume.size)


async def settled(path: Path) -> bytes:
    """The state in the file at ``path``, zeroes at its end left out, while its guest stands still or is off.

    Raises :class:`StateError` when it does not come to rest.
    """
    before = await asyncio.to_thread(_read, path)
    for _ in range(TRIES):
        await asyncio.sleep(0.005)
        after = await asyncio.to_thread(_read, path)
        if after == before:
            return after
        before = after
    raise StateError("the TPM does not come to rest; its state cannot be copied now")


def _read(path: Path) -> bytes:
    descriptor = statefile.opened(path)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(4 * tpm.STATE_SIZE)
    return content.rstrip(b"\0")


def _write(path: Path, content: bytes, size: int) -> None:
    """Make ``content`` all that a file holds, zeroes up to ``size`` behind it. It is on the disk then.

    It takes the place of what was there, which a full storage does not have twice.
    """
    descriptor = statefile.opened(path, writing=True, keep=True)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.truncate(len(content))
            file.truncate(max(size, len(content)))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
