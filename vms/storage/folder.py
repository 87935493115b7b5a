"""A directory storage as it is: names and places of its volumes, its health, what lies there.

::

    ROOT/images/101/vm-101-disk-0.qcow2     volume  NAME:101/vm-101-disk-0.qcow2
    ROOT/images/900/base-900-disk-0.qcow2   volume  NAME:900/base-900-disk-0.qcow2
    ROOT/images/102/vm-102-disk-0.qcow2     volume  NAME:900/base-900-disk-0.qcow2/102/vm-102-disk-0.qcow2
    ROOT/images/101/vm-101-cloudinit.raw    volume  NAME:101/vm-101-cloudinit.raw
    ROOT/images/101/vm-101-state-one.raw    volume  NAME:101/vm-101-state-one.raw
    ROOT/template/iso/debian.iso            volume  NAME:iso/debian.iso
    ROOT/import/debian-12.qcow2             volume  NAME:import/debian-12.qcow2
    ROOT/dump/vzdump-qemu-101-….tar.zst     volume  NAME:backup/vzdump-qemu-101-….tar.zst

A linked clone is known by the backing file in its header: only the base its name says, spelled as we spell
it, is one. No volume is a symlink, a FIFO, a device or a file with a second name.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from vms.errors import StorageError
from vms.storage import dump
from vms.storage.base import Content, Finding, Listing, StorageStatus, Volume, split_volid
from vms.storage.header import Header, check_import, check_plain, inspect
from vms.storage.names import (
    IMPORT_SUFFIXES,
    backup_begun,
    base_below,
    gib,
    image_name,
    is_import_name,
    is_iso_name,
    oddity,
)

RESERVE = 64 << 20
"""Bytes of the file system that stay free: the database and the logs may live there too."""

_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Never through a symlink, never waiting for the other end of a FIFO."""

_DEPTH = 8
"""Bases that may lie on each other below a linked clone."""


