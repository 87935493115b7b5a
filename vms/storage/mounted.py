"""Storage kind ``nfs``: a directory on what an operator has mounted, NFS or anything else.

An unmounted path is an empty folder of the node's own disk: nothing is ever written there. A server that does
not answer lets every system call on its mount hang for ever, in a thread nobody can end. So each round begins
with one question in a thread of its own with a deadline; while that thread hangs no other call is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from vms.errors import StorageError
from vms.host.mounts import is_mount_point
from vms.storage.base import Content, DiskFormat, Listing, StorageStatus, Volume
from vms.storage.directory import DirectoryStorage

PATIENCE = 5.0
"""Seconds a mounted path gets to say how full it is."""

_asked: dict[str, threading.Thread] = {}
"""Path → the thread that asks it. One that hangs stays here, so that no second one joins it."""


class MountedStorage(DirectoryStorage):
    """A directory that is used only while something is mounted there and answers."""

    def __init__(
        self, name: str, root: str | Path, *, mount_point: str | Path = "", user: str | None = None
    ) -> None:
        """``mount_point``: where the file system is mounted, when ``root`` is a folder on it."""
        super().__init__(name, root, user=user)
        self.mount_point = Path(mount_point) if mount_point else self.root

    async def status(self) -> StorageStatus:
        """Room and health within :data:`PATIENCE`; never raises, never hangs."""
        try:
            if not is_mount_point(self.mount_point):
                return StorageStatus(active=False, text=f"{self.mount_point} is no mount point")
        except OSError as error:
            return StorageStatus(active=False, text=f"the node's mounts cannot be read: {error.strerror}")
        return await ask(str(self.root), self.ask_folder)

    def ask_folder(self) -> StorageStatus:
        """The question that may hang."""
        return self._status()

    async def answering(self) -> None:
        """Raise :class:`StorageError` unless something is mounted there, answers, and has our folder."""
        self._check(await self.status())

    def _check(self, found: StorageStatus) -> None:
        if not found.active:
            raise StorageError(
                f"storage '{self.name}' cannot be used: {found.text}",
                hint="Mount it, or see why its server does not answer.",
            )

    async def prepare(self) -> None:
        """Make the folders on what is mounted."""
        above = MountedStorage(self.name, self.mount_point)
        self._check(await above.status())
        await super().prepare()

    def make_folders(self) -> None:
        """Never on the disk below a mount point."""
        if not is_mount_point(self.mount_point):
            raise StorageError(f"{self.mount_point} is no mount point")
        super().make_folders()

    async def find(self, volid: str) -> Volume:
        self.path(volid)  # a name that is none of ours is said so first
        await self.answering()
        return await super().find(volid)

    async def activate(self, volid: str, fmt: str) -> Volume:
        self.path(volid)
        await self.answering()
        return await super().activate(volid, fmt)

    async def list(self, content: Content, vmid: int | None = None) -> Listing:
        await self.answering()
        return await super().list(content, vmid)

    async def free(self, volid: str) -> None:
        self.path(volid)
        await self.answering()
        await super().free(volid)

    @contextlib.asynccontextmanager
    async def newborn(self, vmid: int, fmt: DiskFormat) -> AsyncIterator[Path]:
        await self.answering()
        async with super().newborn(vmid, fmt) as path:
            yield path


async def ask(path: str, question: Callable[[], StorageStatus]) -> StorageStatus:
    """The answer to ``question`` about ``path``, or that there is none within :data:`PATIENCE`."""
    silent = StorageStatus(active=False, text=f"{path} does not answer; its server may be gone")
    before = _asked.get(path)
    if before is not None and before.is_alive():
        await asyncio.to_thread(before.join, 0.05)
        if before.is_alive():
            return silent
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[StorageStatus] = loop.create_future()

    def told(found: StorageStatus) -> None:
        if not answer.done():
            answer.set_result(found)

    def work() -> None:
        found = question()
        with contextlib.suppress(RuntimeError):  # nobody waits any more: the loop has ended
            loop.call_soon_threadsafe(told, found)

    thread = threading.Thread(target=work, name=f"asks {path}", daemon=True)
    _asked[path] = thread
    thread.start()
    try:
        return await asyncio.wait_for(answer, PATIENCE)
    except TimeoutError:
        return silent
