"""Bytes between a browser's websocket and a guest's socket, with back-pressure both ways.

websockify's own loop uses ``select`` (a descriptor above 1023 ends the connection) and goes on reading the
guest while the browser cannot take more (a stalled browser grows the process without bound). This one
registers a ``poll`` object once and reads a side only while the other side's queue is empty.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any

from websockify.websocket import WebSocketWantReadError, WebSocketWantWriteError
from websockify.websockifyserver import CompatibleWebSocket

from console.registry import Console
from console.viewonly import NotUnderstood, ViewOnly

MESSAGE_LIMIT = 4 << 20
"""Largest message taken from a browser, in bytes: a generous pasted text."""
CHUNK = 1 << 16
SHORT = 256
"""Bytes up to which a message is unmasked by hand."""
IN, OUT = select.POLLIN, select.POLLOUT
GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL
CHECK_MS = 30_000
"""A console's end is announced by waking its thread; this is only the net below."""


class TooLarge(Exception):
    """A browser announced or sent a message above :data:`MESSAGE_LIMIT`."""


class ClientSocket(CompatibleWebSocket):
    """websockify's socket that does not let a client fill our memory with one endless message."""

    def _recv(self) -> bool:
        try:
            data = self.socket.recv(CHUNK)
        except BlockingIOError:
            raise WebSocketWantReadError from None
        self._recv_buffer += data
        return bool(data)

    def _decode_hybi(self, buf: bytes) -> Any:
        if len(buf) >= 10 and buf[1] & 0x7F == 127 and int.from_bytes(buf[2:10], "big") > MESSAGE_LIMIT:
            raise TooLarge
        return super()._decode_hybi(buf)

    def _unmask(self, buf: bytes, mask: bytes) -> bytes:
        """A key or a move of the mouse is a few bytes: one large number is faster there than numpy."""
        size = len(buf)
        if size > SHORT:
            unmasked: bytes = super()._unmask(buf, mask)
            return unmasked
        key = (bytes(mask) * (size // 4 + 1))[:size]
        return (int.from_bytes(buf, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")

    def _recvmsg(self) -> Any:
        try:
            return super()._recvmsg()
        finally:
            if len(self._partial_msg) > MESSAGE_LIMIT:
                raise TooLarge


class Pump:
    """One console's loop. ``handler`` is the websockify handler whose frames are pumped to ``target``."""

    def __init__(self, handler: Any, target: socket.socket, console: Console) -> None:
        self.handler = handler
        self.client = handler.request
        self.target = target
        self.console = console
        self.account = console.main or console  # a SPICE session is counted, and idle, as one
        self.todo = bytearray()  # from the browser, not yet taken by the guest
        self.blocked = False  # the browser cannot take more
        self.hung = False  # the guest hung up while the browser was blocked
        self.filter = ViewOnly() if console.view_only and console.kind == "vnc" else None
        self.poll = select.poll()
        self.asked: dict[int, int] = {}

    def run(self) -> None:
        """Pump until one side ends. Always leaves by raising the handler's ``CClose``."""
        self.client.setblocking(False)
        self.target.setblocking(False)
        client, target = self.client.fileno(), self.target.fileno()
        self.ask(client, IN)
        self.ask(target, IN)
        while True:
            if self.console.ending:  # asked after the target was attached, so its shutdown wakes the poll
                self.close(*self.console.ending)
            for fd, event in self.poll.poll(CHECK_MS):
                if self.console.ending:
                    break
                if fd == client:
                    self.from_client(event)
                else:
                    self.from_target(event)
            self.ask(client, (0 if self.todo else IN) | (OUT if self.blocked else 0))
            if self.hung and self.blocked:
                self.forget(target)
            else:
                self.ask(target, (0 if self.blocked else IN) | (OUT if self.todo else 0))

    def ask(self, fd: int, events: int) -> None:
        if self.asked.get(fd) != events:
            self.poll.register(fd, events)
            self.asked[fd] = events

    def forget(self, fd: int) -> None:
        """Stop hearing of a hang-up that cannot be acted on yet, instead of spinning on it."""
        if self.asked.pop(fd, None) is not None:
            self.poll.unregister(fd)

    def close(self, code: int, reason: str) -> None:
        raise self.handler.CClose(code, reason)

    def from_client(self, event: int) -> None:
        if event & OUT:
            self.blocked = self.handler.send_frames()
        if event & IN:
            self.take()
        elif event & GONE:
            self.close(1000, "the browser left")

    def take(self) -> None:
        """Read what the browser sent and pass on what it may say."""
        try:
            messages, closed = self.handler.recv_frames()
        except TooLarge:
            self.close(1009, "that was too large")
        except (
            WebSocketWantWriteError,
            ValueError,
        ):  # a pong that found no room: the client talks and does not listen
            self.close(1008, "the browser does not read")
        except OSError:
            self.close(1000, "the browser left")
        for message in messages:
            self.account.bytes_in += len(message)
            self.todo += self.allowed(message)
        if messages:
            self.account.heard = time.monotonic()
            self.give()
        if closed:
            self.close(1000, "the browser left")

    def allowed(self, message: bytes) -> bytes:
        if not self.console.view_only:
            return message
        if self.filter is None:  # a serial line has nothing but input
            return b""
        try:
            return self.filter.feed(message)
        except NotUnderstood as error:
            self.close(1008, f"view only: {error}")
            raise  # close() raises; this is for the reader

    def give(self) -> None:
        """Write to the guest what it takes now."""
        if not self.todo:
            return
        try:
            del self.todo[: self.target.send(self.todo)]
        except BlockingIOError:
            return
        except OSError:
            self.close(1011, "the screen was closed")

    def from_target(self, event: int) -> None:
        if event & OUT:
            self.give()
        if event & IN and not self.blocked:
            try:
                data = self.target.recv(CHUNK)
            except OSError:
                data = b""
            if not data:
                self.close(1000, "the screen was closed")
            self.account.bytes_out += len(data)
            self.blocked = self.handler.send_frames([data])
        elif event & GONE:
            if not self.blocked:
                self.close(1000, "the screen was closed")
            self.hung = True
