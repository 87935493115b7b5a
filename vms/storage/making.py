"""New volumes on a directory storage, and the end of old ones.

Folders we make can be crossed, not read (0711); a disk belongs to the user QEMU runs as and to nobody
else (0600).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from vms.errors import StorageError
from vms.host.paths import make_folder
from vms.storage import dump, image
from vms.storage.base import DiskFormat, Volume
from vms.storage.folder import Folder, opened
from vms.storage.header import Header, check_foreign, inspect
from vms.storage.names import DISK_NAME, STATE_NAME, gib, is_base

BLOCK = 4096


class Making(Folder):
    """A folder in which volumes are made and deleted."""

    async def prepare(self) -> None:
        """Make the folders of a new storage; harmless when they exist. The root's parent must."""
        await asyncio.to_thread(self.make_folders)

    def make_folders(self) -> None:
        """:meth:`prepare` for who has no event loop."""
        folders = (self.images, self.root / "template", self.iso_folder, self.import_folder)
        for folder in (self.root, *folders, self.dump_folder):
            _ensure(folder)

    async def allocate(self, vmid: int, size: int, fmt: DiskFormat, *, room: int | None = None) -> Volume:
        """A new empty disk; see the protocol. ``size`` is rounded up to whole blocks."""
        if size <= 0:
            raise StorageError("a disk must be larger than 0")
        size = whole_blocks(size)
        await self.check_space(size if room is None else room)
        async with self.newborn(vmid, fmt) as path:
            try:
                if fmt == "raw":
                    await asyncio.to_thread(os.truncate, path, size)
                else:
                    await image.create(path, size, fmt, user=self.user)
            except OSError as error:
                raise StorageError(f"disk of {gib(size)} GiB: {error.strerror}") from error
            return await self.find(self.volid(path))

    async def allocate_copy(self, vmid: int, source: Path, fmt: DiskFormat) -> Volume:
        """A new disk with the contents of a raw file of this machine's distribution."""
        size = (await asyncio.to_thread(source.stat)).st_size
        await self.check_space(size)
        async with self.newborn(vmid, fmt) as path:
            await image.convert(source, "raw", path, fmt, user=self.user)
            return await self.find(self.volid(path))

    async def allocate_import(
        self, vmid: int, source: Path, source_format: str, fmt: DiskFormat, progress: image.Progress
    ) -> Volume:
        """A new disk holding a copy of a stranger's image; when it raises, nothing is left."""
        header = await asyncio.to_thread(foreign_header, source, source_format)
        check_foreign(header, source_format, f"image '{source.name}'")
        await self.check_space((await asyncio.to_thread(source.stat)).st_size)
        async with self.newborn(vmid, fmt) as path:
            await image.convert_foreign(source, header, path, fmt, user=self.user, progress=progress)
            await asyncio.to_thread(pad, path)
            return await self.find(self.volid(path))

    async def allocate_seed(self, vmid: int, content: bytes, fmt: DiskFormat = "raw") -> Volume:
        """The drive of a cloud-init seed: ``content`` in a volume of its own, made or written again."""
        path = self.images / str(vmid) / f"vm-{vmid}-cloudinit.{fmt}"
        await self.prepare()
        await self.check_space(len(content))
        await asyncio.to_thread(self._put, path, content, fmt)
        if fmt == "qcow2":
            raw = path.with_suffix(".raw.tmp")
            try:
                await image.convert(raw, "raw", path, fmt, user=self.user)
            finally:
                await asyncio.to_thread(raw.unlink, missing_ok=True)
        return await self.find(self.volid(path))

    async def allocate_state(self, vmid: int, name: str, size: int) -> Volume:
        """An empty file for a guest's saved memory; see the protocol."""
        await self.check_space(size)
        volid = f"{self.name}:{vmid}/vm-{vmid}-state-{name}.raw"
        if not STATE_NAME.fullmatch(volid.partition(":")[2]):
            raise StorageError(f"saved memory cannot be called '{name[:80]}'")
        await asyncio.to_thread(self._make_state, self.path(volid), volid)
        return await self.find(volid)

    def _make_state(self, path: Path, volid: str) -> None:
        self.make_folders()
        _ensure(path.parent)
        try:
            with opened(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY) as descriptor:
                self.give_away(descriptor)
        except FileExistsError:
            raise StorageError(f"volume '{volid}' exists already") from None

    def _put(self, path: Path, content: bytes, fmt: str) -> None:
        """Write a seed whole or not at all; for qcow2 the bytes that are to become it, and its place."""
        _ensure(path.parent)
        place = path.with_suffix(".raw.tmp")
        place.unlink(missing_ok=True)
        with opened(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY) as descriptor:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            self.give_away(descriptor)
        if fmt == "raw":
            place.replace(path)
            return
        with opened(path, os.O_CREAT | os.O_WRONLY) as made:
            self.give_away(made)

    # ---- places

    @contextlib.asynccontextmanager
    async def newborn(self, vmid: int, fmt: DiskFormat) -> AsyncIterator[Path]:
        """An empty file for a new disk; what goes wrong inside takes it away again."""
        reserving = asyncio.ensure_future(asyncio.to_thread(self._reserve, vmid, fmt))
        try:
            path = await asyncio.shield(reserving)
        except asyncio.CancelledError:
            # The thread goes on to its end whoever waits for it.
            await asyncio.wait({reserving})
            if reserving.exception() is None:
                await asyncio.to_thread(self.remove, reserving.result())
            raise
        try:
            yield path
        except BaseException:
            await asyncio.to_thread(self.remove, path)
            raise

    def _reserve(self, vmid: int, fmt: DiskFormat) -> Path:
        """An empty file under the lowest number no format has taken; ours against every rival."""
        with self.place(vmid) as (folder, number):
            path = folder / f"vm-{vmid}-disk-{number}.{fmt}"
            with opened(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY) as descriptor:
                self.give_away(descriptor)
        return path

    @contextlib.contextmanager
    def place(self, vmid: int) -> Iterator[tuple[Path, int]]:
        """A VM's folder, held against every rival, and the lowest number that no disk or base there has."""
        folder = self.images / str(vmid)
        self.make_folders()
        _ensure(folder)
        with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as directory:
            fcntl.flock(directory, fcntl.LOCK_EX)
            names = _names(directory)
            taken = {int(m["number"]) for name in names if (m := _disk(vmid, name))}
            yield folder, next(n for n in range(len(taken) + 1) if n not in taken)

    # ---- deleting

    async def free(self, volid: str) -> None:
        """Delete a volume for good; never a base that clones lie on. One that is gone already is no error."""
        path = self.path(volid)
        if path.parent == self.dump_folder:
            await asyncio.to_thread(dump.remove, path)
            return
        if is_base(volid.partition(":")[2]):
            await asyncio.to_thread(self.check_unused, path, volid)
        await asyncio.to_thread(self.remove, path)

    # ---- beside a backup

    async def write_notes(self, volid: str, text: str) -> None:
        """Put a backup's notes beside its archive; empty ones are taken away."""
        await asyncio.to_thread(dump.write_notes, self._archive(volid), text)

    async def protect(self, volid: str, protected: bool) -> None:
        """Say of a backup that nothing may remove it, or that something may again."""
        await asyncio.to_thread(dump.protect, self._archive(volid), protected)

    def _archive(self, volid: str) -> Path:
        path = self.path(volid)
        if path.parent != self.dump_folder:
            raise StorageError(f"'{volid}' is no backup")
        return path

    # ---- deleting, continued

    def check_unused(self, path: Path, volid: str) -> None:
        """Raise :class:`StorageError` while linked clones need a base."""
        clones = self.clones_of(path)
        if clones:
            raise StorageError(f"base volume '{volid}' is still in use by linked clone '{clones[0]}'")

    def remove(self, path: Path) -> None:
        """Delete a file, and its VM's folder with the last one."""
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        if path.parent not in (self.iso_folder, self.import_folder):
            self.leave(path.parent)

    def leave(self, folder: Path) -> None:
        """Remove a VM's folder when nothing is in it any more."""
        with contextlib.suppress(OSError):  # not empty: the VM has more disks
            folder.rmdir()


