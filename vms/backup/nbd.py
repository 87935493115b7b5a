"""A client of the NBD protocol on a unix socket: how a disk's bytes leave QEMU and come back.

Any number of requests may be under way at once; each is a coroutine of its own. What a server answers is
bounded and matched with what was asked. The protocol is described in the NBD project's ``doc/proto.md``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from vms.errors import StorageError

MAGIC, OPTION_MAGIC, OPTION_REPLY = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
REQUEST, SIMPLE_REPLY, STRUCTURED_REPLY = 0x25609513, 0x67446698, 0x668E33EF
OPT_GO, OPT_STRUCTURED, OPT_SET_META = 7, 8, 10
REP_ACK, REP_INFO, REP_META, REP_ERROR = 1, 3, 4, 1 << 31
READ, WRITE, DISCONNECT, FLUSH, TRIM, WRITE_ZEROES, BLOCK_STATUS = 0, 1, 2, 3, 4, 6, 7
FLAG_NO_HOLE = 1 << 1
CHUNK_DONE = 1
CHUNK_DATA, CHUNK_HOLE, CHUNK_STATUS, CHUNK_ERROR = 1, 2, 5, 1 << 15
ALLOCATION = b"base:allocation"

REQUEST_LIMIT = 32 << 20
"""Bytes of the largest read or write, as servers take them without asking."""
STATUS_SPAN = 1 << 30
"""Bytes one question about allocation covers."""
STATUS_LIMIT = 16 << 20
"""Bytes of the longest answer to it."""
HANDSHAKE_LIMIT = 64 << 10
TIMEOUT = 30
"""Seconds a server has to greet."""


@dataclass(frozen=True)
class Extent:
    """A stretch of a disk, in bytes."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass
class _Asked:
    """A request under way: where its bytes go and who waits for it."""

    done: asyncio.Future[None]
    offset: int = 0
    length: int = 0
    into: memoryview | None = None
    status: list[tuple[int, int]] = field(default_factory=list)


