"""What every kind of storage can do, and the values it answers.

A volume is named as Proxmox names it: ``STORAGE:VOLNAME``. Sizes are bytes. A storage never sees a
database row; every call may be made while guests run.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from vms.errors import StorageError

DiskFormat = Literal["qcow2", "raw"]
Content = Literal["images", "iso", "import", "backup"]

_STORAGE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,98}[A-Za-z0-9]")


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One disk image, ISO, image to import or backup.

    ``size`` is what a guest sees, ``used`` what it takes on the storage, both in bytes; ``vmid`` is
    the owner's, ``None`` for what a library holds. ``path`` is where this node finds it. ``base`` is the
    volume id of the read-only volume below a linked clone, empty for what stands alone. ``made``, ``notes``
    and ``protected`` are a backup's: when it was begun, and what stands beside its archive. ``location`` is
    how QEMU's programs open what is no plain file, a block device or an image of a cluster; empty for a file.
    """

    volid: str
    content: Content
    format: str
    size: int
    used: int
    path: Path
    vmid: int | None = None
    base: str = ""
    made: datetime | None = None
    notes: str = ""
    protected: bool = False
    location: str = ""

    @property
    def place(self) -> str:
        """What QEMU's programs are told to open."""
        return self.location or str(self.path)

    @property
    def name(self) -> str:
        """The last part of the path: what a person calls it."""
        return self.path.name


@dataclass(frozen=True)
class Finding:
    """Something in the storage's folder that is not what belongs there, and is not offered."""

    path: Path
    text: str


