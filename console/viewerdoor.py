"""The one TCP port SPICE viewer programs may connect to, where an operator allowed it (``PVELITE_SPICE``).

QEMU keeps listening on nothing but its socket. This door speaks TLS with a certificate of our own authority
and takes the password as SPICE sends it: the password is a console ticket, so it opens one session, once,
within seconds, and everything that ends a console in a browser ends this one too. A viewer needs the server's
capabilities before it says its password: they come from a guest for which a password is out. Most of the time
there is none; then nobody gets further than the TLS handshake.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import ssl
import struct
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.db import DatabaseError, connections

from console import spicehandshake as handshake
from console import spicelink, tickets
from console.admission import admit, record
from console.keyfiles import Files
from console.pump import CHUNK, Pump
from console.registry import Console, Registry
from console.spicelink import LinkMessage
from console.spicepassword import OAEP
from console.tickets import IN_VIEWERS, Refused
from console.viewonly import NotUnderstood

log = logging.getLogger(__name__)

STRANGERS = 32
"""Connections at once that have not said the right password yet."""
KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))


class Ended(Exception):
    """The connection is over, with a close code and its words as the pump gives them."""


class Viewer:
    """A viewer's TLS connection, as the pump uses one."""

    CClose = Ended

    def __init__(self, link: ssl.SSLSocket) -> None:
        self.request = link
        self._waiting = bytearray()

    def recv_frames(self) -> tuple[list[bytes], bool]:
        """What has arrived, and whether the viewer hung up. Leaves nothing inside TLS: no poll would tell."""
        found: list[bytes] = []
        try:
            while True:
                data = self.request.recv(CHUNK)
                if not data:
                    return found, True
                found.append(data)
                if not self.request.pending():
                    return found, False
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return found, False

    def send_frames(self, chunks: list[bytes] | None = None) -> bool:
        """Send; whether something is left that the viewer does not take yet."""
        for chunk in chunks or ():
            self._waiting += chunk
        try:
            while self._waiting:
                del self._waiting[: self.request.send(self._waiting[:CHUNK])]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        except OSError as error:
            raise Ended(1000, "the viewer left") from error
        return False


class HangUp:
    """What wakes a greeting's thread from outside; TLS's own ``shutdown`` is not for that."""

    def __init__(self, link: ssl.SSLSocket) -> None:
        self.link = link

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        with suppress(OSError):
            socket.socket.shutdown(self.link, how)


class Greeting:
    """One connection until it is pumped; a watch hangs up on whoever takes too long, however busy."""

    def __init__(self, door: ViewerDoor, plain: socket.socket) -> None:
        self.door = door
        self.console: Console | None = None
        self.link = door.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self.watch = threading.Timer(handshake.GREETING_LIMIT, HangUp(self.link).shutdown)
        self.watch.daemon = True
        self.watch.start()

    def finish(self) -> None:
        """Nobody is waited for any more, whatever came of it."""
        self.watch.cancel()

    def leave(self) -> None:
        """The connection is over, and with it the console it may have opened."""
        if self.console is not None:
            record("close", self.console)
            self.door.registry.leave(self.console)
            connections.close_all()
        self.link.close()

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes; raises ``OSError`` when they do not come."""
        found = b""
        while len(found) < size:
            data = self.link.recv(size - len(found))
            if not data:
                raise ConnectionResetError("the viewer hung up")
            found += data
        return found

    def write(self, data: bytes) -> None:
        self.link.sendall(data)

    def admit(self) -> tuple[Console, socket.socket]:
        """The console that was opened and the guest's socket, to be pumped.

        Raises :class:`Refused`, :class:`NotUnderstood`, ``DatabaseError`` and ``OSError``.
        """
        self.link.do_handshake()
        asked = handshake.read_message(self)
        candidates = self.candidates(asked)
        if not candidates:
            raise Refused("no viewer is awaited")
        target, reply = handshake.ask(self.door.run_dir, candidates[0], asked)
        try:
            self.write(reply.with_key(self.door.public_key))
            console = self.console = self.enter(self.password(), asked)
            console.attach(HangUp(self.link))
            if console.vmid != candidates[0]:
                target.close()
                target, reply = handshake.ask(self.door.run_dir, console.vmid, asked)
            opening = handshake.finish(self, target, asked, reply)
            console.session = opening.session
            self.write(opening.early)
        except BaseException:
            target.close()
            raise
        return console, target

    def candidates(self, asked: LinkMessage) -> list[int]:
        """VM IDs this connection may be for: of the session it names, or those a viewer is awaited for."""
        if asked.session:
            return [console.vmid for console in self.door.registry.of_session(asked.session)]
        return tickets.awaited()

    def password(self) -> str:
        """What the viewer encrypted for us."""
        try:
            return self.door.key.decrypt(handshake.read_proof(self), OAEP).rstrip(b"\0").decode("ascii")
        except ValueError:
            return ""

    def enter(self, token: str, asked: LinkMessage) -> Console:
        """Open the console, or say to the viewer that the password is wrong and raise :class:`Refused`."""
        try:
            session_key, vmid = tickets.bearer(token)
            main = self.door.registry.main_of(tickets.digest(token))
            if (main.session if main is not None else 0) != asked.session:
                raise Refused("a used password, or another session's")
            if (asked.channel == spicelink.MAIN) != (main is None):
                raise Refused(f"channel {asked.channel} at the wrong time")
            return admit(self.door.registry, token, session_key, vmid, IN_VIEWERS)
        except Refused:
            self.write(struct.pack("<I", spicelink.PERMISSION_DENIED))
            raise


class ViewerLink(socketserver.BaseRequestHandler):
    """One connection, in its own thread."""

    server: ViewerDoor

    def handle(self) -> None:
        greeting: Greeting | None = None
        try:
            try:
                greeting = Greeting(self.server, self.request)
                console, target = greeting.admit()
            finally:
                if greeting is not None:
                    greeting.finish()
                self.server.room.release()
                connections.close_all()
            self.pump(greeting.link, target, console)
        except (Refused, NotUnderstood, DatabaseError, OSError) as error:
            log.warning("viewer refused: %s", error)
        finally:
            if greeting is not None:
                greeting.leave()

    def pump(self, link: ssl.SSLSocket, target: socket.socket, console: Console) -> None:
        with target:
            console.attach(target)
            try:
                Pump(Viewer(link), target, console).run()
            except Ended as end:
                console.end(*end.args)
            finally:
                console.attach(None)


class ViewerDoor(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Listens on ``address``. Raises ``OSError`` when that is not ours or taken."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], files: Files, run_dir: Path, registry: Registry) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.run_dir, self.registry = run_dir, registry
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.load_cert_chain(files.certificate, files.key)
        # The length is the protocol's; nothing but the TLS around it keeps a secret.
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
        self.public_key = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.room = threading.BoundedSemaphore(STRANGERS)
        super().__init__(address, ViewerLink)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.room.acquire(blocking=False):
            log.warning("viewer refused: %s strangers are connected already", STRANGERS)
            self.shutdown_request(request)
            return
        request.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            request.setsockopt(socket.IPPROTO_TCP, option, value)
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().process_request(request, client_address)

    def close(self) -> None:
        """Stop listening; the registry's consoles are ended by whoever owns it."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        log.warning("viewer's connection ended: %s: %s", type(error).__name__, error)
