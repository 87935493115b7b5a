"""The folders an installation lives in: made with the right owner and mode, and checked at every start."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from pvelite.conf import Conf
from vms.errors import StateError

PASSABLE = 0o711
"""QEMU's own user walks through to its sockets and images, but may list nothing."""
PRIVATE = 0o700


def prepare(conf: Conf) -> None:
    """Make what is missing and mend modes. Raises :class:`StateError` naming the folder that cannot stand."""
    conf.home.parent.mkdir(parents=True, exist_ok=True)
    for path, mode in (
        (conf.home, PASSABLE),
        (conf.run_dir, PASSABLE),
        (conf.log_dir, PRIVATE),
        (conf.storage_dir, PASSABLE),
    ):
        own_folder(path, mode)
    if not conf.database_url:
        private_file(conf.home / "pvelite.sqlite3")


def own_folder(path: Path, mode: int) -> None:
    """A folder of ours with exactly ``mode``; a link or somebody else's folder is refused.

    The run directory may lie in ``/tmp``, where anybody could have put something in its place first.
    """
    try:
        path.mkdir(mode=mode, exist_ok=True)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise StateError(f"{path} cannot be used: {error.strerror}", hint="Set PVELITE_HOME.") from error
    try:
        found = os.fstat(handle)
        if found.st_uid != os.geteuid():
            raise StateError(
                f"{path} belongs to user {found.st_uid}, not to us ({os.geteuid()})",
                hint="Give it to the user who runs ./up, or choose another PVELITE_HOME.",
            )
        if stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(handle, mode)
    finally:
        os.close(handle)


def private_file(path: Path) -> None:
    """A file of mode 0600, made empty when it is missing (SQLite gives its side files the same mode)."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(handle, 0o600)
    finally:
        os.close(handle)


def lock_roles(conf: Conf, roles: Iterable[str]) -> list[int]:
    """Take one lock per role for this process's life, so no role of a home runs twice.

    Raises :class:`StateError` naming the process that holds it. Returns the open descriptors.
    """
    held = []
    for role in roles:
        handle = os.open(conf.run_dir / f"{role}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 20).decode(errors="replace").strip()
            os.close(handle)
            raise StateError(
                f"pvelite ({role}) already runs here as process {holder or '?'}",
                hint=f"Stop it first, or set PVELITE_HOME (now {conf.home}) and --bind for a second one.",
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        held.append(handle)
    return held
