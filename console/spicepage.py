"""A SPICE channel of a page: its beginning over a websocket, before the pump takes over."""

from __future__ import annotations

import select
import socket
import time
from pathlib import Path
from typing import Any

from console import spicehandshake as handshake
from console.pump import Pump
from console.registry import Console
from console.spicelink import IN_A_PAGE, MAIN, LinkMessage
from console.viewonly import NotUnderstood

CHECK_MS = 200
"""How often a handshake looks whether its console was ended meanwhile: nothing wakes it."""


class PageLine:
    """The websocket as a handshake reads and writes it. ``rest`` came too early and is for the pump."""

    def __init__(self, handler: Any, console: Console) -> None:
        self.handler, self.console = handler, console
        self.rest = bytearray()
        self._end = time.monotonic() + handshake.GREETING_LIMIT
        handler.request.setblocking(False)
        self._poll = select.poll()

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes; raises ``OSError`` when they do not come in time."""
        while len(self.rest) < size:
            self._wait(select.POLLIN)
            messages, closed = self.handler.recv_frames()
            self.rest += b"".join(messages)
            if closed and len(self.rest) < size:
                raise ConnectionResetError("the browser left")
        found = bytes(self.rest[:size])
        del self.rest[:size]
        return found

    def write(self, data: bytes) -> None:
        """All of ``data``; raises ``OSError`` when the browser does not take it in time."""
        waiting = self.handler.send_frames([data])
        while waiting:
            self._wait(select.POLLOUT)
            waiting = self.handler.send_frames()

    def _wait(self, event: int) -> None:
        self._poll.register(self.handler.request.fileno(), event)
        while not self._poll.poll(CHECK_MS):
            if self.console.ending:
                raise self.handler.CClose(*self.console.ending)
            if time.monotonic() > self._end:
                raise TimeoutError("the browser is silent")


def serve(handler: Any, run_dir: Path, console: Console) -> None:
    """The channel's whole life. Always leaves by raising the handler's ``CClose``, or ``OSError``.

    Raises :class:`NotUnderstood` for a channel pages have no business with: of another session, somebody
    else's included, or of a kind pages do not show.
    """
    line = PageLine(handler, console)
    asked = handshake.read_message(line)
    _check(console, asked)
    target, reply = handshake.ask(run_dir, console.vmid, asked)
    with target:
        line.write(reply.raw)
        handshake.read_proof(line)  # the ticket was the password
        opening = handshake.finish(line, target, asked, reply)
        console.session = opening.session
        line.write(opening.early)
        _pump(handler, target, console, line)


def _pump(handler: Any, target: socket.socket, console: Console, line: PageLine) -> None:
    console.attach(target)
    try:
        pump = Pump(handler, target, console)
        pump.todo += line.rest
        pump.run()
    finally:
        console.attach(None)


def _check(console: Console, asked: LinkMessage) -> None:
    expected = console.main.session if console.main is not None else 0
    if asked.session != expected:
        raise NotUnderstood("a channel of another session")
    if asked.channel not in ({MAIN} if console.main is None else IN_A_PAGE):
        raise NotUnderstood(f"channel {asked.channel} is not for pages")