def whole_blocks(size: int) -> int:
    """``size`` in bytes rounded up to blocks of 4 KiB.

    Where the node's own disk has such blocks, QEMU opens no raw disk without a cache that ends within one.
    """
    return (size + BLOCK - 1) // BLOCK * BLOCK


def pad(path: Path) -> None:
    """Let a raw disk end with a whole block."""
    if path.suffix == ".raw":
        os.truncate(path, whole_blocks(path.stat().st_size))


def _names(directory: int) -> list[str]:
    """What is in an open directory by now: BTRFS lists what was there when it was opened."""
    again = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.listdir(again)
    finally:
        os.close(again)


def _ensure(folder: Path) -> None:
    """Make a folder that is missing. One that is there, an operator's perhaps, stays as it is."""
    if not folder.is_dir():
        make_folder(folder, os.geteuid(), os.getegid(), 0o711)


def _disk(vmid: int, name: str) -> re.Match[str] | None:
    return DISK_NAME.fullmatch(f"{vmid}/{name}")


def foreign_format(path: Path) -> str:
    """What a stranger's image is, ``qcow2``, ``vmdk`` or ``raw``, by its header alone.

    Raises :class:`StorageError` for what is neither, is packed, or cannot be opened.
    """
    header = foreign_header(path, "")
    kind = "raw" if header.kind == "iso" else header.kind
    if kind not in ("qcow2", "vmdk", "raw"):
        raise StorageError(
            f"'{path.name}' is a {kind} file, no disk image", hint="Unpack or convert it first."
        )
    return kind


def foreign_header(path: Path, fmt: str) -> Header:
    """What an image says of itself. Raises :class:`StorageError` when it cannot be opened."""
    try:
        with opened(path, os.O_RDONLY) as descriptor:
            if fmt == "raw":  # its bytes are a guest's, who may write any magic there
                return Header(kind="raw", virtual_size=os.fstat(descriptor).st_size)
            return inspect(descriptor)
    except OSError as error:
        raise StorageError(f"image '{path.name}' cannot be opened: {error.strerror}") from error
