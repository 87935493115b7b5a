"""Disks on a storage of block devices: made, filled, copied, cloned, given away, removed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from abc import ABC
from collections.abc import AsyncIterator
from pathlib import Path

from vms.errors import StorageError
from vms.host.command import Limits
from vms.storage import image
from vms.storage.base import DiskFormat, StorageStatus, Volume
from vms.storage.block import Names, Work, no_room
from vms.storage.copying import judge
from vms.storage.header import Header, check_foreign
from vms.storage.making import foreign_header
from vms.storage.names import BLOCK_DISK, gib, is_base

_NEW_CLONE = 1 << 20
"""Bytes a linked clone takes at first, with room to spare."""


class BlockStorage(Names, ABC):
    """See :class:`vms.storage.base.Storage` for what each verb promises; a kind adds its tools."""

    async def status(self) -> StorageStatus:
        """Room and health; never raises."""
        try:
            return await self.health()
        except StorageError as error:
            return StorageStatus(active=False, text=str(error))

    async def health(self) -> StorageStatus:
        """What the kind's tool says of the pool. Raises :class:`StorageError`."""
        raise StorageError(f"storage '{self.name}' says nothing of itself")

    async def check_space(self, size: int) -> None:
        """Raises when ``size`` more bytes would not fit."""
        status = await self.status()
        if not status.active:
            raise StorageError(f"storage '{self.name}' cannot be used: {status.text}")
        if size > status.available:
            raise no_room(self.name, size, status.available)

    # ---- new ones

    @contextlib.asynccontextmanager
    async def newborn(self, vmid: int, make: Work) -> AsyncIterator[str]:
        """The name of a new disk that ``make`` has made; what goes wrong inside takes it away again."""
        async with self.lock():
            name = f"vm-{vmid}-disk-{await self.free_number(vmid)}"
            await self._made(name, make)
        try:
            yield name
        except BaseException:
            await self.erase(name)
            raise

    async def _made(self, name: str, make: Work) -> None:
        """Make a volume; when somebody stops waiting it is made all the same, and removed again."""
        making = asyncio.ensure_future(make(name))
        try:
            await asyncio.shield(making)
        except asyncio.CancelledError:
            await asyncio.wait({making})
            if making.exception() is None:
                await self.erase(name)
            raise

    def _sized(self, size: int) -> Work:
        async def make(name: str) -> None:
            await self.make(name, self.rounded(size))

        return make

    def _check_format(self, fmt: DiskFormat) -> None:
        if fmt != "raw":
            raise StorageError(
                f"storage '{self.name}' holds raw disks only, not {fmt}", hint="Leave the format out."
            )

    async def allocate(self, vmid: int, size: int, fmt: DiskFormat, *, room: int | None = None) -> Volume:
        """A new empty disk, rounded up to whole pieces of the storage."""
        self._check_format(fmt)
        if size <= 0:
            raise StorageError("a disk must be larger than 0")
        await self.check_space(self.rounded(size) if room is None else room)
        async with self.newborn(vmid, self._sized(size)) as name:
            return await self.activate(self.volid(name), "raw")

    async def allocate_copy(self, vmid: int, source: Path, fmt: DiskFormat) -> Volume:
        """A new disk with the contents of a raw file of this machine's distribution."""
        self._check_format(fmt)
        size = (await asyncio.to_thread(source.stat)).st_size
        header = Header(kind="raw", virtual_size=size)
        return await self._filled(vmid, str(source), header, size, _nobody)

    async def allocate_import(
        self, vmid: int, source: Path, source_format: str, fmt: DiskFormat, progress: image.Progress
    ) -> Volume:
        """A new disk holding a copy of a stranger's image."""
        self._check_format(fmt)
        header = await asyncio.to_thread(foreign_header, source, source_format)
        check_foreign(header, source_format, f"image '{source.name}'")
        taken = (await asyncio.to_thread(source.stat)).st_blocks * 512
        limits = Limits(cpu_seconds=image.IMPORT_TIMEOUT, address_space=8 << 30)
        return await self._filled(vmid, str(source), header, taken, progress, limits=limits)

    async def copy(
        self, vmid: int, source: Volume, fmt: DiskFormat, progress: image.Progress,
        *, snapshot: str = "", speed: int = 0,
    ) -> Volume:  # fmt: skip
        """A new disk with all that ``source`` holds, which may lie on another storage."""
        self._check_format(fmt)
        header, whole = await asyncio.to_thread(judge, source, self.user)
        return await self._filled(vmid, source.place, header, whole, progress, snapshot=snapshot, speed=speed)

    async def copies_at_once(self, source: Volume, fmt: DiskFormat) -> bool:
        """A full copy here is written."""
        return False

    async def _filled(
        self, vmid: int, source: str, header: Header, room: int, progress: image.Progress,
        *, snapshot: str = "", speed: int = 0, limits: Limits | None = None,
    ) -> Volume:  # fmt: skip
        """A new disk with what ``source`` holds; ``room``: bytes that will be written, about."""
        await self.check_space(min(room, header.virtual_size))
        async with self.newborn(vmid, self._sized(header.virtual_size)) as name:
            made = await self.activate(self.volid(name), "raw")
            await image.fill(
                source, header, made.location, progress, snapshot=snapshot, speed=speed, user=self.user,
                limits=limits,
            )  # fmt: skip
            return await self.find(made.volid)

    async def allocate_seed(self, vmid: int, content: bytes, fmt: DiskFormat = "raw") -> Volume:
        """The VM's cloud-init drive holding ``content``, made or written again."""
        self._check_format(fmt)
        name = f"vm-{vmid}-cloudinit"
        async with self.lock():
            if name not in await self.entries():
                await self.check_space(len(content))
                await self._made(name, self._sized(len(content)))
        made = await self.activate(self.volid(name), "raw")
        await self.put(made, content)
        return made

    async def put(self, volume: Volume, content: bytes) -> None:
        """Write to the start of a device."""
        try:
            await asyncio.to_thread(_write, volume.path, content)
        except OSError as error:
            raise StorageError(f"volume '{volume.volid}': {error.strerror}") from error

    async def allocate_state(self, vmid: int, name: str, size: int) -> Volume:
        """Refused: saved memory is a file."""
        raise StorageError(
            f"storage '{self.name}' holds no files, so no saved memory",
            hint="Name a directory as the VM's state storage.",
        )

    # ---- made of others

    async def clone(self, vmid: int, base: str) -> Volume:
        """A new disk that shares everything with the base volume ``base``."""
        if not is_base(base.partition(":")[2]):
            raise StorageError(f"volume '{base}' is no base; only a template's disks have linked clones")
        below = await self.find(base)
        await self.check_space(_NEW_CLONE)

        async def make(name: str) -> None:
            await self.lay_over(self.leaf(below.volid), name)

        async with self.newborn(vmid, make) as name:
            return await self.activate(self.volid(name, self.leaf(base)), "raw")

    async def to_base(self, volid: str) -> Volume:
        """Make a disk read-only and call it a base."""
        found = await self._writable(volid, "cannot become a base")
        name = self.leaf(volid)
        if await self.shots(name):
            raise StorageError(f"volume '{volid}' has snapshots and cannot become a base")
        base = name.replace("vm-", "base-", 1)
        await self.seal(name, base)
        return await self.find(self.volid(base, self.leaf(found.base) if found.base else ""))

    async def from_base(self, volid: str) -> Volume:
        """The inverse of :meth:`to_base`; only for a base no clone lies on."""
        if not is_base(volid.partition(":")[2]):
            raise StorageError(f"volume '{volid}' is no base")
        found = await self.find(volid)
        await self.check_unused(volid)
        base = self.leaf(volid)
        name = base.replace("base-", "vm-", 1)
        await self.unseal(base, name)
        return await self.find(self.volid(name, self.leaf(found.base) if found.base else ""))

    async def check_unused(self, volid: str) -> None:
        """Raise :class:`StorageError` while linked clones need a base."""
        clones = [one.volid for one in (await self.list("images")).volumes if one.base == volid]
        if clones:
            raise StorageError(f"base volume '{volid}' is still in use by linked clone '{clones[0]}'")

    async def rename(self, volid: str, vmid: int, number: int | None = None) -> Volume:
        """Give a disk to VM ``vmid``, under the lowest number that is free there, or under just that one."""
        found = await self._writable(volid, "cannot be given to another VM")
        if await self.shots(self.leaf(volid)):
            raise StorageError(f"volume '{volid}' has snapshots and cannot be given to another VM")
        async with self.lock():
            wanted = await self.free_number(vmid) if number is None else number
            name = f"vm-{vmid}-disk-{wanted}"
            if name in await self.entries():
                raise StorageError(f"there is a volume '{name}' on storage '{self.name}' already")
            await self.move(self.leaf(volid), name)
        return await self.find(self.volid(name, self.leaf(found.base) if found.base else ""))

    async def resize(self, volid: str, size: int) -> Volume:
        """Let a disk no guest has open grow to ``size`` bytes. It never shrinks."""
        before = await self._writable(volid, "cannot grow")
        if size < before.size:
            raise StorageError(f"volume '{volid}' has {gib(before.size)} GiB; a disk never shrinks")
        size = self.rounded(size)
        await self.check_space(size - before.size)
        if size > before.size:
            await self.grow(self.leaf(volid), size)
        return await self.find(volid)

    async def _writable(self, volid: str, words: str) -> Volume:
        """A disk a VM may write. Raises :class:`StorageError`."""
        found = BLOCK_DISK.fullmatch(volid.partition(":")[2])
        if found is None or found["kind"] != "vm":
            raise StorageError(f"volume '{volid}' is {'a base' if found else 'no disk'} and {words}")
        return await self.find(volid)

    async def free(self, volid: str) -> None:
        """Delete a volume with its snapshots; never a base that clones lie on."""
        name = self.leaf(volid)
        if is_base(volid.partition(":")[2]):
            await self.check_unused(volid)
        if name in await self.entries():
            await self.erase(name)


async def _nobody(fraction: float) -> None:
    """Nobody listens."""


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
