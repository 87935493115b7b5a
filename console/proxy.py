"""The console role: websockify's handler in a threaded server on a unix socket that only we can open.

Every check happens here, before the ``101``: whatever stands in front (the web role, nginx, another node)
changes nothing. What stock websockify does and this does not: it keeps the target on the shared server (a
threaded one then crosses consoles), puts tokens into addresses and logs, knows neither cookie nor origin,
and refuses by dropping the line. The browser names nothing but a VM ID, which must be its ticket's.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import signal
import socket
import socketserver
import stat
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import DatabaseError, connections
from django.http import parse_cookie
from websockify.websocket import WebSocketWantWriteError
from websockify.websocketproxy import ProxyRequestHandler

from console import registry as codes
from console import spicepage
from console.admission import admit, record
from console.line import Lines
from console.pump import ClientSocket, Pump
from console.registry import Console, Registry
from console.sweeper import Sweeper
from console.target import connect
from console.tickets import IN_BROWSERS, Refused
from console.viewonly import NotUnderstood

if TYPE_CHECKING:
    from console.viewerdoor import ViewerDoor

log = logging.getLogger(__name__)

PATH = re.compile(r"/vms/([1-9][0-9]{2,8})/vncwebsocket", re.ASCII)
PROTOCOL, TICKET_PREFIX = "binary", "pvelite.ticket."
"""The subprotocols a page offers: the one we choose, and the carrier of the ticket."""
LOCAL_ORIGIN = "pvelite:terminal"
"""What ``qm terminal`` says it is: no browser can, an origin of theirs is ``null`` or has ``://``."""
HEAD_LIMIT = 10.0
STOP_LIMIT = 2.0
INT = 4
"""Bytes of a descriptor as it travels."""
FAREWELL = 1.0
"""Seconds a browser gets to hear that its console has ended."""


class Handler(ProxyRequestHandler):
    """One connection, in its own thread. Everything about its console stays on ``self``."""

    SocketClass = ClientSocket
    server_version, sys_version = "pvelite", ""
    timeout = HEAD_LIMIT
    server: ConsoleServer
    console: Console | None = None
    handed: socket.socket | None = None
    """The browser's own connection, when the web server handed it over."""

    def setup(self) -> None:
        """Talk to the browser itself where its connection came along with the head of its request."""
        door: socket.socket = self.request  # type: ignore[assignment]
        door.settimeout(HEAD_LIMIT)
        self.handed = handed_over(door)
        if self.handed is None:
            super().setup()
            return
        self.request = self.handed  # type: ignore[assignment]
        super().setup()
        self.rfile.close()
        self.rfile = door.makefile("rb")

    def finish(self) -> None:
        super().finish()  # type: ignore[no-untyped-call]
        if self.handed is not None:
            hang_up(self.handed)

    def handle_upgrade(self) -> None:
        try:
            super().handle_upgrade()  # type: ignore[no-untyped-call]
        except Refused as error:
            log.warning("console refused: %s", error)
            self.send_error(403)
        finally:
            if self.console is not None:
                record("close", self.console)
                self.server.registry.leave(self.console)
                connections.close_all()

    def validate_connection(self) -> None:
        """All checks, cheapest first; a foreign page cannot burn a ticket. Raises :class:`Refused`."""
        if self.headers.get_all("Origin", []) not in self.server.allowed:
            raise Refused("the origin is not ours")
        match = PATH.fullmatch(self.path)
        if match is None:
            raise Refused("the address names no console")
        token, session_key = self.offered_ticket(), self.session_key()
        self.path = "/"  # websockify logs any other
        try:
            self.console = admit(self.server.registry, token, session_key, int(match[1]), IN_BROWSERS)
        except DatabaseError as error:
            raise Refused(f"the database does not answer: {error}") from error
        finally:
            connections.close_all()  # no database link per open console

    def offered_ticket(self) -> str:
        """The token among the offered subprotocols, which are then reduced to the one we speak."""
        given = ",".join(self.headers.get_all("Sec-WebSocket-Protocol", []))
        offered = [word.strip() for word in given.split(",")]
        tokens = [word.removeprefix(TICKET_PREFIX) for word in offered if word.startswith(TICKET_PREFIX)]
        if len(tokens) != 1 or PROTOCOL not in offered:
            raise Refused("no ticket was offered")
        del self.headers["Sec-WebSocket-Protocol"]
        self.headers["Sec-WebSocket-Protocol"] = PROTOCOL
        return tokens[0]

    def session_key(self) -> str:
        cookies = parse_cookie("; ".join(self.headers.get_all("Cookie", [])))
        return cookies.get(settings.SESSION_COOKIE_NAME, "")

    def auth_connection(self) -> None:
        """Done already, and before the ticket was used up."""

    def new_websocket_client(self) -> None:
        console = self.console
        assert console is not None  # noqa: S101  (validate_connection ran or refused)
        if console.ending:
            raise self.CClose(*console.ending)
        if console.kind == "spice":
            self.serve_spice(console)
        try:
            target = self.server.target(console)
        except OSError as error:
            log.warning("console %s: %s", console.name, error.strerror)
            raise self.CClose(1011, "the screen cannot be reached") from error
        with target:
            console.attach(target)
            try:
                Pump(self, target, console).run()
            finally:
                console.attach(None)

    def serve_spice(self, console: Console) -> None:
        try:
            spicepage.serve(self, self.server.run_dir, console)
        except NotUnderstood as error:
            log.warning("console %s: %s", console.name, error)
            raise self.CClose(1008, str(error)) from error
        except OSError as error:
            log.warning("console %s: %s", console.name, error)
            raise self.CClose(1011, "the screen cannot be reached") from error

    def send_close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye if the line takes it; noted as the reason the audit gives."""
        if self.console is not None and self.console.ending is None:
            self.console.ending = (code, reason)
        with suppress(WebSocketWantWriteError, OSError, AttributeError):  # the socket may be closed (None)
            super().send_close(code, reason)  # type: ignore[no-untyped-call]

    def do_GET(self) -> None:
        self.send_error(405)

    do_HEAD = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A plain answer that repeats nothing of the request."""
        body = f"{code} {self.responses.get(code, ('Error',))[0]}\n".encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: websockify's lines hold what the client sent."""


