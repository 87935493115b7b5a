"""The worker's end of the process that reads a backup (:mod:`vms.backup.extract`)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Literal

from vms.backup.manifest import Manifest, parse
from vms.errors import StorageError
from vms.host.command import clean_environment

Mode = Literal["head", "verify", "restore"]
Progress = Callable[[float, str], Awaitable[None]]
"""Hears how far it is, 0 to 1, and the member that is being read."""

LINE = 2 << 20
"""Bytes of the longest line taken; the manifest and the configuration make the longest."""
PATIENCE = 120
"""Seconds until the head has to be there."""


class Extraction:
    """One archive that is being read. ``manifest`` and ``conf`` are what it says; use :func:`extraction`."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket, name: str) -> None:
        self.process = process
        self._control = control
        self._name = name
        self.manifest: Manifest
        self.conf = b""

    async def head(self) -> None:
        """Read the first line. Raises :class:`StorageError`."""
        try:
            async with asyncio.timeout(PATIENCE):
                told = await self._line()
        except TimeoutError:
            raise self._failed("its beginning could not be read in time") from None
        try:
            manifest = base64.b64decode(str(told["manifest"]), validate=True)
            self.conf = base64.b64decode(str(told["conf"]), validate=True)
        except (KeyError, ValueError):
            raise self._failed("its reader answers something else") from None
        self.manifest = parse(manifest)

    async def restore(self, disks: Mapping[str, socket.socket], progress: Progress) -> None:
        """Write the disks to the NBD sockets given by member, which are the reader's from now on.

        Returns when every byte is written and flushed and every sum was right.
        Raises :class:`StorageError` that names archive and member.
        """
        message = json.dumps(list(disks)).encode()
        descriptors = [link.fileno() for link in disks.values()]
        try:
            await asyncio.to_thread(socket.send_fds, self._control, [message], descriptors)
        except OSError:
            pass  # it has ended; the line it left says why
        finally:
            for link in disks.values():
                link.close()
        await self.verify(progress)

    async def verify(self, progress: Progress) -> None:
        """Hear it to its end. Raises :class:`StorageError` that names archive and member."""
        while True:
            told = await self._line()
            if told.get("end") is True:
                return
            done, whole, member = told.get("done"), told.get("whole"), told.get("member")
            if type(done) is int and type(whole) is int and whole > 0:
                await progress(min(1.0, max(0.0, done / whole)), str(member)[:40])

    async def _line(self) -> dict[str, Any]:
        output = self.process.stdout
        try:
            line = await output.readline() if output is not None else b""
            told = json.loads(line) if line else None
        except ValueError:
            raise self._failed("its reader answers something else") from None
        if told is None:
            raise self._failed(await self._last_words())
        if not isinstance(told, dict):
            raise self._failed("its reader answers something else")
        if "error" in told:
            raise self._failed(str(told["error"])[:500], hint=str(told.get("hint", ""))[:300])
        return told

    async def _last_words(self) -> str:
        code = await self.process.wait()
        errors = self.process.stderr
        text = (await errors.read(4096)).decode(errors="replace").strip() if errors is not None else ""
        said = text.splitlines()[-1][:200] if text else "it said nothing"
        return f"its reader ended with {code}: {said}"

    def _failed(self, text: str, *, hint: str = "") -> StorageError:
        return StorageError(f"backup '{self._name}': {text}", hint=hint)


@contextlib.asynccontextmanager
async def extraction(
    archive: int, name: str, mode: Mode, *, compress: bool, limit: int = 0
) -> AsyncIterator[Extraction]:
    """Read the archive behind the descriptor ``archive``, called ``name`` in errors; its head is read.

    ``limit``: bytes of disks a second at most, 0 for no limit. Whatever happens, the process is gone in the
    end. Raises :class:`StorageError`.
    """
    ours, theirs = socket.socketpair()
    words = [
        sys.executable, "-I", "-B", "-m", "vms.backup.extract", mode, "--archive", str(archive),
        "--compress", "zstd" if compress else "0", "--control", str(theirs.fileno()),
        "--limit", str(limit), "--parent", str(os.getpid()),
    ]  # fmt: skip
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, pass_fds=(archive, theirs.fileno()), limit=LINE, cwd="/",
            env=clean_environment({"MALLOC_ARENA_MAX": "2"}), start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        ours.close()
        raise StorageError(f"backup '{name}': its reader cannot be started: {error.strerror}") from error
    finally:
        theirs.close()
    try:
        found = Extraction(process, ours, name)
        await found.head()
        yield found
    finally:
        ours.close()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
