"""Disks made of disks on a directory storage: copies, bases and the linked clones that lie on them."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vms.errors import StorageError
from vms.storage import image
from vms.storage.base import DiskFormat, Volume
from vms.storage.folder import check_base, opened
from vms.storage.header import Header, check_plain, inspect
from vms.storage.making import Making, pad, whole_blocks
from vms.storage.names import DISK_NAME, base_below, is_base
from vms.storage.overlay import write_overlay

_FICLONE = 0x40049409
"""``ioctl_ficlone(2)``: share all blocks of a file until one of the two is written."""

_shares: dict[tuple[str, int], bool] = {}
"""Root and file system → whether it shares blocks; a file system does not change its mind."""

_NEW_CLONE = 1 << 20
"""Bytes a linked clone takes at first, with room to spare."""


class Copying(Making):
    """A folder whose disks can be copied, cloned, renamed and made bases."""

    async def copy(
        self, vmid: int, source: Volume, fmt: DiskFormat, progress: image.Progress,
        *, snapshot: str = "", speed: int = 0,
    ) -> Volume:  # fmt: skip
        """A new disk with all that ``source`` holds, which may lie on another storage; see the protocol.

        Where the file system can share blocks, a copy in the same format takes none and no time.
        """
        header, whole = await asyncio.to_thread(judge, source, self.user)
        async with self.newborn(vmid, fmt) as path:
            alone = not snapshot and _stands_alone(source, header, fmt)
            if not alone or not await asyncio.to_thread(share, source.path, path):
                await self.check_space(min(whole, header.virtual_size))
                await image.copy(
                    source.place, header, path, fmt,
                    whole=whole, snapshot=snapshot, speed=speed, user=self.user, progress=progress,
                )  # fmt: skip
            await asyncio.to_thread(pad, path)
            return await self.find(self.volid(path))

    async def copies_at_once(self, source: Volume, fmt: DiskFormat) -> bool:
        """Whether :meth:`copy` would only share the blocks of ``source``."""
        return await asyncio.to_thread(self._would_share, source, fmt)

    def _would_share(self, source: Volume, fmt: DiskFormat) -> bool:
        if source.location or source.path.stat().st_dev != self.root.stat().st_dev:
            return False
        return _stands_alone(source, judge(source, self.user)[0], fmt) and shares_blocks(self.root)

    async def clone(self, vmid: int, base: str) -> Volume:
        """A new disk that lies on the base volume ``base`` and holds only what differs."""
        below = await asyncio.to_thread(self._find, base)
        name = f"{below.path.parent.name}/{below.path.name}"
        if not is_base(base.partition(":")[2]):
            raise StorageError(f"volume '{base}' is no base; only a template's disks have linked clones")
        await asyncio.to_thread(self._check_base, below.path, base)
        await self.check_space(_NEW_CLONE)
        async with self.newborn(vmid, "qcow2") as path:
            await asyncio.to_thread(_lay_over, path, f"../{name}", below)
            return await self.find(self.volid(path, name))

    def _check_base(self, path: Path, volid: str) -> None:
        with self.open(path, volid) as descriptor:
            check_base(descriptor, path)

    async def to_base(self, volid: str) -> Volume:
        """Make a disk read-only for everybody and call it a base; see the protocol."""
        return await self.find(await asyncio.to_thread(self._to_base, self.path(volid), volid))

    def _to_base(self, path: Path, volid: str) -> str:
        self._check_disk(path, volid, "cannot become a base")
        with self._held(path.parent), self.open(path, volid) as descriptor:
            if path.suffix == ".qcow2" and inspect(descriptor).snapshots:
                raise StorageError(f"volume '{volid}' has snapshots and cannot become a base")
            if os.geteuid() == 0:
                # Not even QEMU's user may write it or give itself the right to.
                os.fchown(descriptor, 0, 0)
            os.fchmod(descriptor, 0o444)
            self._close_folder(path.parent)
            target = path.with_name(path.name.replace("vm-", "base-", 1))
            _move(path, target)
        return _renamed(volid, target)

    async def from_base(self, volid: str) -> Volume:
        """The inverse of :meth:`to_base`; only for a base no clone lies on."""
        return await self.find(await asyncio.to_thread(self._from_base, self.path(volid), volid))

    def _from_base(self, path: Path, volid: str) -> str:
        if not is_base(volid.partition(":")[2]):
            raise StorageError(f"volume '{volid}' is no base")
        with self._held(path.parent), self.open(path, volid) as descriptor:
            self.check_unused(path, volid)
            target = path.with_name(path.name.replace("base-", "vm-", 1))
            _move(path, target)
            self.give_away(descriptor)
        return _renamed(volid, target)

    async def rename(self, volid: str, vmid: int, number: int | None = None) -> Volume:
        """Give a disk to VM ``vmid``, under the lowest number that is free there, or under just that one."""
        return await self.find(await asyncio.to_thread(self._rename, self.path(volid), volid, vmid, number))

    def _rename(self, path: Path, volid: str, vmid: int, wanted: int | None) -> str:
        self._check_disk(path, volid, "cannot be given to another VM")
        with self.open(path, volid), self.place(vmid) as (folder, lowest):
            number = lowest if wanted is None else wanted
            target = folder / f"vm-{vmid}-disk-{number}{path.suffix}"
            _move(path, target)
        self.leave(path.parent)
        return _renamed(volid, target)

    async def resize(self, volid: str, size: int) -> Volume:
        """Let a disk no guest has open grow to ``size`` bytes. It never shrinks."""
        before = await self.find(volid)
        self._check_disk(before.path, volid, "cannot grow")
        size = whole_blocks(size)
        if size < before.size:
            raise StorageError(f"volume '{volid}' has {before.size} bytes; a disk never shrinks")
        await self.check_space(size - before.size)
        if size > before.size:
            fmt: DiskFormat = "raw" if before.format == "raw" else "qcow2"
            await image.resize(before.path, fmt, size, user=self.user)
        return await self.find(volid)

    def _check_disk(self, path: Path, volid: str, words: str) -> None:
        """Raise :class:`StorageError` unless the name is that of a disk a VM may write."""
        found = DISK_NAME.fullmatch(volid.partition(":")[2])
        if found is None or found["kind"] != "vm":
            raise StorageError(f"volume '{volid}' is {'a base' if found else 'no disk'} and {words}")

    @contextlib.contextmanager
    def _held(self, folder: Path) -> Iterator[None]:
        """A VM's folder, held against who allocates there."""
        try:
            with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as directory:
                fcntl.flock(directory, fcntl.LOCK_EX)
                yield
        except FileNotFoundError:
            raise StorageError(f"there is no folder {folder}") from None

    def _close_folder(self, folder: Path) -> None:
        """Let only QEMU's user cross to a base, whose file everybody may read."""
        with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as directory:
            if os.fstat(directory).st_uid != os.geteuid():
                return
            if self.user is not None and os.geteuid() == 0:
                os.fchown(directory, -1, pwd.getpwnam(self.user).pw_gid)
                os.fchmod(directory, 0o710)
            else:
                os.fchmod(directory, 0o700)


