"""A guest's screen as a picture, asked of QEMU.

QEMU runs as somebody who may write nowhere of ours, and whose folders we do not trust. So it gets a nameless
file in memory, opened for writing only. It may write what it likes there, and as much as it likes of its own
memory: no more is read than a screen can have.

One file serves a connection for its life: QEMU closes what was handed over only while its guest runs, so a
file for each picture would pile up in a paused one.
"""

from __future__ import annotations

import asyncio
import os
from weakref import WeakKeyDictionary

from vms.errors import MonitorError, StateError
from vms.qemu.monitor import Monitor
from vms.qemu.picture import BYTES, Picture


class Paper:
    """What one QEMU draws on. ``pen`` is its descriptor's twin: both share one place to write at."""

    def __init__(self) -> None:
        self._file = os.memfd_create("screen", os.MFD_CLOEXEC)
        self.pen = os.open(f"/proc/self/fd/{self._file}", os.O_WRONLY | os.O_CLOEXEC)
        self.fdset: int | None = None
        self.lock = asyncio.Lock()
        self.over = False

    def turn(self) -> None:
        """Empty it, and write from its beginning again."""
        os.ftruncate(self._file, 0)
        os.lseek(self.pen, 0, os.SEEK_SET)

    def read(self) -> bytes:
        """Read, not mapped: QEMU could cut the file short under a mapping, and that would kill us."""
        return os.pread(self._file, min(os.fstat(self._file).st_size, BYTES), 0)

    def close(self) -> None:
        """The connection has ended. What is in use is closed by its user: its number may be reused."""
        self.over = True
        if not self.lock.locked():
            self.throw_away()

    def throw_away(self) -> None:
        for descriptor in (self._file, self.pen):
            os.close(descriptor)


_PAPERS: WeakKeyDictionary[Monitor, Paper] = WeakKeyDictionary()


async def picture_of(monitor: Monitor) -> Picture:
    """What is on the screen now, also of a guest that is paused.

    Raises :class:`StateError` where there is none, or none we can draw; what :meth:`Monitor.execute` raises.
    """
    paper = _PAPERS.get(monitor)
    if paper is None:
        paper = _PAPERS[monitor] = Paper()
        monitor.on_close(paper.close)
    async with paper.lock:
        if paper.over:
            raise StateError("There is no picture of the screen: QEMU has ended.")
        try:
            data = await _drawn(monitor, paper)
        finally:
            if paper.over:
                paper.throw_away()
    try:
        return await asyncio.to_thread(Picture.parse, data)
    except ValueError as error:
        raise StateError(f"There is no picture of the screen: {error}.") from error


async def _drawn(monitor: Monitor, paper: Paper) -> bytes:
    if paper.fdset is None:
        paper.fdset = await monitor.add_fd(paper.pen)
    paper.turn()
    try:
        await monitor.screendump(paper.fdset)
        return await asyncio.to_thread(paper.read)
    except MonitorError as error:
        if error.error_class != "GenericError":
            raise
        raise StateError(f"There is no picture of the screen: {error.description}.") from error
    finally:
        paper.turn()