def handed_over(door: socket.socket) -> socket.socket | None:
    """The connection that came with the first byte through ``door``, or ``None`` when only bytes come.

    Only looked at: the bytes stay to be read, and reading them drops the kernel's other copy.
    """
    _, came, _, _ = door.recvmsg(1, socket.CMSG_SPACE(INT), socket.MSG_PEEK)  # recv_fds() takes no flags
    for level, kind, data in came:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            return socket.socket(fileno=int.from_bytes(data[:INT], sys.byteorder))
    return None


def hang_up(link: socket.socket) -> None:
    """End a browser's connection so that it hears our last words: what it still sends is read until it has
    gone, because a connection closed with unread bytes takes back what was sent last."""
    deadline = time.monotonic() + FAREWELL
    with link, suppress(OSError):
        link.shutdown(socket.SHUT_WR)
        while (left := deadline - time.monotonic()) > 0:
            link.settimeout(left)
            if not link.recv(1 << 16):
                break


class ConsoleServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens on ``address``, mode 0600. Raises ``OSError`` when another one is already there."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    only_upgrade = True
    logger = log

    def __init__(self, address: Path, run_dir: Path, origins: Sequence[str], registry: Registry) -> None:
        self.run_dir = run_dir
        self.allowed = [[origin] for origin in (*origins, LOCAL_ORIGIN)]
        self.registry = registry
        self.lines = Lines()
        super().__init__(str(address), Handler)

    def target(self, console: Console) -> socket.socket:
        """The guest's end of ``console``; of a serial line a share. Raises ``OSError`` when there is none."""

        def fresh() -> socket.socket:
            return connect(self.run_dir, console.vmid, console.kind, console.port)

        if console.kind == "vnc":
            return fresh()
        return self.lines.view((console.vm_pk, console.run_id, console.port), fresh)

    def server_bind(self) -> None:
        path = Path(str(self.server_address))
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise FileExistsError(f"{path} is no socket; remove it")
            with socket.socket(socket.AF_UNIX) as probe, suppress(ConnectionRefusedError):
                probe.connect(str(path))
                raise FileExistsError(f"a console proxy is already listening on {path}")
            path.unlink()
        before = os.umask(0o177)
        try:
            super().server_bind()
        finally:
            os.umask(before)

    def get_request(self) -> tuple[socket.socket, Any]:
        link, _ = self.socket.accept()
        return link, ("console", 0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        log.warning("console connection ended: %s: %s", type(error).__name__, error)

    def close(self) -> None:
        """Stop listening, end every console, wait a moment for them, remove the socket."""
        self.shutdown()
        self.server_close()
        self.registry.end_all(codes.GOING_AWAY, "the console proxy restarts")
        self.registry.wait_empty(STOP_LIMIT)
        Path(str(self.server_address)).unlink(missing_ok=True)


def viewer_door(registry: Registry) -> ViewerDoor | None:
    """The port for SPICE viewer programs, where an operator allowed one. Without it the others work."""
    address = settings.CONF.spice
    if address is None:
        return None
    from console.certificate import ensure  # here: 13 MiB that only who serves viewers pays for
    from console.viewerdoor import ViewerDoor

    try:
        files = ensure(settings.CONF.home, settings.CONF.node)
        door = ViewerDoor(address, files, settings.CONF.run_dir, registry)
    except OSError as error:
        log.error("no SPICE viewers: PVELITE_SPICE %s port %d: %s", *address, error.strerror)
        return None
    log.info("SPICE viewers are served on %s port %d, TLS", *address)
    return door


def main(argv: Sequence[str] = ()) -> int:
    """Serve this node's consoles until SIGTERM or SIGINT. Django must be set up. The exit code."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    registry = Registry()
    path: Path = settings.CONF.console_socket
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    try:
        server = ConsoleServer(path, settings.CONF.run_dir, settings.PUBLIC_ORIGINS, registry)
    except OSError as error:
        log.error("the console proxy cannot listen: %s", error)
        return 1
    door = viewer_door(registry)
    sweeper = Sweeper(registry)
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    sweeper.start()
    threading.Thread(target=server.serve_forever, name="accept", daemon=True).start()
    log.info("consoles are served on %s", path)
    if door is not None:
        threading.Thread(target=door.serve_forever, name="viewers", daemon=True).start()
    asked.wait()
    sweeper.stop()
    if door is not None:
        door.close()
    server.close()
    return 0