def judge(source: Volume, user: str | None = None) -> tuple[Header, int]:
    """A source's header once it was judged, and the bytes it takes with all it lies on."""
    if source.location:  # a block device: all of it is the guest's
        return Header(kind="raw", virtual_size=source.size), source.used or source.size
    storage, name = source.volid.split(":", 1)
    there = Making(storage, source.path.parents[2], user=user)
    lower = base_below(f"../{'/'.join(name.split('/')[:-2])}")
    with there.open(source.path, source.volid) as descriptor:
        whole = os.fstat(descriptor).st_blocks * 512
        if source.format == "raw":
            return Header(kind="raw", virtual_size=os.fstat(descriptor).st_size), whole
        header = inspect(descriptor)
    check_plain(header, source.format, f"volume '{source.volid}'", below=lower)
    return header, whole + sum(path.stat().st_blocks * 512 for path, _ in there.below(source.volid))


def _stands_alone(source: Volume, header: Header, fmt: DiskFormat) -> bool:
    """Whether a disk is one file of that format, with nothing below it and no snapshots inside."""
    return header.kind == fmt and not (source.location or header.backing or header.snapshots)


def _renamed(volid: str, target: Path) -> str:
    """A volume's id after its own file, the last two parts of the name, was renamed."""
    storage, name = volid.split(":", 1)
    return f"{storage}:{'/'.join([*name.split('/')[:-2], target.parent.name, target.name])}"


def _move(path: Path, target: Path) -> None:
    """Rename a file; never over another one. The caller holds the target's folder."""
    if os.path.lexists(target):
        raise StorageError(f"there is a file {target} already")
    path.rename(target)
    for folder in {path.parent, target.parent}:
        with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as directory:
            os.fsync(directory)


def _lay_over(path: Path, name: str, below: Volume) -> None:
    """Make a reserved file a disk that lies on a base. Raises :class:`StorageError`."""
    try:
        with opened(path, os.O_WRONLY) as descriptor:
            write_overlay(descriptor, name, below.format, below.size)
    except OSError as error:
        raise StorageError(f"a disk over '{below.volid}' cannot be made: {error.strerror}") from error


def share(source: Path, target: Path) -> bool:
    """Make ``target`` share the source's blocks; false where the file system cannot."""
    try:
        with opened(source, os.O_RDONLY) as lower, opened(target, os.O_WRONLY) as upper:
            fcntl.ioctl(upper, _FICLONE, lower)
            os.fsync(upper)
    except OSError:
        return False
    return True


def shares_blocks(root: Path) -> bool:
    """Whether two files in a folder can share blocks, by trying it once."""
    key = (str(root), root.stat().st_dev)
    if key not in _shares:
        _shares[key] = _try(root)
    return _shares[key]


def _try(root: Path) -> bool:
    with tempfile.TemporaryDirectory(prefix=".pvelite-", dir=root) as folder:
        source, target = Path(folder, "a"), Path(folder, "b")
        source.write_bytes(bytes(4096))
        target.touch()
        return share(source, target)
