"""The other end of NBD: a server that takes what QEMU pushes of a disk and hands it on in order.

QEMU's job writes the disk about in order; what arrives is kept until it is read. Every write is acknowledged
at once, so that QEMU never waits for us with the guest's own requests behind it; when too much is kept,
whoever made the job is told to pause it (``pressure``).

Which blocks hold data has to be known before, because a sparse tar has its map in front. What arrives outside
of that map and is not zero spoils the copy, which :meth:`Intake.finish` tells.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from vms.backup.nbd import (
    FLUSH,
    MAGIC,
    OPT_GO,
    OPTION_MAGIC,
    OPTION_REPLY,
    REP_ACK,
    REP_ERROR,
    REP_INFO,
    REQUEST,
    SIMPLE_REPLY,
    TRIM,
    WRITE,
    WRITE_ZEROES,
    Extent,
)
from vms.errors import StorageError

BLOCK = 64 << 10
"""Bytes: what QEMU copies is a multiple of it, but for a disk's end."""
HIGH, LOW = 64 << 20, 16 << 20
"""Bytes kept at which ``pressure`` is told, and those at which it is told that it is over."""
LONGEST = 64 << 20
OPT_ABORT, OPT_INFO, DISCONNECT = 2, 6, 2
UNSUPPORTED = REP_ERROR | 1
FLAGS = 1 | 1 << 2 | 1 << 5 | 1 << 6
"""What may be asked: flush, trim, write zeroes."""
INVALID = 22