class NbdClient:
    """One export. Use :meth:`connect` or :meth:`adopt`, and as an asynchronous context manager."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._asked: dict[int, _Asked] = {}
        self._cookie = 0
        self._answers: asyncio.Task[None] | None = None
        self._broken: StorageError | None = None
        self._knows_allocation = False
        self.size = 0
        """Bytes of the export."""
        self.flags = 0

    @classmethod
    async def connect(cls, path: str, export: str = "") -> Self:
        """A client of the export called ``export`` on the unix socket at ``path``.

        Raises :class:`StorageError` when nobody answers there or the server has no such export.
        """
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.setblocking(False)
        try:
            async with asyncio.timeout(TIMEOUT):
                await asyncio.get_running_loop().sock_connect(link, path)
        except (OSError, TimeoutError) as error:
            link.close()
            raise StorageError(f"NBD: nobody answers on {path}: {error}") from error
        return await cls.adopt(link, export)

    @classmethod
    async def adopt(cls, link: socket.socket, export: str = "") -> Self:
        """A client on a socket that is connected already, which is the client's from now on."""
        link.setblocking(False)
        client = cls(link)
        try:
            async with asyncio.timeout(TIMEOUT):
                await client._greet(export)
        except BaseException as error:
            link.close()
            if isinstance(error, OSError | TimeoutError):
                raise StorageError(f"NBD: the server does not greet: {error}") from error
            raise
        client._answers = asyncio.create_task(client._listen())
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Take leave. What was not flushed may be lost."""
        if self._answers is None:
            return
        answers, self._answers = self._answers, None
        answers.cancel()
        await asyncio.gather(answers, return_exceptions=True)
        self._break(StorageError("NBD: the connection was closed"))
        with contextlib.suppress(OSError):
            self._link.send(struct.pack(">IHHQQI", REQUEST, 0, DISCONNECT, 0, 0, 0))
        self._link.close()

    # ---- the verbs

    async def read(self, offset: int, length: int) -> bytearray:
        """``length`` bytes from ``offset``, at most :data:`REQUEST_LIMIT`. Raises :class:`StorageError`."""
        data = bytearray(length)
        asked = _Asked(self._loop.create_future(), offset, length, memoryview(data))
        await self._ask(READ, asked)
        return data

    async def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write ``data`` at ``offset``. Raises :class:`StorageError`."""
        asked = _Asked(self._loop.create_future(), offset, len(data))
        await self._ask(WRITE, asked, data)

    async def write_zeroes(self, offset: int, length: int, *, keep_room: bool = False) -> None:
        """Make a stretch read as zeroes; with ``keep_room`` its blocks stay allocated."""
        asked = _Asked(self._loop.create_future(), offset, length)
        await self._ask(WRITE_ZEROES, asked, flags=FLAG_NO_HOLE if keep_room else 0)

    async def flush(self) -> None:
        """Wait until all that was written is on the disk."""
        await self._ask(FLUSH, _Asked(self._loop.create_future()))

    async def extents(self) -> list[Extent]:
        """Where there is data, in order; the rest reads as zeroes.

        A server that does not tell has data everywhere.
        """
        if not self._knows_allocation:
            return [Extent(0, self.size)] if self.size else []
        found: list[Extent] = []
        at = 0
        while at < self.size:
            asked = _Asked(self._loop.create_future(), at, min(STATUS_SPAN, self.size - at))
            await self._ask(BLOCK_STATUS, asked)
            if not asked.status:
                raise StorageError("NBD: the server tells nothing of what is allocated")
            for length, state in asked.status:
                length = min(length, self.size - at)
                if not state & 2:  # NBD_STATE_ZERO
                    if found and found[-1].end == at:
                        found[-1] = Extent(found[-1].offset, found[-1].length + length)
                    else:
                        found.append(Extent(at, length))
                at += length
        return found

    # ---- requests and answers

    async def _ask(
        self, command: int, asked: _Asked, data: bytes | bytearray | memoryview = b"", *, flags: int = 0
    ) -> None:
        if asked.length > REQUEST_LIMIT and command in (READ, WRITE):
            raise ValueError("a request that large has to be made in pieces")
        if asked.offset < 0 or asked.offset + asked.length > self.size:
            raise StorageError(f"NBD: {asked.offset}+{asked.length} is outside of {self.size} bytes")
        if self._broken is not None:
            raise self._broken
        self._cookie += 1
        cookie = self._cookie
        self._asked[cookie] = asked
        header = struct.pack(">IHHQQI", REQUEST, flags, command, cookie, asked.offset, asked.length)
        try:
            # Half a request would spoil all that follow: a cancellation has to wait for the other half.
            await asyncio.shield(asyncio.ensure_future(self._send(header, data)))
        except OSError as error:
            self._break(StorageError(f"NBD: the connection broke: {error}"))
        await asyncio.shield(asked.done)

    async def _send(self, header: bytes, data: bytes | bytearray | memoryview) -> None:
        async with self._turn:
            await self._loop.sock_sendall(self._link, header)
            if len(data):
                await self._loop.sock_sendall(self._link, data)

    async def _listen(self) -> None:
        """Give each answer to who asked, until the server goes."""
        try:
            while True:
                (magic,) = struct.unpack(">I", await self._take(4))
                if magic == STRUCTURED_REPLY:
                    await self._chunk()
                elif magic == SIMPLE_REPLY:
                    error, cookie = struct.unpack(">IQ", await self._take(12))
                    asked = self._asked.pop(cookie)
                    if asked.into is not None and not error:
                        await self._fill(asked.into)
                    _settle(asked, error)
                else:
                    raise StorageError("NBD: the server answers something else")
        except (OSError, StorageError, KeyError, struct.error) as error:
            told = error if isinstance(error, StorageError) else StorageError(f"NBD: broken off: {error}")
            self._break(told)

    async def _chunk(self) -> None:
        flags, kind, cookie, length = struct.unpack(">HHQI", await self._take(16))
        asked = self._asked[cookie]
        code = 0
        if kind == CHUNK_DATA and asked.into is not None and length > 8:
            (offset,) = struct.unpack(">Q", await self._take(8))
            await self._fill(_part(asked, offset, length - 8))
        elif kind == CHUNK_HOLE and asked.into is not None and length == 12:
            offset, count = struct.unpack(">QI", await self._take(12))
            _part(asked, offset, count)  # what it is filled into is zero from the beginning
        elif kind == CHUNK_STATUS and 4 < length <= STATUS_LIMIT and length % 8 == 4:
            body = (await self._take(length))[4:]
            asked.status += [pair for pair in struct.iter_unpack(">II", body) if pair[0]]
        elif kind & CHUNK_ERROR and 4 <= length <= HANDSHAKE_LIMIT:
            (code,) = struct.unpack(">I", (await self._take(length))[:4])
        elif length:
            raise StorageError("NBD: the server answers what nobody asked for")
        if flags & CHUNK_DONE or code:
            del self._asked[cookie]
            _settle(asked, code)

    def _break(self, error: StorageError) -> None:
        self._broken = self._broken or error
        for asked in self._asked.values():
            if not asked.done.done():
                asked.done.set_exception(self._broken)
                asked.done.exception()  # who was cancelled does not ask for it
        self._asked.clear()

    async def _take(self, length: int) -> bytearray:
        data = bytearray(length)
        await self._fill(memoryview(data))
        return data

    async def _fill(self, view: memoryview) -> None:
        while len(view):
            got = await self._loop.sock_recv_into(self._link, view)
            if not got:
                raise StorageError("NBD: the server has gone")
            view = view[got:]

    # ---- the greeting

    async def _greet(self, export: str) -> None:
        magic, option, flags = struct.unpack(">QQH", await self._take(18))
        if (magic, option) != (MAGIC, OPTION_MAGIC) or not flags & 1:
            raise StorageError("NBD: this is no server that speaks the protocol")
        await self._loop.sock_sendall(self._link, struct.pack(">I", flags & 3))
        name = export.encode()
        if await self._option(OPT_STRUCTURED, b"") is not None:
            query = struct.pack(">I", len(name)) + name + struct.pack(">II", 1, len(ALLOCATION)) + ALLOCATION
            told = await self._option(OPT_SET_META, query)
            self._knows_allocation = any(kind == REP_META for kind, _ in told or ())
        told = await self._option(OPT_GO, struct.pack(">I", len(name)) + name + struct.pack(">H", 0))
        if told is None:
            raise StorageError(f"NBD: the server has no export '{export}'")
        for kind, body in told:
            if kind == REP_INFO and len(body) == 12 and body[:2] == b"\0\0":
                self.size, self.flags = struct.unpack(">QH", body[2:])
                return
        raise StorageError("NBD: the server does not tell the export's size")

    async def _option(self, option: int, data: bytes) -> list[tuple[int, bytes]] | None:
        """What the server says to an option; ``None`` when it refuses."""
        await self._loop.sock_sendall(self._link, struct.pack(">QII", OPTION_MAGIC, option, len(data)) + data)
        told: list[tuple[int, bytes]] = []
        while True:
            magic, about, kind, length = struct.unpack(">QIII", await self._take(20))
            if magic != OPTION_REPLY or about != option or length > HANDSHAKE_LIMIT or len(told) > 64:
                raise StorageError("NBD: the server answers something else")
            body = bytes(await self._take(length))
            if kind & REP_ERROR:
                return None
            if kind == REP_ACK:
                return told
            told.append((kind, body))


def _part(asked: _Asked, offset: int, length: int) -> memoryview:
    """Where the bytes of a piece of an answer go."""
    begin = offset - asked.offset
    if asked.into is None or begin < 0 or begin + length > asked.length:
        raise StorageError("NBD: the server answers what nobody asked for")
    return asked.into[begin : begin + length]


def _settle(asked: _Asked, code: int) -> None:
    if asked.done.done():
        return
    if code:
        words = {1: "not permitted", 5: "input/output error", 22: "invalid", 28: "no space left"}
        text = words.get(code, f"error {code}")
        asked.done.set_exception(StorageError(f"NBD: {asked.offset}+{asked.length}: {text}"))
        asked.done.exception()
    else:
        asked.done.set_result(None)


__all__: Sequence[str] = ["Extent", "NbdClient"]