class Folder:
    """A folder on a file system, looked at. See :class:`vms.storage.base.Storage` for each verb."""

    def __init__(self, name: str, root: str | Path, *, user: str | None = None) -> None:
        """``user``: whom QEMU runs as when that is not us; disks are made theirs."""
        self.name = name
        self.root = Path(root)
        self.user = user

    # ---- names

    @property
    def iso_folder(self) -> Path:
        return self.root / "template" / "iso"

    @property
    def import_folder(self) -> Path:
        return self.root / "import"

    @property
    def dump_folder(self) -> Path:
        """Where the archives of backups lie, and what stands beside each."""
        return self.root / "dump"

    @property
    def images(self) -> Path:
        """Where each VM has a folder for its disks."""
        return self.root / "images"

    def folder(self, content: Content) -> Path:
        """Where a library's files of one content lie. Raises :class:`KeyError` for disk images."""
        return {"iso": self.iso_folder, "import": self.import_folder, "backup": self.dump_folder}[content]

    def path(self, volid: str) -> Path:
        """Where the volume is. Raises :class:`StorageError` for a name that is none of ours."""
        storage, name = split_volid(volid)
        if storage != self.name:
            raise StorageError(f"volume '{volid}' is not on storage '{self.name}'")
        if name.startswith("iso/") and is_iso_name(name[4:]):
            return self.iso_folder / name[4:]
        if name.startswith("import/") and is_import_name(name[7:]):
            return self.import_folder / name[7:]
        if name.startswith("backup/") and backup_begun(name[7:]):
            return self.dump_folder / name[7:]
        if image_name(name):
            return self.images / "/".join(name.split("/")[-2:])
        raise StorageError(f"'{name[:200]}' is no name of a disk or an ISO on storage '{self.name}'")

    def volid(self, path: Path, lower: str = "") -> str:
        """The volume a file is. ``lower``: the two name parts of the base it lies on."""
        if path.parent == self.iso_folder:
            return f"{self.name}:iso/{path.name}"
        if path.parent == self.import_folder:
            return f"{self.name}:import/{path.name}"
        if path.parent == self.dump_folder:
            return f"{self.name}:backup/{path.name}"
        return f"{self.name}:{f'{lower}/' if lower else ''}{path.relative_to(self.images)}"

    # ---- health and room

    async def status(self) -> StorageStatus:
        """Room and health; never raises."""
        return await asyncio.to_thread(self._status)

    def _status(self) -> StorageStatus:
        if not self.root.is_dir():
            return StorageStatus(active=False, text=f"there is no folder {self.root}")
        try:
            found = os.statvfs(self.root)
        except OSError as error:
            return StorageStatus(active=False, text=f"{self.root}: {error.strerror}")
        total = found.f_blocks * found.f_frsize
        # As df counts: what root alone may use is neither used nor available.
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        free = found.f_bavail * found.f_frsize
        writable = os.access(self.root, os.W_OK | os.X_OK)
        text = "" if writable else f"{self.root} is not writable for us"
        return StorageStatus(active=writable, total=total, used=used, available=free, text=text)

    async def check_space(self, size: int) -> None:
        """Raise :class:`StorageError` when ``size`` more bytes would not fit."""
        status = await self.status()
        if not status.active:
            raise StorageError(f"storage '{self.name}' cannot be used: {status.text}")
        room = max(status.available - RESERVE, 0)
        if size > room:
            raise StorageError(
                f"storage '{self.name}' has no room: {gib(size)} GiB wanted, {gib(room)} GiB free",
                hint="Choose a smaller disk or another storage.",
            )

    # ---- finding

    async def find(self, volid: str) -> Volume:
        """The volume as it is now; :class:`StorageError` when it is missing or no plain file."""
        return await asyncio.to_thread(self._find, volid)

    def _find(self, volid: str) -> Volume:
        path = self.path(volid)
        found = self._read(path, volid)
        if found.volid != volid:
            raise StorageError(f"volume '{volid}' does not exist; its file says it is '{found.volid}'")
        return found

    def _read(self, path: Path, volid: str) -> Volume:
        with self.open(path, volid) as descriptor:
            return self.describe(path, descriptor)

    @contextlib.contextmanager
    def open(self, path: Path, volid: str) -> Iterator[int]:
        """A volume's file, open for reading, once it proved to be a plain one."""
        try:
            with opened(path, os.O_RDONLY) as descriptor:
                problem = oddity(os.fstat(descriptor))
                if problem:
                    raise StorageError(f"volume '{volid}' is not used: it is {problem}")
                yield descriptor
        except FileNotFoundError:
            raise StorageError(f"volume '{volid}' does not exist") from None
        except OSError as error:
            raise StorageError(f"volume '{volid}' cannot be opened: {error.strerror}") from error

    def describe(self, path: Path, descriptor: int) -> Volume:
        """What an open file is, by its place and its header."""
        if path.parent == self.dump_folder:
            return dump.describe(self.volid(path), path, descriptor)
        found = os.fstat(descriptor)
        contents: dict[Path, Content] = {self.iso_folder: "iso", self.import_folder: "import"}
        content = contents.get(path.parent, "images")
        fmt = "iso" if content == "iso" else path.suffix[1:]
        size, lower = found.st_size, ""
        if content == "import":
            header = check_import(descriptor, path.name)
            fmt, size = header.kind, header.virtual_size
        elif fmt == "qcow2" and size:
            header = inspect(descriptor)
            size, lower = header.virtual_size, base_below(header.backing)
        return Volume(
            volid=self.volid(path, lower),
            content=content,
            format=fmt,
            size=size,
            used=found.st_blocks * 512,
            path=path,
            vmid=int(path.parent.name) if content == "images" else None,
            base=self._base_volid(lower) if lower else "",
        )

    def _base_volid(self, lower: str) -> str:
        """The volume id of a base, which is longer when it lies on another one."""
        try:
            with opened(self.images / lower, os.O_RDONLY) as descriptor:
                below = base_below(inspect(descriptor).backing) if lower.endswith("qcow2") else ""
        except OSError:
            below = ""  # missing: the start of its clone says so
        return self.volid(self.images / lower, below)

    async def list(self, content: Content, vmid: int | None = None) -> Listing:
        """The volumes of one content, by name; what does not belong there comes as findings."""
        return await asyncio.to_thread(self._list, content, vmid)

    def _list(self, content: Content, vmid: int | None) -> Listing:
        if content != "images":
            folders = [self.folder(content)]
        else:
            folders = [self.images / str(vmid)] if vmid is not None else sorted(_folders(self.images))
        volumes, findings = [], []
        for folder in folders:
            for path in _entries(folder):
                found = self._look(content, path)
                if isinstance(found, Volume):
                    if vmid in (None, found.vmid):
                        volumes.append(found)
                elif found is not None:
                    findings.append(found)
        return Listing(tuple(volumes), tuple(findings))

    def _look(self, content: Content, path: Path) -> Volume | Finding | None:
        """A volume, a finding, or nothing when the file is simply something else."""
        if content == "iso":
            if path.suffix.lower() != ".iso":
                return None
            if not is_iso_name(path.name):
                return Finding(path, "its name may hold only letters, digits and . _ + -; rename it")
        elif content == "import":
            if path.suffix.lower() not in IMPORT_SUFFIXES:
                return None
            if not is_import_name(path.name):
                return Finding(path, "its name may hold only letters, digits and . _ + -; rename it")
        elif content == "backup":
            if not backup_begun(path.name):
                return dump.left_over(path)
        elif not image_name(f"{path.parent.name}/{path.name}"):
            return None
        try:
            problem = oddity(path.lstat())
            if problem:
                return Finding(path, f"it is {problem}")
            return self._read(path, self.volid(path))
        except FileNotFoundError:
            return None
        except (OSError, StorageError) as error:
            return Finding(path, str(error))

    # ---- what lies on what

    def below(self, volid: str) -> Iterator[tuple[Path, Header]]:
        """The bases below a volume, nearest first, each looked at as its start is.

        Raises :class:`StorageError` when one is missing, may be written, or lies on something else than a
        base of this storage.
        """
        name = volid.partition(":")[2]
        lower = "/".join(name.split("/")[:-2])
        for _ in range(_DEPTH):
            if not lower:
                return
            path = self.images / lower
            with self.open(path, f"{self.name}:{lower}") as descriptor:
                header = check_base(descriptor, path)
            yield path, header
            lower = base_below(header.backing)
        raise StorageError(f"volume '{volid}' lies on more than {_DEPTH} bases")

    def clones_of(self, path: Path) -> tuple[str, ...]:
        """The volume ids of the linked clones that lie directly on a base's file."""
        start = f"{self.name}:{path.parent.name}/{path.name}/"
        volumes = self._list("images", None).volumes
        return tuple(volume.volid for volume in volumes if volume.volid.startswith(start))

    def give_away(self, descriptor: int) -> None:
        """Make an open disk belong to QEMU's user, and to nobody else."""
        if self.user is not None:
            entry = pwd.getpwnam(self.user)
            os.fchown(descriptor, entry.pw_uid, entry.pw_gid)
        os.fchmod(descriptor, 0o600)


def check_base(descriptor: int, path: Path) -> Header:
    """What an open base says of itself. Raises :class:`StorageError` unless clones may rest on it."""
    where = f"base '{path.parent.name}/{path.name}'"
    found = os.fstat(descriptor)
    if found.st_mode & 0o222:
        raise StorageError(
            f"{where} may be written; every clone of it would change", hint=f"chmod 444 {path}"
        )
    if path.suffix == ".raw":  # its bytes were a guest's
        return Header(kind="raw", virtual_size=found.st_size)
    header = inspect(descriptor)
    check_plain(header, "qcow2", where, below=base_below(header.backing))
    return header


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _folders(images: Path) -> list[Path]:
    return [path for path in _entries(images) if path.name.isdigit() and not path.is_symlink()]


@contextlib.contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """A file's descriptor: not through a symlink, closed at the end. Raises :class:`OSError`."""
    descriptor = os.open(path, flags | _FILE, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