class Intake:
    """One disk of ``size`` bytes with data in ``extents``, about to arrive on the socket at ``path``."""

    def __init__(
        self, path: Path, size: int, extents: Sequence[Extent], pressure: Callable[[bool], None]
    ) -> None:
        self.size = size
        self._path = path
        self._extents = list(extents)
        self._pressure = pressure
        self._pressed = False
        self._seen = bytearray(-(-size // BLOCK))
        self._mapped = bytearray(len(self._seen))
        for one in extents:
            first, last = one.offset // BLOCK, -(-one.end // BLOCK)
            self._mapped[first:last] = b"\1" * (last - first)
        self._kept: dict[int, tuple[memoryview, int]] = {}
        self._news = asyncio.Event()
        self._failed = asyncio.Event()
        self._error: StorageError | None = None
        self._listener: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    # ---- the reader's side

    async def extents(self) -> list[Extent]:
        """Where there is data, in order."""
        return self._extents

    async def read(self, offset: int, length: int) -> memoryview:
        """Just those whole blocks, once they are there; each once. Raises :class:`StorageError`."""
        if offset % BLOCK or ((offset + length) % BLOCK and offset + length != self.size):
            raise ValueError("only whole blocks are read: two reads of one block would each take it away")
        first, last = offset // BLOCK, -(-(offset + length) // BLOCK)
        while self._seen.count(0, first, last):
            if self._error is not None:
                raise self._error
            self._news.clear()
            await self._news.wait()
        found = self._taken(first, last, length)
        if self._pressed and len(self._kept) * BLOCK < LOW:
            self._pressed = False
            self._pressure(False)
        return found

    def _taken(self, first: int, last: int, length: int) -> memoryview:
        """Those blocks out of what is kept: as they came when one write brought all, else put together."""
        blocks = [self._kept.pop(number, None) for number in range(first, last)]
        begun = blocks[0]
        if begun is not None and all(one is not None and one[0] is begun[0] for one in blocks):
            return begun[0][begun[1] : begun[1] + length]
        found = memoryview(bytearray(length))
        for number, block in enumerate(blocks):
            if block is not None:
                data = block[0][block[1] : block[1] + BLOCK]
                found[number * BLOCK : number * BLOCK + len(data)] = data
        return found

    def finish(self) -> None:
        """Once all was read: raise :class:`StorageError` when something did not fit the map."""
        if self._error is not None:
            raise self._error
        if self._kept:
            raise StorageError("NBD: the disk changed just when what it holds was looked at; repeat")

    def fail(self, error: StorageError) -> None:
        """Nothing more will arrive."""
        self._error = self._error or error
        self._news.set()
        self._failed.set()

    async def broken(self) -> None:
        """Wait until nothing more will arrive; raises why."""
        await self._failed.wait()
        if self._error is not None:
            raise self._error

    # ---- QEMU's side

    def listen(self) -> None:
        """Wait for QEMU, whoever it runs as: the folder says who may come. Raises :class:`OSError`."""
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.bind(str(self._path))
        os.chmod(self._path, 0o666)  # noqa: S103
        self._listener.listen(1)
        self._serving = asyncio.create_task(self._serve(self._listener))

    async def close(self) -> None:
        """No more listening, no more connection."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        self._path.unlink(missing_ok=True)
        self._kept.clear()

    async def _serve(self, listener: socket.socket) -> None:
        link, _ = await self._loop.sock_accept(listener)
        try:
            with link:
                link.setblocking(False)
                if await self._greet(link):
                    await self._take_all(link)
        except (OSError, EOFError, struct.error, StorageError) as error:
            self.fail(StorageError(f"NBD: what QEMU sends broke off: {error}"))

    async def _greet(self, link: socket.socket) -> bool:
        """Agree on the export; answers whether QEMU wants it."""
        await self._loop.sock_sendall(link, struct.pack(">QQH", MAGIC, OPTION_MAGIC, 3))
        await self._exactly(link, 4)
        while True:
            magic, option, length = struct.unpack(">QII", await self._exactly(link, 16))
            if magic != OPTION_MAGIC or length > BLOCK:
                raise StorageError("this is no client that speaks the protocol")
            await self._exactly(link, length)
            if option in (OPT_GO, OPT_INFO):
                export = struct.pack(">HQH", 0, self.size, FLAGS)
                await self._say(link, option, REP_INFO, export)
                await self._say(link, option, REP_ACK, b"")
                if option == OPT_GO:
                    return True
            elif option == OPT_ABORT:
                await self._say(link, option, REP_ACK, b"")
                return False
            else:
                await self._say(link, option, UNSUPPORTED, b"")

    async def _say(self, link: socket.socket, option: int, kind: int, body: bytes) -> None:
        header = struct.pack(">QIII", OPTION_REPLY, option, kind, len(body))
        await self._loop.sock_sendall(link, header + body)

    async def _take_all(self, link: socket.socket) -> None:
        while True:
            header = await self._exactly(link, 28)
            magic, _, command, cookie, offset, length = struct.unpack(">IHHQQI", header)
            if magic != REQUEST or (command == WRITE and length > LONGEST):
                raise StorageError("this is no request")
            if command == DISCONNECT:
                return
            error = 0
            data = await self._exactly(link, length) if command == WRITE else bytearray()
            if offset + length > self.size or command not in (WRITE, WRITE_ZEROES, TRIM, FLUSH):
                error = INVALID
            elif command == WRITE:
                self._keep(offset, data)
            elif command != FLUSH:
                first, last = offset // BLOCK, -(-(offset + length) // BLOCK)
                self._seen[first:last] = b"\1" * (last - first)
            self._news.set()
            await self._loop.sock_sendall(link, struct.pack(">IIQ", SIMPLE_REPLY, error, cookie))

    def _keep(self, offset: int, data: bytearray) -> None:
        if offset % BLOCK:
            raise StorageError("a write does not begin with a block")
        view = memoryview(data)
        for begin in range(0, len(data), BLOCK):
            number = (offset + begin) // BLOCK
            if self._mapped[number] or any(view[begin : begin + BLOCK].tobytes()):
                self._kept[number] = view, begin
            self._seen[number] = 1
        if not self._pressed and len(self._kept) * BLOCK > HIGH:
            self._pressed = True
            self._pressure(True)

    async def _exactly(self, link: socket.socket, length: int) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        while len(view):
            got = await self._loop.sock_recv_into(link, view)
            if not got:
                raise EOFError("QEMU has gone")
            view = view[got:]
        return data
