"""The folder ``dump`` of a directory storage: archives of backups, and what stands beside each.

::

    dump/vzdump-qemu-101-2026_11_27-02_00_00.tar.zst                the archive
    dump/vzdump-qemu-101-2026_11_27-02_00_00.tar.zst.notes          what its maker wrote, UTF-8
    dump/vzdump-qemu-101-2026_11_27-02_00_00.tar.zst.protected      empty: nothing removes the backup
    dump/vzdump-qemu-101-2026_11_27-02_00_00.tar.zst.log            the log of the task that made it
    dump/.vzdump-qemu-101-2026_11_27-02_00_00.tar.zst.part          being written

The files are the truth and rows follow them, so that a storage carried to another machine keeps all of it.
A file beside an archive may be a stranger's: links and long texts are not followed. The calls block.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from vms.errors import StorageError
from vms.storage.base import Finding, Volume
from vms.storage.names import (
    BACKUP_NAME,
    LOG,
    NOTES,
    PROTECTED,
    SIDECARS,
    backup_begun,
    backup_part,
    is_backup_part,
    oddity,
)

NOTES_LIMIT = 64 << 10
"""Bytes of notes that are read or written."""
LOG_LIMIT = 1 << 20
QUIET = 3600.0
"""Seconds after which an unfinished archive that nobody writes to counts as left over."""

_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_UNWANTED = re.compile(r"[^\S\n\t]|[^\x20-\U0010ffff\n\t]|[\x7f\ud800-\udfff]")


def beside(path: Path, suffix: str) -> Path:
    """The file with ``suffix`` (:data:`NOTES`, :data:`PROTECTED`, :data:`LOG`) beside an archive."""
    return path.with_name(path.name + suffix)


def describe(volid: str, path: Path, descriptor: int) -> Volume:
    """What an open archive is: all of it stands in its name and beside it. Nothing inside is looked at."""
    begun, named = backup_begun(path.name), BACKUP_NAME.fullmatch(path.name)
    if begun is None or named is None:
        raise StorageError(f"'{volid}' is no name of a backup")
    found = os.fstat(descriptor)
    return Volume(
        volid=volid,
        content="backup",
        format=named["fmt"],
        size=found.st_size,
        used=found.st_blocks * 512,
        path=path,
        vmid=begun[0],
        made=begun[1],
        notes=read_notes(path),
        protected=is_protected(path),
    )


def left_over(path: Path) -> Finding | None:
    """An unfinished archive that nobody has written to for an hour; nothing for every other file."""
    if not is_backup_part(path.name):
        return None
    with contextlib.suppress(OSError):
        if time.time() - path.lstat().st_mtime > QUIET:
            return Finding(path, "it is an unfinished backup nobody writes to; delete it")
    return None


def clean(text: str) -> str:
    """Notes as they are kept: line ends made plain, no control characters, nothing at the end."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNWANTED.sub(" ", plain).rstrip()


def read_notes(path: Path) -> str:
    """The notes beside an archive; empty when there are none, or none we would read."""
    return clean(_text(beside(path, NOTES), NOTES_LIMIT))


def read_log(path: Path) -> str:
    """The log of the task that made a backup, its first MiB; empty when it is not there."""
    return _text(beside(path, LOG), LOG_LIMIT)


def _text(path: Path, limit: int) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | _FILE)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        if oddity(os.fstat(descriptor)):
            return ""
        return file.read(limit).decode(errors="replace")


def write_notes(path: Path, text: str) -> None:
    """Make ``text`` an archive's notes, whole or not at all. Raises :class:`StorageError`."""
    kept = clean(text).encode()
    if len(kept) > NOTES_LIMIT:
        raise StorageError(f"notes have at most {NOTES_LIMIT >> 10} KiB")
    with _told(path):
        if not kept:
            beside(path, NOTES).unlink(missing_ok=True)
            return
        place = path.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            with os.fdopen(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _FILE, 0o600), "wb") as file:
                file.write(kept)
            place.replace(beside(path, NOTES))
        finally:
            place.unlink(missing_ok=True)


def is_protected(path: Path) -> bool:
    """Whether something called so stands beside the archive, whatever it is."""
    return os.path.lexists(beside(path, PROTECTED))


def protect(path: Path, protected: bool) -> None:
    """Set or take away the mark. Raises :class:`StorageError`, also when there is no such archive."""
    with _told(path):
        if not path.is_file():
            raise StorageError(f"there is no backup {path.name}")
        mark = beside(path, PROTECTED)
        if not protected:
            mark.unlink(missing_ok=True)
        elif not is_protected(path):
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _FILE, 0o600))


def remove(path: Path) -> None:
    """Delete an archive and then what stands beside it. Raises :class:`StorageError` for a protected one."""
    if path.exists() and is_protected(path):
        raise StorageError(f"backup {path.name} is protected", hint="Take the protection away first.")
    with _told(path):
        path.unlink(missing_ok=True)
        for suffix in SIDECARS:
            beside(path, suffix).unlink(missing_ok=True)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"backup {path.name}: {error.strerror}") from error


# ---- an archive in the making


def begin(folder: Path, name: str) -> int:
    """Make the file in which the archive ``name`` is written; answers its descriptor.

    Raises :class:`StorageError`.
    """
    path = folder / backup_part(name)
    with _told(path):
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o600)


def complete(folder: Path, name: str, notes: str, log: str) -> Path:
    """Give an archive that is written and on the disk its name, its notes and its log; answers its path.

    What stands beside it comes first: an archive that is there has all of it. Raises :class:`StorageError`.
    """
    path = folder / name
    write_notes(path, notes)
    with _told(path):
        text = log.encode(errors="replace")[:LOG_LIMIT]
        file = os.open(beside(path, LOG), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FILE, 0o600)
        with os.fdopen(file, "wb") as writing:
            writing.write(text)
        (folder / backup_part(name)).rename(path)
        _sync(folder)
    return path


def abandon(folder: Path, name: str) -> None:
    """Remove an archive that did not become one, with what was put beside it; gone already is no error.

    Raises :class:`StorageError`.
    """
    path = folder / name
    with _told(path):
        (folder / backup_part(name)).unlink(missing_ok=True)
        if not path.exists():
            for suffix in (NOTES, LOG):
                beside(path, suffix).unlink(missing_ok=True)


def room(folder: Path) -> int:
    """Bytes that are free on the file system of a folder; none when it cannot be asked."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
