"""A backup's disks as its archive reads them: a small one in memory, one that a job of QEMU's pushes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from vms.backup.intake import Intake
from vms.backup.nbd import Extent
from vms.errors import MonitorError, OutcomeUnknown, StorageError
from vms.operations.base import Context, Guest
from vms.operations.steps import whole
from vms.qemu import blockjob, fleecing
from vms.qemu.fleecing import Filtered


class Memory:
    """A small disk held in memory; what follows ``data`` is zeroes."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = data
        self.size = max(size, len(data))

    async def extents(self) -> list[Extent]:
        """Where there is data."""
        return [Extent(0, len(self._data))] if self._data else []

    async def read(self, offset: int, length: int) -> bytes:
        """Just those bytes."""
        return self._data[offset : offset + length].ljust(length, b"\0")


class View:
    """A drive of a running guest as it was: a job of QEMU's pushes it from the first read on."""

    def __init__(
        self, ctx: Context, guest: Guest, drive: Filtered, path: Path, extents: list[Extent]
    ) -> None:
        self.size = drive.size
        self._monitor = guest.monitor
        self._drive = drive
        self._path = path
        self._log = ctx
        self._intake = Intake(path, drive.size, extents, self._pressure)
        self._began = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self._orders: set[asyncio.Task[None]] = set()

    async def extents(self) -> list[Extent]:
        """Where there is data."""
        return await self._intake.extents()

    async def read(self, offset: int, length: int) -> memoryview:
        """Just those bytes, each once and about in order."""
        await self._begin()
        return await self._intake.read(offset, length)

    async def broken(self) -> None:
        """Wait until it can be read no longer; raises why. For ever, if all goes well."""
        await self._intake.broken()

    async def finish(self) -> None:
        """Once all was read: raise :class:`StorageError` unless all of the disk came as it was expected."""
        await self._begin()
        if self._watcher is not None:
            await asyncio.wait({self._watcher})
        self._intake.finish()
        await whole(fleecing.end_copy(self._monitor, self._drive))

    async def close(self) -> None:
        """After :func:`vms.qemu.fleecing.withdraw`: nothing of it is left."""
        for task in (self._watcher, *self._orders):
            if task is not None:
                task.cancel()
        await self._intake.close()

    async def _begin(self) -> None:
        async with self._began:
            if self._watcher is None:
                self._intake.listen()
                await whole(fleecing.begin_copy(self._monitor, self._drive, self._path))
                self._log.step(f"{self._drive.key} begun")
                self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        try:
            await blockjob.wait_job(self._monitor, self._drive.job)
        except (MonitorError, OutcomeUnknown) as error:
            self._intake.fail(StorageError(f"NBD: {error}"))

    def _pressure(self, high: bool) -> None:
        task = asyncio.create_task(fleecing.hold_copy(self._monitor, self._drive, high))
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)
