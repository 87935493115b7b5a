"""One port for everything: uvicorn's websocket class that hands console upgrades to the console proxy.

uvicorn has parsed the request and written its head anew, so nothing can be smuggled past it. The head and
the browser's connection itself (its descriptor) go through the proxy's socket, which does every check, and
the web server has no part in that console any more: no byte of it passes here, and it outlives us. One
that cannot be handed over (TLS ends here, or more than the head came) is piped instead. All other websockets
go to uvicorn's own implementation. Use: ``uvicorn.run(…, ws=ConsoleMux, ws_per_message_deflate=False)``.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable
from typing import Any, cast

from django.conf import settings
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

log = logging.getLogger(__name__)

CONSOLE = re.compile(rb"GET [^\s?]*/vncwebsocket(\?\S*)? HTTP/1\.[01]\r\n")
OPEN_LIMIT = 5.0
CLOSE_LIMIT = 10.0
"""Seconds a client that does not read may hold on to a connection that is to be closed."""
UNAVAILABLE = b"The console proxy is not running.\n"
ANSWER_503 = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%s" % (len(UNAVAILABLE), UNAVAILABLE)
)
KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))


class ConsoleMux(asyncio.Protocol):
    """The protocol of one upgraded connection: a pipe, or uvicorn's websocket behind it."""

    def __init__(
        self, config: Any, server_state: Any, app_state: Any, _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._make_inner: Callable[[], asyncio.Protocol] = lambda: WebSocketsSansIOProtocol(
            config, server_state, app_state, _loop
        )
        self._connections = server_state.connections
        self._inner: asyncio.Protocol | None = None
        self._upstream: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._writing_paused = False
        self._head_seen = False
        self._client: asyncio.Transport
        self._opening: asyncio.Task[None] | None = None

    @property
    def console_socket(self) -> str:
        """Where the console proxy of this node listens."""
        return str(settings.CONF.console_socket)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client = cast("asyncio.Transport", transport)  # uvloop's own class, same methods

    def data_received(self, data: bytes) -> None:
        """The first call brings the whole head of the upgrade request."""
        if not self._head_seen:
            self._head_seen = True
            if CONSOLE.match(data):
                self._start_pipe(data)
                return
            self._inner = self._make_inner()
            self._inner.connection_made(self._client)
        if self._inner is not None:
            self._inner.data_received(data)
        elif self._upstream is not None:
            self._upstream.write(data)
        else:
            self._early.append(data)

    def _start_pipe(self, head: bytes) -> None:
        self._connections.add(self)
        self._client.pause_reading()
        link = self._client.get_extra_info("socket")
        if link is not None and link.family != socket.AF_UNIX:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE:  # a laptop that was shut leaves its console within a minute
                link.setsockopt(socket.IPPROTO_TCP, option, value)
        self._opening = asyncio.get_running_loop().create_task(self._open(head))

    def _hand_over(self, head: bytes) -> bool:
        """Give the browser's connection to the proxy. False when that is not possible: nothing was done."""
        link = self._client.get_extra_info("socket")
        if link is None or self._early or self._client.get_extra_info("ssl_object") is not None:
            return False
        with socket.socket(socket.AF_UNIX) as proxy:
            proxy.setblocking(False)
            try:
                proxy.connect(self.console_socket)
                if socket.send_fds(proxy, [head], [link.fileno()]) != len(head):
                    raise BlockingIOError
            except OSError:  # nobody is there, or too busy: the pipe waits, and knows what to say
                return False
        self._client.abort()  # only our descriptor of it
        return True

    async def _open(self, head: bytes) -> None:
        if self._hand_over(head):
            return
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(OPEN_LIMIT):
                upstream, _ = await loop.create_unix_connection(lambda: Upstream(self), self.console_socket)
        except OSError as error:  # TimeoutError is one
            log.warning("the console proxy cannot be reached: %s", error)
            if not self._client.is_closing():
                self._client.write(ANSWER_503)
            self.close_client()
            return
        if self._client.is_closing():
            upstream.close()
            return
        self._upstream = upstream
        upstream.write(b"".join([head, *self._early]))
        self._early.clear()
        self.pause(self._writing_paused)
        self._client.resume_reading()

    def pause(self, paused: bool) -> None:
        """Read the proxy only while the client takes what comes."""
        self._writing_paused = paused
        if self._upstream is not None and not self._upstream.is_closing():
            if paused:
                self._upstream.pause_reading()
            else:
                self._upstream.resume_reading()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()
        else:
            self.pause(True)

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()
        else:
            self.pause(False)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._inner is not None:
            self._inner.connection_lost(exc)
            return
        self._connections.discard(self)
        if self._upstream is not None:
            self._upstream.close()

    def shutdown(self) -> None:
        """uvicorn stops. (Its own websockets are registered, and told, by themselves.)"""
        self.close_client(1.0)

    def close_client(self, limit: float = CLOSE_LIMIT) -> None:
        """Close after what was written, but do not wait for ever for a client that does not read."""
        self._client.close()
        asyncio.get_running_loop().call_later(limit, self._client.abort)


class Upstream(asyncio.Protocol):
    """The console proxy's side of the pipe."""

    def __init__(self, mux: ConsoleMux) -> None:
        self.mux = mux

    def data_received(self, data: bytes) -> None:
        self.mux._client.write(data)

    def pause_writing(self) -> None:
        if not self.mux._client.is_closing():
            self.mux._client.pause_reading()

    def resume_writing(self) -> None:
        if not self.mux._client.is_closing():
            self.mux._client.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.mux.close_client()
