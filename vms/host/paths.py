"""Folders on this node: who may enter them, and each VM's own under the run directory."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from vms.errors import VMError


@dataclass(frozen=True)
class VMPaths:
    """Everything of one VM in the run and log directories: the places
    :class:`vms.hardware.context.RuntimePaths` puts into the command line, as paths to work with."""

    vmid: int
    folder: Path
    log: Path

    @property
    def qmp(self) -> Path:
        """The worker's own monitor socket."""
        return self.folder / "qmp" / "qmp.sock"

    @property
    def qmp_ops(self) -> Path:
        """A second monitor socket, for an operator or a second process."""
        return self.folder / "qmp" / "qmp-ops.sock"

    @property
    def vnc(self) -> Path:
        return self.folder / "console" / "vnc.sock"

    @property
    def serial(self) -> Path:
        return self.folder / "console" / "serial0.sock"

    @property
    def agent(self) -> Path:
        return self.folder / "agent" / "qga.sock"

    @property
    def tpm(self) -> Path:
        """The socket on which swtpm waits for QEMU."""
        return self.folder / "tpm" / "swtpm.sock"

    @property
    def tpm_pidfile(self) -> Path:
        return self.folder / "tpm" / "swtpm.pid"

    @property
    def backup(self) -> Path:
        """The socket on which disks are read for a backup."""
        return self.folder / "backup.sock"

    @property
    def backup_pidfile(self) -> Path:
        """Whose socket that is, when the VM is off."""
        return self.folder / "backup.pid"

    def shared(self, index: int) -> Path:
        """The socket on which the helper of ``virtiofs<index>`` waits for QEMU."""
        return self.folder / f"virtiofs{index}.sock"

    @property
    def shared_log(self) -> Path:
        """What the helpers of shared folders print."""
        return self.log.with_name(f"vm-{self.vmid}-folders.log")

    @property
    def tpm_log(self) -> Path:
        """What swtpm prints; apart from QEMU's, whose last words are quoted when a start fails."""
        return self.log.with_name(f"vm-{self.vmid}-tpm.log")

    @property
    def pidfile(self) -> Path:
        return self.folder / "qemu.pid"


SUBFOLDERS = ("qmp", "console", "agent", "tpm")
"""Apart from each other, so that who may open a console cannot reach a monitor."""


@dataclass(frozen=True)
class RunPaths:
    """Where the VMs of this node keep sockets, pid files and logs. ``user`` is whom QEMU runs as."""

    run_dir: Path
    log_dir: Path
    user: str | None = None

    @property
    def serial_dir(self) -> Path:
        """Where QEMU keeps what serial ports print: beside our logs, which its user may not enter."""
        return self.log_dir.parent / "serial"

    def vm(self, vmid: int) -> VMPaths:
        """The names only; nothing is made."""
        return VMPaths(vmid, self.run_dir / "vm" / str(vmid), self.log_dir / f"vm-{vmid}.log")

    def prepare(self, vmid: int) -> VMPaths:
        """Make the VM's folders: QEMU's user's, 0700; what lies above can be crossed (0711), not read.

        Folders that exist are given the right owner and mode; what is no real folder (a symlink
        planted there) raises :class:`VMError`. Blocks for a moment: call it in a thread.
        """
        paths = self.vm(vmid)
        uid, gid = ids_of(self.user)
        make_folder(self.run_dir, os.geteuid(), os.getegid(), 0o711)
        make_folder(self.run_dir / "vm", os.geteuid(), os.getegid(), 0o711)
        make_folder(self.log_dir, os.geteuid(), os.getegid(), 0o700)
        make_folder(self.serial_dir, uid, gid, 0o700)
        make_folder(paths.folder, uid, gid, 0o700)
        for name in SUBFOLDERS:
            make_folder(paths.folder / name, uid, gid, 0o700)
        return paths

    def clear(self, vmid: int) -> None:
        """Remove the VM's run folder with the sockets in it; the log stays. For a VM that has ended."""
        remove_tree(self.vm(vmid).folder)


def ids_of(user: str | None) -> tuple[int, int]:
    """User and group number of ``user``; ours without one."""
    if user is None:
        return os.geteuid(), os.getegid()
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def make_folder(path: Path, uid: int, gid: int, mode: int) -> None:
    """Make one folder, or check the one that is there, so that it is ours to rely on.

    Owner and mode are set through a descriptor opened without following a symlink, so nobody can
    swap the name in between. The parent must exist.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=False)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise VMError(f"{path} is no folder of ours: {error.strerror}") from error
    try:
        found = os.fstat(descriptor)
        if (found.st_uid, found.st_gid) != (uid, gid):
            os.fchown(descriptor, uid, gid)
        if stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(descriptor, mode)
    except PermissionError as error:
        raise VMError(f"{path} belongs to user {found.st_uid}, not to {uid}") from error
    finally:
        os.close(descriptor)


def remove_tree(folder: Path) -> None:
    """Delete a folder and all in it without following a symlink anywhere; gone already is fine."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def remove_socket(path: Path) -> None:
    """Delete a socket or pid file somebody left; gone already is fine."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def traversable(path: Path, uid: int) -> Path | None:
    """The first component above or at the folder ``path`` that user ``uid`` cannot cross.

    ``None`` means all is open to them. Judged by mode bits and the user's groups; access lists that
    give more than the bits are not seen, so this errs on the side of "closed".
    """
    if uid == 0:
        return None
    groups = _groups(uid)
    for component in [*reversed(path.parents), path]:
        try:
            found = component.stat()
        except OSError:
            return component
        if not _may_cross(found, uid, groups):
            return component
    return None


def _may_cross(found: os.stat_result, uid: int, groups: set[int]) -> bool:
    if found.st_uid == uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid in groups:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _groups(uid: int) -> set[int]:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return set()
    return set(os.getgrouplist(entry.pw_name, entry.pw_gid))


def qemu_user(wanted: str, home: Path) -> tuple[str | None, str]:
    """Whom QEMU runs as on this node, and why: ``(name, "")``, or ``(None, reason)`` for ourselves.

    ``wanted`` is the system user made for it; ``home`` is what that user must be able to reach.
    A process that is not root cannot become another user and needs no reason to be itself.
    """
    if os.geteuid() != 0:
        return None, ""
    try:
        entry = pwd.getpwnam(wanted)
    except KeyError:
        return None, f"there is no user '{wanted}' on this machine; ./up makes it"
    closed = traversable(home, entry.pw_uid)
    if closed is not None:
        return None, f"user '{wanted}' may not enter {closed}, so QEMU could not reach its files below"
    return wanted, ""
