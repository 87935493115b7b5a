"""Storage kind ``btrfs``: a directory whose file system shares blocks between files (``ioctl_ficlone(2)``).

A full copy in the same format takes a moment and no room on any directory that can do that; here it is
certain, and so a raw disk has snapshots too: a file beside it that shares all its blocks. ::

    ROOT/images/101/vm-101-disk-0.raw            the disk
    ROOT/images/101/vm-101-disk-0@before.raw     its snapshot 'before', no volume of its own

Files are plain ones, not subvolumes as in Proxmox VE. XFS made with reflink serves as well as BTRFS.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from vms.errors import StorageError
from vms.storage.base import StorageStatus, Volume
from vms.storage.copying import share, shares_blocks
from vms.storage.directory import DirectoryStorage
from vms.storage.folder import opened
from vms.storage.names import DISK_NAME

_SNAPSHOT = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,39}")


class SharingStorage(DirectoryStorage):
    """A directory on a file system that shares blocks."""

    def _status(self) -> StorageStatus:
        found = super()._status()
        if found.active and not shares_blocks(self.root):
            text = f"{self.root} cannot share blocks between files; BTRFS and XFS with reflink can"
            return replace(found, active=False, text=text)
        return found

    # ---- snapshots of raw disks

    def _is_raw_disk(self, volid: str) -> bool:
        found = DISK_NAME.fullmatch(volid.partition(":")[2])
        return found is not None and found["fmt"] == "raw" and found["kind"] == "vm"

    def snapshots_apart(self, volid: str) -> bool:
        """A raw disk's are files beside it."""
        return self._is_raw_disk(volid)

    def snapshot_refusal(self, volid: str) -> str:
        return "" if self._is_raw_disk(volid) else super().snapshot_refusal(volid)

    def _beside(self, volid: str, name: str) -> Path:
        if not _SNAPSHOT.fullmatch(name):
            raise StorageError(f"a snapshot cannot be called '{name[:80]}'")
        path = self.path(volid)
        return path.with_name(f"{path.stem}@{name}.raw")

    async def snapshots(self, volid: str) -> list[str]:
        if not self._is_raw_disk(volid):
            return await super().snapshots(volid)
        return await asyncio.to_thread(self._names, self.path(volid))

    def _names(self, path: Path) -> list[str]:
        """The snapshots of a raw disk, oldest first."""
        start = f"{path.stem}@"
        try:
            entries = [entry for entry in os.scandir(path.parent) if entry.name.startswith(start)]
        except FileNotFoundError:
            return []
        entries.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_mtime_ns)
        names = [entry.name.removeprefix(start).removesuffix(".raw") for entry in entries]
        return [name for name in names if _SNAPSHOT.fullmatch(name)]

    async def snapshot(self, volid: str, name: str) -> None:
        if not self._is_raw_disk(volid):
            await super().snapshot(volid, name)
            return
        volume = await self.find(volid)
        await asyncio.to_thread(self._take, volume, self._beside(volid, name), name)

    def _take(self, volume: Volume, target: Path, name: str) -> None:
        try:
            with opened(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY) as descriptor:
                self.give_away(descriptor)
        except FileExistsError:
            raise StorageError(f"volume '{volume.volid}' has a snapshot '{name}' already") from None
        self._share(volume.path, target, volume.volid)
        target.chmod(0o400)

    async def revert(self, volid: str, name: str) -> None:
        if not self._is_raw_disk(volid):
            await super().revert(volid, name)
            return
        if name not in await self.snapshots(volid):
            raise StorageError(f"volume '{volid}' has no snapshot '{name}'")
        await asyncio.to_thread(self._go_back, volid, self._beside(volid, name))

    def _go_back(self, volid: str, source: Path) -> None:
        """The disk's name changes from one whole file to the other; there is no moment without it."""
        path = self.path(volid)
        target = path.with_name(f".{path.name}.back")
        target.unlink(missing_ok=True)
        with opened(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY) as descriptor:
            self.give_away(descriptor)
        self._share(source, target, volid)
        target.replace(path)
        with opened(path.parent, os.O_RDONLY | os.O_DIRECTORY) as directory:
            os.fsync(directory)

    def _share(self, source: Path, target: Path, volid: str) -> None:
        if not share(source, target):
            target.unlink(missing_ok=True)
            raise StorageError(f"the blocks of volume '{volid}' could not be shared", hint="Is there room?")

    async def delete_snapshot(self, volid: str, name: str) -> None:
        if not self._is_raw_disk(volid):
            await super().delete_snapshot(volid, name)
            return
        path = self._beside(volid, name)
        await asyncio.to_thread(path.unlink, missing_ok=True)

    @contextlib.asynccontextmanager
    async def reading(self, volid: str, snapshot: str = "") -> AsyncIterator[tuple[Volume, str]]:
        """The volume; a raw disk's snapshot is a file of its own."""
        found = await self.find(volid)
        if not snapshot or not self._is_raw_disk(volid):
            yield found, snapshot
            return
        if snapshot not in await self.snapshots(volid):
            raise StorageError(f"volume '{volid}' has no snapshot '{snapshot}'")
        place = self._beside(volid, snapshot)
        size = (await asyncio.to_thread(place.stat)).st_size
        yield replace(found, path=place, size=size), ""

    # ---- what goes with a disk

    def remove(self, path: Path) -> None:
        """Delete a disk with its snapshots."""
        if path.suffix == ".raw" and path.parent.parent == self.images:
            for name in self._names(path):
                path.with_name(f"{path.stem}@{name}.raw").unlink(missing_ok=True)
        super().remove(path)

    def _rename(self, path: Path, volid: str, vmid: int, wanted: int | None) -> str:
        if self._is_raw_disk(volid) and self._names(path):
            raise StorageError(f"volume '{volid}' has snapshots and cannot be given to another VM")
        return super()._rename(path, volid, vmid, wanted)

    def _to_base(self, path: Path, volid: str) -> str:
        if self._is_raw_disk(volid) and self._names(path):
            raise StorageError(f"volume '{volid}' has snapshots and cannot become a base")
        return super()._to_base(path, volid)
