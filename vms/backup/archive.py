"""Write a backup: a tar through zstd, disk by disk, as fast as the disk can be read.

Several pieces of a disk are asked for at once; summing and compressing go on in threads beside it, in order.
What reads as zeroes is never read. ``docs/backup-format.md`` describes the file that comes of it.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Literal, Protocol, Self

import zstandard

from vms.backup import tarball
from vms.backup.manifest import LIMIT, SUMS
from vms.backup.nbd import Extent
from vms.backup.sums import Sums
from vms.errors import StorageError

Compress = Literal["0", "zstd"]

LEVEL = 1
"""zstd's level: a backup waits for the disk, not for the processor."""
PIECE = 512 << 10
"""Bytes of one read. Larger ones cost more: both ends get new memory from the kernel for each."""
AHEAD = 8
"""Pieces that are being read at once."""
BATCH = 4
"""Pieces that are summed and stored in one go; a hop to a thread costs as much as some of them."""
BATCHES = 3
"""Batches under way."""
WINDOW = 32 << 20
"""Bytes after which the kernel is asked to begin with writing them, so that the end need not wait for all of
it, and to keep none of it in memory that guests could use."""

Buffer = bytes | bytearray | memoryview
Progress = Callable[[int, int], Awaitable[None]]
"""Hears after each piece how many bytes of the disk's data are stored, and of how many."""


class Source(Protocol):
    """A disk that stands still while it is read. ``size`` in bytes."""

    @property
    def size(self) -> int:
        """Bytes of the disk as a guest sees it."""

    async def extents(self) -> list[Extent]:
        """Where there is data, in order; the rest reads as zeroes."""

    async def read(self, offset: int, length: int) -> Buffer:
        """Just those bytes; called several times at once."""


class ArchiveWriter:
    """One archive into an open file. Use as an asynchronous context manager; the file stays the caller's.

    First ``manifest.json`` and ``qemu.conf`` by :meth:`add_text`, then the disks, then :meth:`finish`; left
    without that, what was written is no archive. Every verb raises :class:`StorageError` when the file cannot
    be written or the disk cannot be read.
    """

    def __init__(self, descriptor: int, compress: Compress = "zstd", limit: int = 0) -> None:
        """``limit``: bytes of disks read a second at most, 0 for no limit."""
        self._descriptor = descriptor
        self._frame: zstandard.ZstdCompressionObj | None = None
        if compress == "zstd":
            self._frame = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        self._limit = Limiter(limit)
        self._mtime = int(time.time())
        self._sums = Sums()
        self._summing = ThreadPoolExecutor(1, "backup-sums")
        self._storing = ThreadPoolExecutor(1, "backup-file")
        self._sent = 0
        self.written = 0
        """Bytes of the file so far."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The file is not the caller's again before the last write has ended, cancelled or not.
        ending = asyncio.ensure_future(asyncio.to_thread(self._end_threads))
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await ending
            raise

    def _end_threads(self) -> None:
        self._summing.shutdown(cancel_futures=True)
        self._storing.shutdown(cancel_futures=True)

    async def add_text(self, name: str, data: bytes) -> None:
        """Add a small member."""
        if len(data) > LIMIT:
            raise StorageError(f"{name}: has {len(data)} bytes, at most {LIMIT} can be read again")
        await self._store(tarball.text_header(name, len(data), self._mtime))
        await self._store(data + tarball.padding(len(data)))
        self._sums.add_text(name, data)

    async def add_disk(self, member: str, source: Source, progress: Progress | None = None) -> None:
        """Add a disk as the member ``scsi0.raw``."""
        extents = tarball.coarse(await source.extents(), source.size)
        text = tarball.map_text(extents, source.size)
        whole = sum(one.length for one in extents)
        stored = len(text) + whole
        await self._store(tarball.disk_header(member, stored, source.size, self._mtime))
        digest = self._sums.begun()
        digest.update(text)
        await self._store(text)
        await self._data(source, extents, digest.update, whole, progress)
        await self._store(tarball.padding(stored))
        self._sums.add(member, stored, digest)

    async def finish(self) -> None:
        """Add the sums, end the file and wait until all of it is on the disk."""
        await self.add_text(SUMS, json.dumps(self._sums.table(), indent=1).encode() + b"\n")
        await self._store(tarball.TRAILER)
        await self._run(self._storing, self._end)

    async def _data(
        self, source: Source, extents: Sequence[Extent], update: Callable[[Buffer], None], whole: int,
        progress: Progress | None,
    ) -> None:  # fmt: skip
        """Read the stretches piece by piece, sum and store them in order."""
        pieces = _pieces(extents)
        reading: deque[asyncio.Task[Buffer]] = deque()
        storing: deque[asyncio.Task[None]] = deque()
        batch: list[Buffer] = []
        done = 0
        try:
            while True:
                while len(reading) < AHEAD and (piece := next(pieces, None)) is not None:
                    reading.append(asyncio.create_task(_read(source, piece)))
                if batch and (len(batch) == BATCH or not reading):
                    storing.append(asyncio.create_task(self._both(batch, update)))
                    batch = []
                if not reading:
                    break
                data = await reading[0]
                reading.popleft()
                await self._limit.take(len(data))
                batch.append(data)
                while len(storing) >= BATCHES:
                    await storing.popleft()
                done += len(data)
                if progress is not None:
                    await progress(done, whole)
            while storing:
                await storing.popleft()
        finally:
            for task in (*reading, *storing):
                task.cancel()
            await asyncio.gather(*reading, *storing, return_exceptions=True)

    async def _both(self, batch: Sequence[Buffer], update: Callable[[Buffer], None]) -> None:
        def sum_up() -> None:
            for data in batch:
                update(data)

        def store() -> None:
            for data in batch:
                self._write(data)

        await asyncio.gather(self._run(self._summing, sum_up), self._run(self._storing, store))

    async def _store(self, data: Buffer) -> None:
        await self._run(self._storing, lambda: self._write(data))

    async def _run(self, where: ThreadPoolExecutor, work: Callable[[], None]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(where, work)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            hint = "Make room on the storage, or choose another one." if full else ""
            raise StorageError(f"the archive cannot be written: {error.strerror}", hint=hint) from error

    def _write(self, data: Buffer) -> None:
        self._put(self._frame.compress(data) if self._frame is not None else data)

    def _end(self) -> None:
        if self._frame is not None:
            self._put(self._frame.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))
        os.fsync(self._descriptor)

    def _put(self, data: Buffer) -> None:
        view = memoryview(data)
        while len(view):
            written = os.write(self._descriptor, view)
            self.written += written
            view = view[written:]
        if self.written - self._sent >= WINDOW:
            # The window before this one is on the disk by now, so its pages can go.
            begin = max(self._sent - WINDOW, 0)
            os.posix_fadvise(self._descriptor, begin, self.written - begin, os.POSIX_FADV_DONTNEED)
            self._sent = self.written


class Limiter:
    """Lets so many bytes a second through, 0 for all; a tenth of a second's worth may come at once."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._free_at = 0.0

    async def take(self, amount: int) -> None:
        """Wait for the turn of ``amount`` bytes."""
        if not self._rate:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - 0.1) + amount / self._rate
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


async def _read(source: Source, piece: Extent) -> Buffer:
    data = await source.read(piece.offset, piece.length)
    if len(data) != piece.length:
        raise StorageError(f"a disk answers {len(data)} bytes instead of {piece.length}")
    return data


def _pieces(extents: Sequence[Extent]) -> Iterator[Extent]:
    for one in extents:
        for offset in range(one.offset, one.end, PIECE):
            yield Extent(offset, min(PIECE, one.end - offset))
