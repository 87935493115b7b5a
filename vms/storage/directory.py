"""Storage kind ``dir``: image files below one folder, laid out as Proxmox lays them out.

::

    ROOT/images/101/vm-101-disk-0.qcow2     volume  NAME:101/vm-101-disk-0.qcow2
    ROOT/images/101/vm-101-cloudinit.raw    volume  NAME:101/vm-101-cloudinit.raw
    ROOT/template/iso/debian.iso            volume  NAME:iso/debian.iso
    ROOT/import/debian-12.qcow2             volume  NAME:import/debian-12.qcow2

Folders we make can be crossed, not read (0711); a disk belongs to the user QEMU runs as and to nobody
else (0600). No volume is a symlink, a FIFO, a device or a file with a second name.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pwd
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from vms.errors import StorageError
from vms.host.paths import make_folder
from vms.storage import image
from vms.storage.base import Content, DiskFormat, Finding, Listing, StorageStatus, Volume, split_volid
from vms.storage.names import DISK_NAME, IMPORT_SUFFIXES, SEED_NAME, gib, is_import_name, is_iso_name, oddity

RESERVE = 64 << 20
"""Bytes of the file system that stay free: the database and the logs may live there too."""

_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Never through a symlink, never waiting for the other end of a FIFO."""


class DirectoryStorage:
    """A folder on a file system. See :class:`vms.storage.base.Storage` for what each verb promises."""

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

    def folder(self, content: Content) -> Path:
        """Where a library's files of one content lie. Raises :class:`KeyError` for disk images."""
        return {"iso": self.iso_folder, "import": self.import_folder}[content]

    def path(self, volid: str) -> Path:
        """Where the volume is. Raises :class:`StorageError` for a name that is none of ours."""
        storage, name = split_volid(volid)
        if storage != self.name:
            raise StorageError(f"volume '{volid}' is not on storage '{self.name}'")
        if name.startswith("iso/") and is_iso_name(name[4:]):
            return self.iso_folder / name[4:]
        if name.startswith("import/") and is_import_name(name[7:]):
            return self.import_folder / name[7:]
        if DISK_NAME.fullmatch(name) or SEED_NAME.fullmatch(name):
            return self.root / "images" / name
        raise StorageError(f"'{name[:200]}' is no name of a disk or an ISO on storage '{self.name}'")

    def _volid(self, path: Path) -> str:
        if path.parent == self.iso_folder:
            return f"{self.name}:iso/{path.name}"
        if path.parent == self.import_folder:
            return f"{self.name}:import/{path.name}"
        return f"{self.name}:{path.relative_to(self.root / 'images')}"

    # ---- health and room

    async def prepare(self) -> None:
        """Make the folders of a new storage; harmless when they exist. The root's parent must."""
        await asyncio.to_thread(self._prepare)

    def _prepare(self) -> None:
        folders = (self.root / "images", self.root / "template", self.iso_folder, self.import_folder)
        for folder in (self.root, *folders):
            _ensure(folder)

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

    # ---- making and deleting

    async def allocate(self, vmid: int, size: int, fmt: DiskFormat) -> Volume:
        """A new empty disk; see the protocol. ``size`` is rounded up to 512 bytes by the format."""
        if size <= 0:
            raise StorageError("a disk must be larger than 0")
        await self.check_space(size)
        path = await asyncio.to_thread(self._reserve, vmid, fmt)
        try:
            if fmt == "raw":
                await asyncio.to_thread(os.truncate, path, size)
            else:
                await image.create(path, size, fmt, user=self.user)
            return await self.find(self._volid(path))
        except OSError as error:
            await asyncio.to_thread(self._remove, path)
            raise StorageError(f"disk of {gib(size)} GiB: {error.strerror}") from error
        except BaseException:
            await asyncio.to_thread(self._remove, path)
            raise

    async def allocate_copy(self, vmid: int, source: Path, fmt: DiskFormat) -> Volume:
        """A new disk with the contents of a raw file of this machine's distribution."""
        size = (await asyncio.to_thread(source.stat)).st_size
        await self.check_space(size)
        path = await asyncio.to_thread(self._reserve, vmid, fmt)
        try:
            await image.convert(source, "raw", path, fmt, user=self.user)
            return await self.find(self._volid(path))
        except BaseException:
            await asyncio.to_thread(self._remove, path)
            raise

    async def allocate_import(
        self, vmid: int, source: Path, source_format: str, fmt: DiskFormat, progress: image.Progress
    ) -> Volume:
        """A new disk holding a copy of a stranger's image; when it raises, nothing is left."""
        header = await asyncio.to_thread(_header, source, source_format)
        image.check_foreign(header, source_format, f"image '{source.name}'")
        await self.check_space((await asyncio.to_thread(source.stat)).st_size)
        path = await asyncio.to_thread(self._reserve, vmid, fmt)
        try:
            await image.convert_foreign(source, header, path, fmt, user=self.user, progress=progress)
            return await self.find(self._volid(path))
        except BaseException:
            await asyncio.to_thread(self._remove, path)
            raise

    async def allocate_seed(self, vmid: int, content: bytes, fmt: DiskFormat = "raw") -> Volume:
        """The drive of a cloud-init seed: ``content`` in a volume of its own, made or written again."""
        path = self.root / "images" / str(vmid) / f"vm-{vmid}-cloudinit.{fmt}"
        await self.prepare()
        await self.check_space(len(content))
        await asyncio.to_thread(self._put, path, content, fmt)
        if fmt == "qcow2":
            raw = path.with_suffix(".raw.tmp")
            try:
                await image.convert(raw, "raw", path, fmt, user=self.user)
            finally:
                await asyncio.to_thread(raw.unlink, missing_ok=True)
        return await self.find(self._volid(path))

    def _put(self, path: Path, content: bytes, fmt: str) -> None:
        """Write a seed whole or not at all; for qcow2 the bytes that are to become it, and its place."""
        _ensure(path.parent)
        place = path.with_suffix(".raw.tmp")
        place.unlink(missing_ok=True)
        descriptor = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _FILE, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            self._give_away(file.fileno())
        if fmt == "raw":
            place.replace(path)
            return
        with _opened(path, os.O_CREAT | os.O_WRONLY) as made:
            self._give_away(made)

    def _reserve(self, vmid: int, fmt: DiskFormat) -> Path:
        """An empty file under the lowest number no format has taken; ours against every rival."""
        folder = self.root / "images" / str(vmid)
        self._prepare()
        _ensure(folder)
        with _opened(folder, os.O_RDONLY | os.O_DIRECTORY) as directory:
            fcntl.flock(directory, fcntl.LOCK_EX)
            taken = {int(m["number"]) for name in os.listdir(directory) if (m := _disk(vmid, name))}
            number = next(n for n in range(len(taken) + 1) if n not in taken)
            name = f"vm-{vmid}-disk-{number}.{fmt}"
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | _FILE
            descriptor = os.open(name, flags, 0o600, dir_fd=directory)
            try:
                self._give_away(descriptor)
            finally:
                os.close(descriptor)
        return folder / name

    def _give_away(self, descriptor: int) -> None:
        """Make an open disk belong to QEMU's user, and to nobody else."""
        if self.user is not None:
            entry = pwd.getpwnam(self.user)
            os.fchown(descriptor, entry.pw_uid, entry.pw_gid)
        os.fchmod(descriptor, 0o600)

    async def free(self, volid: str) -> None:
        """Delete a volume for good. One that is gone already is no error."""
        await asyncio.to_thread(self._remove, self.path(volid))

    def _remove(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        if path.parent not in (self.iso_folder, self.import_folder):
            with contextlib.suppress(OSError):  # not empty: the VM has more disks
                path.parent.rmdir()

    # ---- finding

    async def find(self, volid: str) -> Volume:
        """The volume as it is now; :class:`StorageError` when it is missing or no plain file."""
        return await asyncio.to_thread(self._find, self.path(volid))

    def _find(self, path: Path) -> Volume:
        with self._open(path) as descriptor:
            return self._describe(path, descriptor)

    @contextlib.contextmanager
    def _open(self, path: Path) -> Iterator[int]:
        volid = self._volid(path)
        try:
            opened = _opened(path, os.O_RDONLY)
            with opened as descriptor:
                problem = oddity(os.fstat(descriptor))
                if problem:
                    raise StorageError(f"volume '{volid}' is not used: it is {problem}")
                yield descriptor
        except FileNotFoundError:
            raise StorageError(f"volume '{volid}' does not exist") from None
        except OSError as error:
            raise StorageError(f"volume '{volid}' cannot be opened: {error.strerror}") from error

    def _describe(self, path: Path, descriptor: int) -> Volume:
        found = os.fstat(descriptor)
        contents: dict[Path, Content] = {self.iso_folder: "iso", self.import_folder: "import"}
        content = contents.get(path.parent, "images")
        fmt = "iso" if content == "iso" else path.suffix[1:]
        size = found.st_size
        if content == "import":
            header = image.check_import(descriptor, path.name)
            fmt, size = header.kind, header.virtual_size
        elif fmt == "qcow2" and size:
            size = image.inspect(descriptor).virtual_size
        return Volume(
            volid=self._volid(path),
            content=content,
            format=fmt,
            size=size,
            used=found.st_blocks * 512,
            path=path,
            vmid=int(path.parent.name) if content == "images" else None,
        )

    async def activate(self, volid: str, fmt: str) -> Volume:
        """Check that the volume is there, is what our record says, and can be opened by QEMU's user.

        A disk that belongs to a user QEMU ran as before is handed over.
        """
        return await asyncio.to_thread(self._activate, self.path(volid), fmt)

    def _activate(self, path: Path, fmt: str) -> Volume:
        with self._open(path) as descriptor:
            volume = self._describe(path, descriptor)
            if volume.content == "import":
                raise StorageError(f"'{volume.volid}' is an image to import, no disk; import it first")
            if volume.content == "iso":
                self._check_readable(volume, descriptor)
                return volume
            if volume.format != fmt:
                raise StorageError(f"volume '{volume.volid}' is {volume.format}, our record says {fmt}")
            image.check_plain(image.inspect(descriptor), fmt, f"volume '{volume.volid}'")
            if os.geteuid() == 0:
                self._give_away(descriptor)
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

    async def list(self, content: Content, vmid: int | None = None) -> Listing:
        """The volumes of one content, by name; what does not belong there comes as findings."""
        return await asyncio.to_thread(self._list, content, vmid)

    def _list(self, content: Content, vmid: int | None) -> Listing:
        if content != "images":
            folders = [self.folder(content)]
        else:
            images = self.root / "images"
            folders = [images / str(vmid)] if vmid is not None else sorted(_folders(images))
        volumes, findings = [], []
        for folder in folders:
            for path in _entries(folder):
                found = self._look(content, path)
                if isinstance(found, Volume):
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
        elif not any(name.fullmatch(f"{path.parent.name}/{path.name}") for name in (DISK_NAME, SEED_NAME)):
            return None
        try:
            problem = oddity(path.lstat())
            if problem:
                return Finding(path, f"it is {problem}")
            return self._find(path)
        except FileNotFoundError:
            return None
        except (OSError, StorageError) as error:
            return Finding(path, str(error))


def _ensure(folder: Path) -> None:
    """Make a folder that is missing. One that is there, an operator's perhaps, stays as it is."""
    if not folder.is_dir():
        make_folder(folder, os.geteuid(), os.getegid(), 0o711)


def _disk(vmid: int, name: str) -> re.Match[str] | None:
    return DISK_NAME.fullmatch(f"{vmid}/{name}")


def _header(path: Path, fmt: str) -> image.Header:
    """What an image says of itself. Raises :class:`StorageError` when it cannot be opened."""
    try:
        with _opened(path, os.O_RDONLY) as descriptor:
            if fmt == "raw":  # its bytes are a guest's, who may write any magic there
                return image.Header(kind="raw", virtual_size=os.fstat(descriptor).st_size)
            return image.inspect(descriptor)
    except OSError as error:
        raise StorageError(f"image '{path.name}' cannot be opened: {error.strerror}") from error


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _folders(images: Path) -> list[Path]:
    return [path for path in _entries(images) if path.name.isdigit() and not path.is_symlink()]


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | _FILE, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
