"""The process that reads a backup: ``python -m vms.backup.extract``.

It has no privileges (where it was root it becomes nobody), few resources, the archive's descriptor and, to
restore, a connected NBD socket for each disk; it opens nothing. What it finds it says as JSON lines::

    {"manifest": "…", "conf": "…"}      base64; then, to restore, it waits for the sockets on --control
    {"done": 1048576, "whole": 4194304, "member": "scsi0.raw"}
    {"end": true}                       every sum was right, every disk is flushed
    {"error": "scsi0.raw: …", "hint": ""}
"""

from __future__ import annotations

import argparse
import array  # noqa: F401  (socket.recv_fds wants it when nothing can be imported any more)
import asyncio
import base64
import ctypes
import json
import os
import resource
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

from vms.backup.archive import Limiter
from vms.backup.manifest import ArchivedDisk, Manifest
from vms.backup.nbd import NbdClient
from vms.backup.reader import ArchiveReader, Piece
from vms.errors import StorageError

NOBODY = 65534
MEMORY = 2 << 30
"""Bytes of address space; what it really uses is a fraction."""
FILES = 160
AHEAD = 16
"""Writes under way at once."""
BATCH = 4
"""Pieces that are unpacked in one go."""
TELL = 0.5
"""Seconds between two words about how far it is."""
MESSAGE = 8192
_PDEATHSIG, _DUMPABLE, _NO_NEW_PRIVS = 1, 4, 38


def confine(parent: int) -> None:
    """Give up what this process does not need. Ends it when its parent is gone."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    os.chdir("/")
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PDEATHSIG, signal.SIGKILL), (_DUMPABLE, 0), (_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        raise SystemExit(1)


def say(**told: Any) -> None:
    """A line for the parent."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


async def work(mode: str, reader: ArchiveReader, control: int, limit: int) -> None:
    """Read the archive, as far as ``mode`` says. Raises :class:`StorageError`."""
    manifest, conf = await asyncio.to_thread(reader.begin)
    say(manifest=base64.b64encode(manifest).decode(), conf=base64.b64encode(conf).decode())
    if mode == "head":
        return
    links = await asyncio.to_thread(receive, control) if mode == "restore" else {}
    clients = {member: await NbdClient.adopt(link, member) for member, link in links.items()}
    telling = Telling(reader.manifest)
    limiter = Limiter(limit)
    try:
        for disk, pieces in reader.disks():
            await one(disk, pieces, clients.get(disk.member), limiter, telling)
        await asyncio.to_thread(reader.finish)
        for client in clients.values():
            await client.flush()
    finally:
        for client in clients.values():
            await client.close()
    say(end=True)


async def one(
    disk: ArchivedDisk, pieces: Iterator[Piece], client: NbdClient | None, limiter: Limiter, telling: Telling
) -> None:
    """Read a disk, and write it where there is a client."""
    if client is not None and client.size < disk.size:
        raise StorageError(f"{disk.member}: its new volume is smaller, {client.size} bytes")

    async def put(target: NbdClient, at: int, data: memoryview) -> None:
        try:
            await target.write(at, data)
        except StorageError as error:
            raise StorageError(f"{disk.member}: cannot be written: {error.text}") from error

    writing: deque[asyncio.Task[None]] = deque()
    while batch := await asyncio.to_thread(lambda: list(islice(pieces, BATCH))):
        for at, data in batch:
            await limiter.take(len(data))
            telling.at(disk, at + len(data))
            if client is not None:
                writing.append(asyncio.create_task(put(client, at, data)))
            while len(writing) > AHEAD:
                await writing.popleft()
    await asyncio.gather(*writing)
    telling.over(disk)


def receive(control: int) -> dict[str, socket.socket]:
    """The connected sockets of the disks, by member; the parent sends them once they are there."""
    with socket.socket(fileno=control) as link:
        text, descriptors, _, _ = socket.recv_fds(link, MESSAGE, 64)
    members = json.loads(text) if text else None
    if not isinstance(members, list) or len(members) != len(descriptors):
        raise StorageError("the restore was given up")
    return {
        str(member): socket.socket(fileno=descriptor)
        for member, descriptor in zip(members, descriptors, strict=True)
    }


class Telling:
    """Says now and then how far it is."""

    def __init__(self, manifest: Manifest) -> None:
        self._whole = manifest.size
        self._before = 0
        self._told = 0.0

    def at(self, disk: ArchivedDisk, offset: int) -> None:
        """So much of ``disk`` has been read."""
        now = time.monotonic()
        if now - self._told >= TELL:
            self._told = now
            say(done=self._before + offset, whole=self._whole, member=disk.member)

    def over(self, disk: ArchivedDisk) -> None:
        """All of it has."""
        self._before += disk.size
        say(done=self._before, whole=self._whole, member=disk.member)


def main(words: list[str]) -> int:
    """0 when all is well; the reason stands on the output otherwise."""
    parser = argparse.ArgumentParser(prog="vms.backup.extract", description="Read a backup.")
    parser.add_argument("mode", choices=["head", "verify", "restore"])
    parser.add_argument("--archive", type=int, required=True, metavar="FD", help="the file's descriptor")
    parser.add_argument("--compress", choices=["0", "zstd"], required=True, help="how it is compressed")
    parser.add_argument("--control", type=int, default=-1, metavar="FD", help="where the sockets come from")
    parser.add_argument("--limit", type=int, default=0, metavar="BYTES", help="bytes a second at most")
    parser.add_argument("--parent", type=int, required=True, metavar="PID", help="who reads what this says")
    options = parser.parse_args(words)
    confine(options.parent)
    try:
        reader = ArchiveReader(options.archive, options.compress)
        asyncio.run(work(options.mode, reader, options.control, options.limit))
    except StorageError as error:
        say(error=error.text, hint=error.hint)
        return 1
    except MemoryError:
        say(error="it wants more memory than a reader gets", hint="")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
