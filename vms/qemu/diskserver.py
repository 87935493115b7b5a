"""Disks no guest has open, offered over NBD on a unix socket by ``qemu-storage-daemon``.

Who reads or writes them needs neither the image's format nor the storage's kind, only the socket. The daemon
ends with the worker that started it, so that a disk is never held by a task that is no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vms.errors import CommandError, StorageError
from vms.hardware.volume import VolumeSource
from vms.host.command import PATH, as_user, clean_environment
from vms.host.paths import ids_of, make_folder, remove_tree
from vms.qemu.process import adopt, terminate

READY = 30
"""Seconds the daemon has to open its disks."""
_PROGRAM = "qemu-storage-daemon"


@dataclass(frozen=True, kw_only=True)
class Export:
    """A disk and what it is called on the socket. ``format`` is our record's, never guessed."""

    name: str
    source: VolumeSource
    format: str
    writable: bool = False

    def words(self, number: int) -> list[str]:
        """The daemon's arguments for it."""
        file: dict[str, Any] = {"driver": self.source.driver, **self.source.extra}
        if self.source.filename:
            file["filename"] = self.source.filename
        common = {"read-only": not self.writable, "discard": "unmap"}
        node = {"driver": self.format, "node-name": f"disk{number}", **common, "file": {**file, **common}}
        export = {
            "type": "nbd", "id": f"export{number}", "node-name": f"disk{number}", "name": self.name,
            "writable": self.writable,
        }  # fmt: skip
        return ["--blockdev", json.dumps(node), "--export", json.dumps(export)]


@contextlib.asynccontextmanager
async def disk_server(exports: Sequence[Export], folder: Path, *, user: str | None) -> AsyncIterator[Path]:
    """Offer the disks while the context lasts; answers the socket, which lies in ``folder`` (made, 0700).

    ``user`` is whom QEMU runs as. Raises :class:`StorageError` with the daemon's words when it does not come
    up: a disk is missing, is not what our record says, or is in use.
    """
    await asyncio.to_thread(_make, folder, user)
    socket, pidfile = folder / "nbd.sock", folder / "nbd.pid"
    argv = [_PROGRAM, "--pidfile", str(pidfile)]
    argv += ["--nbd-server", json.dumps({"addr": {"type": "unix", "path": str(socket)}})]
    argv += [word for number, export in enumerate(exports) for word in export.words(number)]
    process = await _start(argv, user)
    try:
        await _ready(process, pidfile)
        yield socket
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(READY):
                    await process.wait()
            except (TimeoutError, asyncio.CancelledError):
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                raise
        await asyncio.to_thread(remove_tree, folder)


async def end_left(folder: Path) -> None:
    """End the daemon a worker that died has left, should it still be there, and remove its folder."""
    running = await asyncio.to_thread(adopt, folder / "nbd.pid", 0)
    if running is not None:
        await terminate(running, grace=2)
    await asyncio.to_thread(remove_tree, folder)


def _make(folder: Path, user: str | None) -> None:
    remove_tree(folder)
    make_folder(folder, *ids_of(user), 0o700)


async def _start(argv: Sequence[str], user: str | None) -> asyncio.subprocess.Process:
    try:
        words, options = as_user(argv, user)
        return await asyncio.create_subprocess_exec(
            *_mortal(words), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE, start_new_session=True, cwd="/", env=clean_environment(),
            umask=0o077, **options,
        )  # fmt: skip
    except OSError as error:
        raise StorageError(
            f"{_PROGRAM} cannot be run: {error.strerror}", hint="apt install qemu-system-common"
        ) from error
    except CommandError as error:
        raise StorageError(str(error)) from error


def _mortal(words: list[str]) -> list[str]:
    """The same, ended by the kernel when we are. ``setpriv`` says so last, or a change of user forgets it."""
    tool = shutil.which("setpriv", path=PATH)
    if tool is None:
        return words
    return [tool, "--pdeathsig=KILL", *(words[1:] if words[0] == tool else ["--", *words])]


async def _ready(process: asyncio.subprocess.Process, pidfile: Path) -> None:
    """Wait for the pid in its file, which is written once all disks are offered; or the daemon has ended."""
    try:
        async with asyncio.timeout(READY):
            while process.returncode is None and not _holds(pidfile, process.pid):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise StorageError(f"{_PROGRAM} was not ready within {READY} seconds") from None
    if process.returncode is not None:
        output = process.stderr
        text = (await output.read(8192)).decode(errors="replace").strip() if output is not None else ""
        said = text.splitlines()[-1] if text else "it said nothing"
        raise StorageError(f"the disks cannot be opened: {said.removeprefix(f'{_PROGRAM}: ')}")


def _holds(pidfile: Path, pid: int) -> bool:
    """Whether the pid is in the file already: for an instant the file is there and empty."""
    try:
        return pidfile.read_text().strip() == str(pid)
    except OSError:
        return False
