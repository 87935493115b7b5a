"""Resize: a disk grows, while its guest runs or not. It never shrinks: what lies at its end would be lost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from vms.errors import ConfigError, MonitorError, OutcomeUnknown, StateError
from vms.models import VM
from vms.models.configuration import size_text
from vms.models.notes import note_work
from vms.operations.base import Context, Operation, Params, operation
from vms.operations.drives import (
    FIRMWARE,
    Drive,
    authorise_disk,
    check_defined,
    check_digest,
    driver_of,
    find_drive,
    put_volume,
    remember,
)
from vms.qemu import blocknodes
from vms.schema.option import opt
from vms.schema.types import LARGEST_SIZE, Size

BLOCK = 4096
"""Bytes. A disk ends with a whole one (:func:`vms.storage.making.whole_blocks`)."""
NOTE = "resize"
"""In ``VM.draft`` while a disk grows: the bytes it is to have."""


def size_change(text: str) -> str:
    """``+10G`` (more than now) or ``40G`` (in all), as written. Raises ``ValueError``."""
    if not re.fullmatch(r"\+?[0-9]{1,15}(\.[0-9]{1,6})?[KMGT]?", text):
        raise ValueError("is no size: write 40G for so much in all, or +8G for so much more")
    if Size.parse(text.removeprefix("+")).bytes > LARGEST_SIZE:
        raise ValueError("is larger than any disk")
    return text


@dataclass(frozen=True, kw_only=True)
class ResizeParams(Params):
    """Which disk, and how large it is to be."""

    disk: str = opt("Disk", required=True, max_length=12, help="The disk's key, such as scsi0.")
    size: str = opt(
        "Size", required=True, check=size_change, max_length=24,
        help="+N for so much more than now, N for so much in all; with K, M, G or T.",
    )  # fmt: skip
    digest: str | None = opt(
        "Digest", max_length=64, hidden=True,
        help="Of the configuration the change was made from; refused when that is no longer the one.",
    )  # fmt: skip


@operation("resize", privilege="VM.Config.Disk", label="Resize", params=ResizeParams)
class Resize(Operation):
    """Let a disk grow."""

    def authorise(self, user: Any, vm: VM, params: Any) -> None:
        disk = vm.disks.filter(slot=params.disk).select_related("volume__storage").first()
        storages = [disk.volume.storage.name] if disk is not None and disk.volume is not None else []
        authorise_disk(user, vm, *storages)

    def check(self, vm: VM, params: Any) -> None:
        check_defined(vm)
        check_digest(vm, params.digest)
        drive = wanted_drive(vm, params)
        wanted_size(drive.volume.size, params.size)

    def title(self, vm: VM, params: Any) -> str:
        return f"Resize {params.disk} of {vm.vmid} ({vm.display_name})"

    async def run(self, ctx: Context) -> None:
        drive = await ctx.db(wanted_drive, ctx.vm, ctx.params)
        driver = driver_of(ctx, drive.volume.storage)
        before = (await driver.find(drive.volume.volid)).size
        size = wanted_size(before, ctx.params.size)
        if size == before:
            await ctx.log(f"{drive.slot}: has {size_text(size)} already")
        await driver.check_space(size - before)
        await remember(ctx, {NOTE: size})
        ctx.step("noted")
        if ctx.services.guest(ctx.vm.vmid) is not None:
            await grow_live(ctx, drive, size)
        else:
            await driver.resize(drive.volume.volid, size)
        ctx.step("resized")
        await store_size(ctx, drive)

    async def resume(self, ctx: Context) -> None:
        """A disk that has grown stays so; the configuration says what it is now."""
        drive = await ctx.db(wanted_drive, ctx.vm, ctx.params)
        wanted = ctx.vm.draft.get(NOTE)
        now = await store_size(ctx, drive)
        if wanted is None or now < wanted:
            raise StateError(
                f"The worker was restarted before {drive.slot} was resized. It has {size_text(now)}.",
                hint="Resize it again.",
            )


def wanted_drive(vm: VM, params: Any) -> Drive:
    """The disk that shall grow. Raises :class:`ConfigError` for one that cannot."""
    if params.disk in FIRMWARE:
        raise ConfigError("disk", f"'{params.disk}' has the size its firmware wants; it cannot be resized")
    drive = find_drive(vm, params.disk)
    if drive.is_seed:
        raise ConfigError("disk", "you can't resize a cdrom")
    if drive.is_unused:
        raise ConfigError("disk", f"'{drive.slot}' is in no drive; attach it first")
    return drive


def wanted_size(now: int, text: str) -> int:
    """Bytes the disk is to have, whole blocks. Raises :class:`ConfigError` for less than ``now``."""
    size = Size.parse(text.removeprefix("+")).bytes + (now if text.startswith("+") else 0)
    size = (size + BLOCK - 1) // BLOCK * BLOCK
    if size < now:
        raise ConfigError(
            "size", f"shrinking disks is not supported: it has {size_text(now)}, {size_text(size)} is less"
        )
    if size > LARGEST_SIZE:
        raise ConfigError("size", "is larger than any disk")
    return size


async def grow_live(ctx: Context, drive: Drive, size: int) -> None:
    """Let the disk of a running guest grow; the guest is told by its controller."""
    driver = driver_of(ctx, drive.volume.storage)
    if not driver.files:  # the volume first; QEMU then looks how large it is
        size = (await driver.resize(drive.volume.volid, size)).size
    try:
        nodes = await blocknodes.nodes_of(ctx.monitor, drive.slot)
        await ctx.monitor.execute("block_resize", {"node-name": nodes.top, "size": size})
    except MonitorError as error:
        raise StateError(f"QEMU did not resize {drive.slot}: {error.description}") from error
    except OutcomeUnknown as error:
        raise StateError(f"{drive.slot} may have grown or not: {error}", hint="Run a rescan.") from error


async def store_size(ctx: Context, drive: Drive) -> int:
    """Make the configuration say the size the disk has; answers it."""
    found = await driver_of(ctx, drive.volume.storage).find(drive.volume.volid)
    live = ctx.services.guest(ctx.vm.vmid) is not None
    await ctx.db(lambda: put_volume(ctx.vm, drive, drive.volume.storage, found, live=live))
    await ctx.db(note_work, ctx.vm, {})
    await ctx.log(f"{drive.slot}: has {size_text(found.size)} now")
    return int(found.size)