@dataclass(frozen=True)
class Listing:
    """What a storage holds of one content, sorted by name, and what it refused to list."""

    volumes: tuple[Volume, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StorageStatus:
    """Bytes of the file system or pool. ``active`` is false when it cannot be used; ``text`` says why.

    ``warning`` is what somebody should look at while it can still be used.
    """

    active: bool
    total: int = 0
    used: int = 0
    available: int = 0
    text: str = ""
    warning: str = ""


class Storage(Protocol):
    """A place for disks. Everything raises :class:`StorageError` in words a person can act on."""

    name: str

    formats: tuple[DiskFormat, ...]
    """What a disk can be here, the best first."""

    granule: int
    """Bytes; a disk's size is rounded up to a multiple of it."""

    files: bool
    """Whether volumes are plain files. Only such a storage holds ISO images and saved memory."""

    paths: bool
    """Whether a volume has a path on this node, which other programs than QEMU can open."""

    async def prepare(self) -> None:
        """Make what a new storage needs; harmless when it is there."""

    async def status(self) -> StorageStatus:
        """Room and health; never raises."""

    async def check_space(self, size: int) -> None:
        """Raises when ``size`` more bytes would not fit. Allocates nothing."""

    async def allocate(self, vmid: int, size: int, fmt: DiskFormat, *, room: int | None = None) -> Volume:
        """A new empty disk of ``size`` bytes for VM ``vmid``, under the lowest free number.

        ``size`` is rounded up to 4 KiB. ``room``: bytes that have to be free, when it is known what will be
        written; by default ``size``. Undone by :meth:`free`; when it raises, nothing is left.
        """

    async def allocate_copy(self, vmid: int, source: Path, fmt: DiskFormat) -> Volume:
        """A new disk holding a copy of a raw file we trust (a firmware's variable store)."""

    async def allocate_import(
        self, vmid: int, source: Path, source_format: str, fmt: DiskFormat,
        progress: Callable[[float], Awaitable[None]],
    ) -> Volume:  # fmt: skip
        """A new disk holding a copy of a stranger's image, whose header is looked at first.

        ``progress`` hears how far it is, 0 to 1.
        """

    async def allocate_seed(self, vmid: int, content: bytes, fmt: DiskFormat = "raw") -> Volume:
        """The VM's cloud-init drive holding ``content``; replaces the one that is there."""

    async def allocate_state(self, vmid: int, name: str, size: int) -> Volume:
        """An empty file for a guest's saved memory, ``vm-101-state-NAME.raw``, with room for ``size`` bytes.

        Sparse: ``size`` is only checked against the free room, the file grows as it is written.
        """

    async def copy(
        self, vmid: int, source: Volume, fmt: DiskFormat, progress: Callable[[float], Awaitable[None]],
        *, snapshot: str = "", speed: int = 0,
    ) -> Volume:  # fmt: skip
        """A new disk of VM ``vmid`` holding all of ``source``, a volume of ours that no guest writes.

        ``speed``: bytes a second at most, 0 for all there is; blocks that can be shared are not copied.
        ``snapshot``: as it was in that snapshot of its own. When it raises or is cancelled, nothing is left.
        """

    async def copies_at_once(self, source: Volume, fmt: DiskFormat) -> bool:
        """Whether :meth:`copy` of all of ``source`` takes a moment and no room, whatever its size.

        It may then be done while a guest that stands still has it open.
        """

    async def clone(self, vmid: int, base: str) -> Volume:
        """A new disk of VM ``vmid`` that lies on the base volume ``base`` and holds only what differs."""

    async def to_base(self, volid: str) -> Volume:
        """Make a disk read-only and give it a base's name (``base-900-disk-0.qcow2``), so that clones may lie
        on it. Undone by :meth:`from_base`."""

    async def from_base(self, volid: str) -> Volume:
        """The inverse of :meth:`to_base`; only for a base no clone lies on."""

    async def rename(self, volid: str, vmid: int, number: int | None = None) -> Volume:
        """Give a disk to VM ``vmid``, under the lowest number that is free there, or under just that one."""

    async def resize(self, volid: str, size: int) -> Volume:
        """Let a disk no guest has open grow to ``size`` bytes. It never shrinks."""

    def snapshot_refusal(self, volid: str) -> str:
        """Why this volume cannot be part of a snapshot, as a sentence; empty when it can."""

    async def snapshot(self, volid: str, name: str) -> None:
        """Take a snapshot of a disk no guest has open. Undone by :meth:`delete_snapshot`."""

    async def revert(self, volid: str, name: str) -> None:
        """Make a disk no guest has open what it was in the snapshot; what came after is lost."""

    async def delete_snapshot(self, volid: str, name: str) -> None:
        """Remove a snapshot of a disk no guest has open. One that is gone already is no error."""

    async def snapshots(self, volid: str) -> list[str]:
        """The names of the snapshots inside a disk, also while a guest has it open."""

    def snapshots_apart(self, volid: str) -> bool:
        """Whether the storage takes the volume's snapshots itself, also while a guest has it open; then the
        guest has to stand still. Otherwise they lie inside the image and QEMU takes them."""

    async def revert_refusal(self, volid: str, name: str) -> str:
        """Why the volume cannot go back to that snapshot of its own, as a sentence; empty when it can."""

    def reading(self, volid: str, snapshot: str = "") -> AbstractAsyncContextManager[tuple[Volume, str]]:
        """A volume that can be read inside the block, as it was in ``snapshot``, and that snapshot's name
        when it has to be looked for inside the image (``copy`` wants both)."""

    def opened_as(self, volid: str, filename: str) -> bool:
        """Whether ``filename``, as QEMU tells it of its lowest node, is this volume."""

    async def free(self, volid: str) -> None:
        """Delete a volume for good. One that is gone already is no error. A protected backup is refused."""

    async def write_notes(self, volid: str, text: str) -> None:
        """Put a backup's notes beside its archive; empty ones are taken away."""

    async def protect(self, volid: str, protected: bool) -> None:
        """Say of a backup that nothing may remove it, or that something may again."""

    def path(self, volid: str) -> Path:
        """Where the volume is, without looking."""

    async def find(self, volid: str) -> Volume:
        """The volume as it is now; raises when it is missing or is no plain file."""

    async def activate(self, volid: str, fmt: str) -> Volume:
        """Make the volume ready for QEMU and check that it is what our record says (``fmt``)."""

    async def list(self, content: Content, vmid: int | None = None) -> Listing:
        """The volumes of one content; only that VM's with ``vmid``."""


def fitting(formats: tuple[DiskFormat, ...], wanted: str) -> DiskFormat:
    """``wanted`` where a disk can be that, else what is best there."""
    return next((fmt for fmt in formats if fmt == wanted), formats[0])


def split_volid(volid: str) -> tuple[str, str]:
    """``local:101/vm-101-disk-0.qcow2`` → ``("local", "101/vm-101-disk-0.qcow2")``."""
    storage, colon, name = volid.partition(":")
    if not colon or not name or not _STORAGE_NAME.fullmatch(storage):
        raise StorageError(
            f"'{volid[:200]}' is no volume; write STORAGE:NAME, for example local:iso/debian.iso"
        )
    return storage, name
