"""Writing a backup's archive, and what becomes of it once it is whole."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version
from typing import Any

from vms.backup import manifest
from vms.backup.archive import ArchiveWriter, Progress, Source
from vms.backup.manifest import ArchivedDisk, Manifest, member_of
from vms.backup.nbd import Extent
from vms.config import retention
from vms.errors import VMError
from vms.models import Storage
from vms.operations import backupread, prune
from vms.operations.backupplan import Plan
from vms.operations.backupread import Reading
from vms.operations.backupview import View
from vms.operations.base import Context
from vms.operations.drives import driver_of
from vms.operations.volumes import keep_volume
from vms.storage import dump
from vms.tasks import notify

KIB = 1024
TELL = 1.0
"""Seconds between two words of progress."""


class Diary:
    """The task's log, kept for the file beside the archive, too."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._lines: list[str] = []

    async def log(self, text: str) -> None:
        """Add a line."""
        self._lines.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")
        await self._ctx.log(text)

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self._lines)


class Counted:
    """A source whose allocation was asked for already."""

    def __init__(self, source: Source, extents: list[Extent]) -> None:
        self._source = source
        self._extents = extents

    @property
    def size(self) -> int:
        return self._source.size

    async def extents(self) -> list[Extent]:
        return self._extents

    async def read(self, offset: int, length: int) -> Any:
        return await self._source.read(offset, length)


class Meter:
    """Says how far it is: bytes, speed, time left."""

    def __init__(self, ctx: Context, whole: int) -> None:
        self._ctx = ctx
        self._whole = whole
        self._before = 0
        self._began = self._told = time.monotonic()

    def of(self, key: str, size: int) -> Progress:
        """The progress of one disk, ``size`` bytes of which are data; disks come one after the other."""
        before = self._before
        self._before += size

        async def told(done: int, _whole: int) -> None:
            now = time.monotonic()
            if now - self._told < TELL:
                return
            self._told = now
            total = before + done
            speed = total / max(now - self._began, 0.001)
            left = max(self._whole - total, 0) / max(speed, 1)
            text = f"{key}: {mib(total)} of {mib(self._whole)} MiB, {mib(speed)} MiB/s, {left:.0f} s left"
            await self._ctx.progress(total / max(self._whole, 1), text)

        return told


def mib(size: float) -> str:
    """Bytes as MiB: ``12.5``, ``2048``."""
    return f"{size / (1 << 20):.1f}" if size < 100 << 20 else f"{size / (1 << 20):.0f}"


async def write(ctx: Context, plan: Plan, reading: Reading, writer: ArchiveWriter, diary: Diary) -> None:
    """Everything into the archive but its end. Raises :class:`StorageError`."""
    counted = {key: Counted(one, await one.extents()) for key, one in reading.sources.items()}
    sizes = {key: sum(one.length for one in await source.extents()) for key, source in counted.items()}
    disks = tuple(
        ArchivedDisk(
            key=held.key, volid=held.volume.volid, format=held.volume.format, size=counted[held.key].size,
            member=member_of(held.key),
        )
        for held in plan.disks
    )  # fmt: skip
    told = Manifest(
        vmid=plan.vm.vmid, name=plan.vm.name, node=plan.vm.node.name, begun=reading.moment,
        mode=ctx.params.mode or "snapshot", consistent=reading.consistent,
        product=f"pvelite {version('pvelite')}", disks=disks,
    )  # fmt: skip
    await writer.add_text(manifest.MEMBER, told.format())
    await writer.add_text(manifest.CONF, plan.conf)
    meter = Meter(ctx, sum(sizes.values()))
    for disk in disks:
        began = time.monotonic()
        await writer.add_disk(disk.member, counted[disk.key], meter.of(disk.key, sizes[disk.key]))
        view = reading.sources[disk.key]
        if isinstance(view, View):
            await view.finish()
        ctx.step(f"{disk.key} written")
        seconds = max(time.monotonic() - began, 0.001)
        read = sizes[disk.key]
        await diary.log(
            f"{disk.key}: {mib(read)} MiB of {mib(disk.size)} in {seconds:.1f} s, {mib(read / seconds)} MiB/s"
        )


def begin(ctx: Context, plan: Plan) -> int:
    """The file it is written to. Raises :class:`StorageError`."""
    return dump.begin(driver_of(ctx, plan.storage).dump_folder, plan.name)


async def complete(ctx: Context, plan: Plan, diary: Diary) -> None:
    """The archive is whole and on the disk: give it its name and its row. Not to be cut in two."""
    folder = driver_of(ctx, plan.storage).dump_folder
    template = ctx.params.notes_template or ""
    await asyncio.to_thread(dump.complete, folder, plan.name, plan.notes(template), diary.text)
    ctx.keep()
    ctx.step("archive complete")
    await settle(ctx, plan.storage, plan.name)
    backupread.forget_at_end(ctx)
    ctx.step("stored")


async def settle(ctx: Context, storage: Storage, name: str) -> None:
    """What its row and its file need once an archive is there; safe to do twice."""
    driver = driver_of(ctx, storage)
    volid = f"{storage.name}:backup/{name}"
    if ctx.params.protected:
        await driver.protect(volid, True)
    found = await driver.find(volid)
    node, vmid = ctx.services.node, ctx.vm.vmid

    def stored() -> None:
        keep_volume(storage, node, found)
        notify.changed("storage", f"vm-{vmid}")

    await ctx.db(stored)


async def make_room(ctx: Context, storage: Storage) -> None:
    """Remove older backups of the VM that no rule keeps, the task's or else the storage's."""
    rules = prune.rules_of(storage, ctx.params.prune_backups)
    if rules and ctx.params.remove is not False:
        try:
            await prune.prune(ctx, storage, retention.parse(rules), ctx.vm.vmid)
        except VMError as error:
            await ctx.warn(f"older backups were not looked through: {error}")
