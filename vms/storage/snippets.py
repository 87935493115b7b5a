"""The folder ``snippets`` of a directory storage: small texts for cloud-init, where Proxmox's users look.

The database is the truth; what lies here is its image, read-only, written whole or not at all. Everything is
reached through one descriptor of the folder and never through a link, so that nobody who may write there can
make us read or replace a file elsewhere. The calls block: use them from a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vms.config.snippets import LIMIT, check_name, decode, fingerprint, is_name
from vms.errors import ConfigError, StorageError
from vms.storage.names import oddity

MODE = 0o444
"""Readable for everybody as on Proxmox, writable for nobody: changing the file changes nothing."""
MOST = 500
"""Files that are looked at in one folder."""
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True)
class Found:
    """A file of the folder. ``sha256`` is of its text as it is kept. ``problem`` says why it cannot be used;
    then there is no checksum."""

    name: str
    size: int
    sha256: str = ""
    problem: str = ""


def folder(root: Path) -> Path:
    """Where a storage's snippets lie."""
    return root / "snippets"


@contextlib.contextmanager
def _opened(root: Path, *, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder, which is no link. Raises :class:`StorageError`."""
    path = folder(root)
    try:
        if make:
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o755)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _FILE)
    except OSError as error:
        raise StorageError(f"the folder {path} cannot be opened: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def listing(root: Path) -> list[Found]:
    """What lies in the folder, by name. A folder that is not there holds nothing."""
    try:
        with _opened(root) as directory:
            names = sorted(name for name in os.listdir(directory) if not name.startswith("."))[:MOST]
            return [_look(directory, name) for name in names]
    except StorageError:
        if os.path.lexists(folder(root)):
            raise
        return []


def _look(directory: int, name: str) -> Found:
    if not is_name(name):
        return Found(
            name.encode(errors="replace").decode(), 0, problem="its name has signs that are not taken"
        )
    try:
        data = _bytes(directory, name)
        text = decode(data)
    except (StorageError, ConfigError) as error:
        said = error.text if isinstance(error, ConfigError) else str(error)
        return Found(name, _size(directory, name), problem=said)
    return Found(name, len(data), fingerprint(text))


def _size(directory: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
    except OSError:
        return 0


def _bytes(directory: int, name: str) -> bytes:
    try:
        descriptor = os.open(name, os.O_RDONLY | _FILE, dir_fd=directory)
    except OSError as error:
        what = "is a symbolic link" if error.errno == errno.ELOOP else f"cannot be opened: {error.strerror}"
        raise StorageError(f"'{name}' {what}") from error
    try:
        status = os.fstat(descriptor)
        problem = oddity(status)
        if problem:
            raise StorageError(f"'{name}' is {problem}")
        if status.st_size > LIMIT:
            raise StorageError(f"'{name}' has {status.st_size} bytes; a snippet has at most {LIMIT}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(LIMIT + 1)
    finally:
        os.close(descriptor)


def read(root: Path, name: str) -> str:
    """The text of a file. Raises :class:`StorageError`, or :class:`ConfigError` for what is no text."""
    check_name(name)
    with _opened(root) as directory:
        return decode(_bytes(directory, name))


def write(root: Path, name: str, text: str) -> None:
    """Make ``text`` the whole file. What stood there is replaced, never written through.

    Raises :class:`StorageError`; the file is what it was then.
    """
    check_name(name)
    with _opened(root, make=True) as directory:
        beside = f".{secrets.token_hex(8)}.tmp"
        try:
            descriptor = os.open(
                beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _FILE, 0o600, dir_fd=directory
            )
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode())
                os.fchmod(descriptor, MODE)
            _check_replaceable(directory, name)
            os.replace(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError as error:
            raise StorageError(f"'{name}' cannot be written: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(beside, dir_fd=directory)


def _check_replaceable(directory: int, name: str) -> None:
    """A folder of that name stays. A link, a FIFO or a second name is replaced, not followed."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise StorageError(f"'{name}' is a folder; remove it first")


def remove(root: Path, name: str) -> None:
    """Delete a file; one that is gone already is no error. Raises :class:`StorageError`."""
    check_name(name)
    if not os.path.lexists(folder(root)):
        return
    with _opened(root) as directory:
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
        except OSError as error:
            raise StorageError(f"'{name}' cannot be removed: {error.strerror}") from error
