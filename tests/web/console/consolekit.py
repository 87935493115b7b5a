"""What the console tests share: a home with its own database file, screens to look at, a raw browser."""

from __future__ import annotations

import base64
import os
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import connections

ORIGIN = "http://127.0.0.1:8006"


def wait_for(what: str, state: Callable[[], Any], limit: float = 30) -> Any:
    """What ``state`` answered as soon as it was true."""
    end = time.monotonic() + limit
    pause = threading.Event()
    while not (found := state()):
        assert time.monotonic() < end, f"{what}: not within {limit} s"
        pause.wait(0.01)
    return found


def reached(path: Path) -> socket.socket | None:
    """Connected to that socket, or None while nobody listens there."""
    link = socket.socket(socket.AF_UNIX)
    try:
        link.connect(str(path))
    except OSError:
        link.close()
        return None
    return link


@contextmanager
def database(path: Path) -> Iterator[None]:
    """Django's default database is the file ``path``, for every thread and process, until the block ends."""
    kept, named = connections["default"], connections.settings["default"]["NAME"]
    connections.settings["default"]["NAME"] = str(path)
    connections["default"] = connections.create_connection("default")
    try:
        yield
    finally:
        connections["default"].close()
        connections.settings["default"]["NAME"] = named
        connections["default"] = kept


class Screen(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Stands where QEMU's console socket stands: says who it is, then echoes; or floods. Keeps all it got."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, path: Path, greeting: bytes = b"", flood: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self.greeting, self.flood = greeting, flood
        self.received = bytearray()
        self.sent = 0
        self.links: list[socket.socket] = []
        super().__init__(str(path), ScreenLink)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def get_request(self) -> Any:
        link, _ = self.socket.accept()
        self.links.append(link)
        return link, ("browser", 0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves is no error."""

    def hang_up(self) -> None:
        for link in self.links:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self.hang_up()
        Path(str(self.server_address)).unlink(missing_ok=True)


class ScreenLink(socketserver.BaseRequestHandler):
    server: Screen

    def handle(self) -> None:
        self.request.sendall(self.server.greeting)
        chunk = bytes(1 << 16)
        while self.server.sent < self.server.flood:
            self.request.sendall(chunk)
            self.server.sent += len(chunk)
        while data := self.request.recv(1 << 16):
            self.server.received += data
            self.request.sendall(data)


@dataclass
class Browser:
    """A websocket client down to the bytes: no library between the test and what is on the line."""

    link: socket.socket
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    rest: bytearray = field(default_factory=bytearray)
    closed: tuple[int, str] | None = None
    said: bytearray = field(default_factory=bytearray)

    def upgrade(self, path: str, headers: dict[str, str] | list[tuple[str, str]]) -> Browser:
        """Send the upgrade request; ``status`` is the answer's."""
        given = list(headers.items()) if isinstance(headers, dict) else headers
        names = {name.lower() for name, _ in given}
        lines = [f"GET {path} HTTP/1.1"]
        plain = [
            ("Host", "127.0.0.1:8006"), ("Upgrade", "websocket"), ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", base64.b64encode(bytes(16)).decode()),
        ]  # fmt: skip
        lines += [f"{name}: {value}" for name, value in plain if name.lower() not in names]
        lines += [f"{name}: {value}" for name, value in given]
        self.link.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        return self.answer()

    def answer(self) -> Browser:
        while b"\r\n\r\n" not in self.rest:
            data = self.link.recv(65536)
            if not data:
                return self
            self.rest += data
        head, _, rest = bytes(self.rest).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        self.rest = bytearray(rest)
        if self.status != 101:
            while data := self.link.recv(65536):
                self.rest += data
            self.body = bytes(self.rest)
        return self

    def send(self, data: bytes, opcode: int = 2, fin: bool = True) -> None:
        mask = os.urandom(4)
        size = len(data)
        head = bytes([opcode | (0x80 if fin else 0)])
        if size < 126:
            head += bytes([0x80 | size])
        elif size < 65536:
            head += struct.pack(">BH", 0xFE, size)
        else:
            head += struct.pack(">BQ", 0xFF, size)
        whole = int.from_bytes(data, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        self.link.sendall(head + mask + whole.to_bytes(size, "big"))

    def frame(self) -> tuple[int, bytes] | None:
        """The next frame (opcode, payload); None at the end of the line."""
        while True:
            size, start = (self.rest[1] & 0x7F, 2) if len(self.rest) >= 2 else (0, 0)
            if size == 126 and len(self.rest) >= 4:
                size, start = int.from_bytes(self.rest[2:4], "big"), 4
            elif size == 127 and len(self.rest) >= 10:
                size, start = int.from_bytes(self.rest[2:10], "big"), 10
            elif size >= 126:
                start = 0
            if start and len(self.rest) >= start + size:
                opcode, payload = self.rest[0] & 0x0F, bytes(self.rest[start : start + size])
                del self.rest[: start + size]
                return opcode, payload
            try:
                data = self.link.recv(1 << 18)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.rest += data

    def read(self, size: int) -> bytes:
        """``size`` bytes of what the screen sent, fewer when the console ended (then ``closed`` says how)."""
        while len(self.said) < size:
            frame = self.frame()
            if frame is None:
                self.closed = self.closed or (1006, "")
                break
            opcode, payload = frame
            if opcode == 8:
                self.closed = (int.from_bytes(payload[:2], "big"), payload[2:].decode())
                break
            if opcode == 2:
                self.said += payload
        found = bytes(self.said[:size])
        del self.said[:size]
        return found

    def until_closed(self) -> tuple[int, str]:
        """Read to the end: the close code and its words."""
        while self.closed is None:
            self.read(1 << 30)
        return self.closed

    def close(self) -> None:
        self.link.close()


def dial(address: Path | tuple[str, int]) -> Browser:
    if isinstance(address, Path):
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(20)
        link.connect(str(address))
    else:
        link = socket.create_connection(address, 20)
    return Browser(link)
