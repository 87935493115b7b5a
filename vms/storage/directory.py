"""Storage kind ``dir``: image files below one folder, laid out as Proxmox lays them out.

:mod:`vms.storage.folder` has the layout, :mod:`vms.storage.making` new volumes, :mod:`vms.storage.copying`
what is made of others; here are a volume's way to QEMU and its snapshots, which lie inside a qcow2.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import stat
from collections.abc import AsyncIterator
from pathlib import Path

from vms.errors import StorageError
from vms.storage import image
from vms.storage.base import DiskFormat, Volume
from vms.storage.copying import Copying
from vms.storage.header import check_plain, inspect
from vms.storage.making import BLOCK
from vms.storage.names import DISK_NAME, base_below, is_base


class DirectoryStorage(Copying):
    """A folder on a file system. See :class:`vms.storage.base.Storage` for what each verb promises."""

    formats: tuple[DiskFormat, ...] = ("qcow2", "raw")
    granule = BLOCK
    files = True
    paths = True

    def opened_as(self, volid: str, filename: str) -> bool:
        """Whether ``filename``, as QEMU tells it, is this volume."""
        return filename == str(self.path(volid))

    async def activate(self, volid: str, fmt: str) -> Volume:
        """Check that the volume is there, is what our record says, and can be opened by QEMU's user.

        A linked clone must lie on the base its name says and on nothing else. A disk that belongs to a user
        QEMU ran as before is handed over; a base stays nobody's to write.
        """
        return await asyncio.to_thread(self._activate, self.path(volid), volid, fmt)

    def _activate(self, path: Path, volid: str, fmt: str) -> Volume:
        with self.open(path, volid) as descriptor:
            volume = self.describe(path, descriptor)
            if volume.content == "import":
                raise StorageError(f"'{volume.volid}' is an image to import, no disk; import it first")
            if volume.content == "backup":
                raise StorageError(f"'{volume.volid}' is a backup, no disk; restore it")
            if volume.content == "iso":
                self._check_readable(volume, descriptor)
                return volume
            if volume.format != fmt:
                raise StorageError(f"volume '{volid}' is {volume.format}, our record says {fmt}")
            name = volid.partition(":")[2]
            lower = base_below(f"../{'/'.join(name.split('/')[:-2])}")
            check_plain(inspect(descriptor), fmt, f"volume '{volid}'", below=lower)
            for _ in self.below(volid):
                continue  # each is looked at on the way
            if os.geteuid() == 0 and not is_base(name):
                self.give_away(descriptor)
            return volume

    def _check_readable(self, volume: Volume, descriptor: int) -> None:
        if self.user is None:
            return
        found = os.fstat(descriptor)
        uid = pwd.getpwnam(self.user).pw_uid
        if not found.st_mode & (stat.S_IRUSR if found.st_uid == uid else stat.S_IROTH):
            raise StorageError(
                f"user '{self.user}', whom QEMU runs as, may not read {volume.path}",
                hint=f"chmod a+r {volume.path}",
            )

    # ---- snapshots

    def snapshot_refusal(self, volid: str) -> str:
        """Why this volume cannot be part of a snapshot, as a sentence; empty when it can."""
        found = DISK_NAME.fullmatch(volid.partition(":")[2])
        if found is None:
            return f"'{volid}' is no disk."
        if found["kind"] == "base":
            return f"'{volid}' is a base and stays as it is."
        if found["fmt"] != "qcow2":
            return f"'{volid}' is raw, and only qcow2 can hold a snapshot; move the disk to qcow2 first."
        return ""

    def snapshots_apart(self, volid: str) -> bool:
        """A qcow2 holds its own."""
        return False

    async def revert_refusal(self, volid: str, name: str) -> str:
        """A qcow2 goes back to any snapshot it holds."""
        return ""

    @contextlib.asynccontextmanager
    async def reading(self, volid: str, snapshot: str = "") -> AsyncIterator[tuple[Volume, str]]:
        """The volume, and its snapshot to be looked for inside it."""
        yield await self.find(volid), snapshot

    async def snapshot(self, volid: str, name: str) -> None:
        """Take a snapshot of a disk no guest has open. Undone by :meth:`delete_snapshot`."""
        await self._snapshot(volid, "create", name)

    async def revert(self, volid: str, name: str) -> None:
        """Make a disk no guest has open what it was in the snapshot; what came after is lost."""
        await self._snapshot(volid, "apply", name)

    async def delete_snapshot(self, volid: str, name: str) -> None:
        """Remove a snapshot of a disk no guest has open. One that is gone already is no error."""
        if name in await self.snapshots(volid):
            await self._snapshot(volid, "delete", name)

    async def _snapshot(self, volid: str, verb: image.SnapshotVerb, name: str) -> None:
        refusal = self.snapshot_refusal(volid)
        if refusal:
            raise StorageError(refusal)
        volume = await self.activate(volid, "qcow2")
        if verb == "create" and name in await image.snapshots(volume.path, user=self.user):
            raise StorageError(f"volume '{volid}' has a snapshot '{name}' already")
        await image.snapshot(volume.path, verb, name, user=self.user)

    async def snapshots(self, volid: str) -> list[str]:
        """The names of the snapshots inside a disk, also while a guest has it open."""
        volume = await self.find(volid)
        return await image.snapshots(volume.path, user=self.user) if volume.format == "qcow2" else []
