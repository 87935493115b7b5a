"""What the storages of block devices have in common: names, numbers, what is refused, and the order of steps.

A kind gives the few verbs its own tools do (:class:`Tools`); a disk there is always raw, its snapshots are
the storage's, and no ISO image and no saved memory lies there.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from vms.errors import CommandError, StorageError
from vms.host import command
from vms.storage import devices
from vms.storage.base import DiskFormat, Listing, Volume, split_volid
from vms.storage.names import BLOCK_DISK, BLOCK_SEED, gib

_locks: weakref.WeakKeyDictionary[Any, dict[str, asyncio.Lock]] = weakref.WeakKeyDictionary()
"""Event loop → storage → who makes a volume there; numbers are given one after the other."""


Shots: TypeAlias = list[str]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A volume as its storage's tool lists it. ``lower`` is the name of the base it was cloned from."""

    name: str
    size: int
    used: int = 0
    lower: str = ""


class Tools(ABC):
    """What a kind's own programs do. Names are checked before they come here; sizes are bytes."""

    granule: int = 4096
    """Sizes are rounded up to a multiple of it."""
    names_base: bool = True
    """Whether a linked clone's volume name begins with its base's."""

    @abstractmethod
    async def entries(self) -> dict[str, Entry]:
        """Everything that lies there, by name."""

    @abstractmethod
    async def make(self, name: str, size: int) -> None:
        """A new thin volume."""

    @abstractmethod
    async def erase(self, name: str) -> None:
        """Remove a volume with its snapshots. One that is gone already is no error."""

    @abstractmethod
    async def move(self, before: str, after: str) -> None:
        """Rename a volume, its snapshots with it."""

    @abstractmethod
    async def grow(self, name: str, size: int) -> None:
        """Let a volume grow."""

    @abstractmethod
    async def lay_over(self, base: str, name: str) -> None:
        """A new volume that shares everything with a base."""

    @abstractmethod
    async def seal(self, name: str, base: str) -> None:
        """Make a volume a base: renamed, read-only, ready for clones. Safe to do again after half of it."""

    @abstractmethod
    async def unseal(self, base: str, name: str) -> None:
        """The inverse of :meth:`seal`."""

    @abstractmethod
    async def shots(self, name: str) -> list[str]:
        """The snapshots of a volume, oldest first."""

    @abstractmethod
    async def shoot(self, name: str, shot: str) -> None:
        """Take a snapshot."""

    @abstractmethod
    async def back_to(self, name: str, shot: str) -> None:
        """Make the volume what it was in the snapshot."""

    @abstractmethod
    async def unshoot(self, name: str, shot: str) -> None:
        """Remove a snapshot."""

    @abstractmethod
    def place(self, name: str) -> str:
        """What QEMU's programs open."""

    async def switch_on(self, name: str) -> None:
        """Make a volume's device appear, where that is a step of its own."""
        return

    def shot_place(self, name: str, shot: str) -> str:
        """What QEMU's programs open to read a snapshot."""
        return f"{self.place(name)}@{shot}"

    @contextlib.asynccontextmanager
    async def shown(self, name: str, shot: str) -> AsyncIterator[None]:
        """Inside the block :meth:`shot_place` can be read."""
        yield


