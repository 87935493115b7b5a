"""Hostile upload: bytes from a browser become an ISO or an image to import in the library, or leave no trace.

They stream into a quarantine file under a random name; size and room are watched while reading;
what arrived is looked at; only then does it get its name, by ``link()``, which never overwrites. Two
uploads of one name cannot mix: whoever finishes second is told that the name is taken.

The calls block: use them from a thread (a synchronous view), one thread per upload.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from vms.errors import StorageError
from vms.host.paths import make_folder
from vms.storage.base import Content
from vms.storage.directory import DirectoryStorage
from vms.storage.folder import RESERVE
from vms.storage.header import check_import, check_iso
from vms.storage.names import gib, is_import_name, is_iso_name

SIZE_LIMIT = 64 << 30
"""Bytes of the largest ISO taken; the largest installers are near 20 GiB."""

CHECK_EVERY = 64 << 20
"""Bytes written between two looks at the room that is left."""

_WORDS = {"iso": "an ISO", "import": "an image"}
NEWBORN = 60
"""Seconds a quarantine file is left alone: it is made an instant before it is locked."""


class Upload:
    """One file on its way in. Use as a context manager: left without :meth:`finish`, it is gone."""

    def __init__(
        self, storage: DirectoryStorage, name: str, *, size: int | None = None, limit: int = SIZE_LIMIT,
        content: Content = "iso",
    ) -> None:  # fmt: skip
        """Begin. ``size`` is what the sender announced, if it did (``Content-Length``), in bytes.
        ``content`` says which library it goes to: ``iso`` or ``import``.

        Raises :class:`StorageError` before a byte is read when the name, the size or the room is wrong.
        """
        check_name(name, content)
        self._limit = limit
        self._content = content
        self._target = storage.folder(content) / name
        self._folder = storage.root / "upload"
        self._free_at = 0
        self.name = name
        self.volid = f"{storage.name}:{content}/{name}"
        self.size = 0
        self.format = "iso"
        self.received = 0
        if size is not None and size > limit:
            raise self._too_large()
        if os.path.lexists(self._target):
            raise self._taken()
        storage.make_folders()
        make_folder(self._folder, os.geteuid(), os.getegid(), 0o700)
        sweep(self._folder)
        self._check_room(size or 0)
        self._path = self._folder / f"{secrets.token_hex(16)}.part"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        # Held while the upload lives, so that a sweep knows a stale file from a slow one.
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def write(self, chunk: bytes) -> None:
        """Take the next bytes. Raises :class:`StorageError` over the limit or with no room left."""
        self.received += len(chunk)
        if self.received > self._limit:
            raise self._too_large()
        if self.received >= self._free_at:
            self._check_room(len(chunk))
            self._free_at = self.received + CHECK_EVERY
        self._hash.update(chunk)
        view = memoryview(chunk)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageError("the storage is full; nothing of the upload was kept") from error
            raise StorageError(f"the upload cannot be written: {error.strerror}") from error

    @property
    def sha256(self) -> str:
        """The checksum of what has come so far, in hex."""
        return self._hash.hexdigest()

    def finish(self, *, sha256: str = "") -> str:
        """Check what came and give it its name; answers the volume (``local:iso/debian.iso``).

        ``sha256``, when given, must be what arrived. Raises :class:`StorageError`; the quarantine is
        emptied either way.
        """
        try:
            if sha256 and sha256.strip().lower() != self.sha256:
                raise StorageError(
                    f"the checksum differs: {self.sha256} came, {sha256.strip()[:64]} was expected"
                )
            if self._content == "import":
                header = check_import(self._descriptor, self.name)
                self.size, self.format = header.virtual_size, header.kind
            else:
                check_iso(self._descriptor)
                self.size = self.received
            os.fchmod(self._descriptor, 0o644)
            os.fsync(self._descriptor)
            try:
                os.link(self._path, self._target, follow_symlinks=False)
            except FileExistsError:
                raise self._taken() from None
        finally:
            self.abort()
        return self.volid

    def abort(self) -> None:
        """Forget the quarantine file; harmless after :meth:`finish` and a second time."""
        if self._descriptor >= 0:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = -1

    def _check_room(self, wanted: int) -> None:
        found = os.statvfs(self._folder)
        room = max(found.f_bavail * found.f_frsize - RESERVE, 0)
        if wanted > room:
            raise StorageError(f"the storage has no room: {gib(wanted)} GiB wanted, {gib(room)} GiB free")

    def _too_large(self) -> StorageError:
        return StorageError(f"an image may have at most {gib(self._limit)} GiB")

    def _taken(self) -> StorageError:
        return StorageError(
            f"there is {_WORDS[self._content]} called '{self.name}' already",
            hint="Remove it first, or give the file another name.",
        )


def check_name(name: str, content: Content = "iso") -> None:
    """Raise :class:`StorageError` unless a library's file of that content may be called ``name``."""
    good, ends = (
        (is_import_name, ".qcow2, .raw, .img or .vmdk") if content == "import" else (is_iso_name, ".iso")
    )
    if not good(name):
        raise StorageError(
            f"'{name[:80]}' cannot be the name of {_WORDS[content]} here",
            hint=f"Letters, digits and . _ + - only, at most 120 characters, ending in {ends}.",
        )


def sweep(folder: Path) -> int:
    """Delete what dead uploads left in quarantine; answers how many. Living ones are locked."""
    removed = 0
    for path in folder.glob("*.part"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if time.time() - os.fstat(descriptor).st_mtime < NEWBORN:
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            removed += 1
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
    return removed