class Names(Tools, ABC):
    """Volume ids, and finding what they name."""

    formats: tuple[DiskFormat, ...] = ("raw",)
    files = False
    paths = True

    def __init__(self, name: str, *, user: str | None = None) -> None:
        """``user``: whom QEMU runs as when that is not us."""
        self.name = name
        self.user = user

    def leaf(self, volid: str) -> str:
        """The volume's own name. Raises :class:`StorageError` for one that is none of ours."""
        storage, name = split_volid(volid)
        if storage != self.name:
            raise StorageError(f"volume '{volid}' is not on storage '{self.name}'")
        found = BLOCK_DISK.fullmatch(name)
        based = found is not None and found["lower"] is not None
        if not (found or BLOCK_SEED.fullmatch(name)) or (based and not self.names_base):
            raise StorageError(f"'{name[:200]}' is no name of a disk on storage '{self.name}'")
        return name.rpartition("/")[2]

    def volid(self, name: str, lower: str = "") -> str:
        """The volume id of what is called so and lies on that base."""
        return f"{self.name}:{f'{lower}/' if lower and self.names_base else ''}{name}"

    def path(self, volid: str) -> Path:
        """Where the device is, without looking."""
        return Path(self.place(self.leaf(volid)))

    def opened_as(self, volid: str, filename: str) -> bool:
        """Whether ``filename``, as QEMU tells it, is this volume."""
        return filename == self.place(self.leaf(volid))

    def describe(self, entry: Entry, entries: dict[str, Entry]) -> Volume | None:
        """What a listed volume is; None for what is not ours."""
        found = BLOCK_DISK.fullmatch(entry.name) or BLOCK_SEED.fullmatch(entry.name)
        if found is None or "/" in entry.name:
            return None
        lower = entry.lower if entry.lower in entries else ""
        above = entries[lower].lower if lower else ""
        return Volume(
            volid=self.volid(entry.name, lower), content="images", format="raw", size=entry.size,
            used=entry.used, path=Path(self.place(entry.name)), vmid=int(found["vmid"]),
            base=self.volid(lower, above) if lower else "", location=self.place(entry.name),
        )  # fmt: skip

    async def find(self, volid: str) -> Volume:
        """The volume as it is now; raises when it is missing."""
        name = self.leaf(volid)
        entries = await self.entries()
        found = self.describe(entries[name], entries) if name in entries else None
        if found is None or found.volid != volid:
            raise StorageError(f"volume '{volid}' does not exist")
        return found

    async def list(self, content: str, vmid: int | None = None) -> Listing:
        """The disks, by name; nothing else lies here."""
        if content != "images":
            return Listing(())
        entries = await self.entries()
        described = (self.describe(entry, entries) for _, entry in sorted(entries.items()))
        return Listing(tuple(one for one in described if one and vmid in (None, one.vmid)))

    async def prepare(self) -> None:
        """Nothing: the pool is an operator's."""

    async def activate(self, volid: str, fmt: str) -> Volume:
        """Switch the volume's device on and let QEMU's user open it."""
        found = await self.find(volid)
        if fmt != "raw":
            raise StorageError(f"volume '{volid}' is raw, our record says {fmt}")
        await self.switch_on(self.leaf(volid))
        if found.location.startswith("/"):
            await devices.hand_over(found.path, volid, self.user)
        return found

    @contextlib.asynccontextmanager
    async def reading(self, volid: str, snapshot: str = "") -> AsyncIterator[tuple[Volume, str]]:
        """The volume, switched on, or what a snapshot of it holds."""
        found = await self.activate(volid, "raw")
        if not snapshot:
            yield found, ""
            return
        if snapshot not in await self.snapshots(volid):
            raise StorageError(f"volume '{volid}' has no snapshot '{snapshot}'")
        place = self.shot_place(self.leaf(volid), snapshot)
        async with self.shown(self.leaf(volid), snapshot):
            if place.startswith("/"):
                await devices.hand_over(Path(place), volid, self.user)
            yield replace(found, location=place, path=Path(place)), ""

    async def write_notes(self, volid: str, text: str) -> None:
        """Refused: no backup lies here."""
        raise StorageError(f"storage '{self.name}' holds no backups")

    async def protect(self, volid: str, protected: bool) -> None:
        """Refused: no backup lies here."""
        raise StorageError(f"storage '{self.name}' holds no backups")

    # ---- numbers

    def lock(self) -> asyncio.Lock:
        """Held while a volume gets its number."""
        return _locks.setdefault(asyncio.get_running_loop(), {}).setdefault(self.name, asyncio.Lock())

    async def free_number(self, vmid: int) -> int:
        """The lowest number no disk and no base of the VM has."""
        taken = {int(found["number"]) for found in self._disks(await self.entries(), vmid)}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def _disks(self, entries: Iterable[str], vmid: int) -> Iterable[Any]:
        matches = (BLOCK_DISK.fullmatch(name) for name in entries)
        return (found for found in matches if found and int(found["vmid"]) == vmid)

    def rounded(self, size: int) -> int:
        """``size`` in whole pieces of the storage."""
        return -(-size // self.granule) * self.granule

    # ---- snapshots

    def snapshot_refusal(self, volid: str) -> str:
        """Why this volume cannot be part of a snapshot, as a sentence; empty when it can."""
        found = BLOCK_DISK.fullmatch(volid.partition(":")[2])
        if found is None:
            return f"'{volid}' is no disk."
        return f"'{volid}' is a base and stays as it is." if found["kind"] == "base" else ""

    def snapshots_apart(self, volid: str) -> bool:
        """The storage takes them."""
        return True

    async def revert_refusal(self, volid: str, name: str) -> str:
        """Why the volume cannot go back to that snapshot; empty when it can."""
        there = name in await self.snapshots(volid)
        return "" if there else f"volume '{volid}' has no snapshot '{name}'"

    async def snapshots(self, volid: str) -> Shots:
        """The names of the snapshots, oldest first."""
        return await self.shots(self.leaf(volid))

    async def snapshot(self, volid: str, name: str) -> None:
        """Take a snapshot. The caller sees to it that a guest which has the disk open stands still."""
        refusal = self.snapshot_refusal(volid)
        if refusal:
            raise StorageError(refusal)
        await self.find(volid)
        if name in await self.snapshots(volid):
            raise StorageError(f"volume '{volid}' has a snapshot '{name}' already")
        await self.shoot(self.leaf(volid), name)

    async def revert(self, volid: str, name: str) -> None:
        """Make a disk no guest has open what it was in the snapshot."""
        refusal = await self.revert_refusal(volid, name)
        if refusal:
            raise StorageError(refusal)
        await self.back_to(self.leaf(volid), name)

    async def delete_snapshot(self, volid: str, name: str) -> None:
        """Remove a snapshot. One that is gone already is no error."""
        if name in await self.snapshots(volid):
            await self.unshoot(self.leaf(volid), name)


async def tool(*argv: str, timeout: float = 120) -> str:
    """Run a storage's own program as ourselves; its failures become :class:`StorageError` in its words."""
    try:
        result = await command.run(argv, timeout=timeout)
    except CommandError as error:
        if error.exit_code == 127:
            raise StorageError(f"'{argv[0]}' is not installed on this node") from error
        raise StorageError(f"{argv[0]} {argv[1]}: {error.output.strip() or error}") from error
    return result.text


def no_room(storage: str, size: int, room: int) -> StorageError:
    """What is said when something does not fit."""
    return StorageError(
        f"storage '{storage}' has no room: {gib(size)} GiB wanted, {gib(max(room, 0))} GiB free",
        hint="Choose a smaller disk or another storage.",
    )


Work = Callable[[str], Awaitable[None]]
"""Makes the volume that is called so."""
