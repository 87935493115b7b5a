"""A real QEMU with a SPICE screen, and a SPICE client down to the bytes: a viewer's over TLS, or a page's."""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from consolekit import Browser, reached, wait_for
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from console import spicelink
from console.spicelink import HEADER, MAIN, MAIN_INIT

QEMU = shutil.which("qemu-system-x86_64")
CHROMIUM = shutil.which("chromium")
IN_A_BROWSER = [
    pytest.mark.qemu,
    pytest.mark.e2e,
    pytest.mark.skipif(not (CHROMIUM and QEMU), reason="needs chromium and QEMU"),
]
"""What every test of a SPICE page with a real guest is marked with."""
DENIED = spicelink.PERMISSION_DENIED
GONE = -1
"""The other side hung up before it answered."""
OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)
CHANNELS_LIST, ATTACH = 104, 104
MINI = struct.Struct("<HI")


class SpiceGuest:
    """A machine without a disk; with ``runs`` SeaBIOS draws on its screen and reads its keyboard."""

    def __init__(self, folder: Path, *, runs: bool = False, card: str = "qxl-vga", vnc: bool = False) -> None:
        (folder / "console").mkdir(parents=True, exist_ok=True)
        self.spice, self.qmp = folder / "console" / "spice.sock", folder / "qmp.sock"
        self.vnc, self.dump = folder / "console" / "vnc.sock", folder / "screen.ppm"
        assert QEMU
        argv = [
            QEMU, "-accel", "tcg", "-nodefaults", "-display", "none", "-m", "64", "-device", card,
            "-boot", "menu=on,splash-time=60000",
            "-spice", f"unix=on,addr={self.spice},disable-ticketing=on,seamless-migration=on",
            "-qmp", f"unix:{self.qmp},server=on,wait=off", *([] if runs else ["-S"]),
            *(["-vnc", f"unix:{self.vnc}"] if vnc else []),
        ]  # fmt: skip
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
        self.link = wait_for("QEMU's monitor", lambda: reached(self.qmp), 60)
        self.link.settimeout(60)
        self.lines = self.link.makefile("rw")
        self.events: list[dict[str, Any]] = []
        self.command("qmp_capabilities")

    def command(self, name: str, **arguments: Any) -> Any:
        """What QEMU answers; events on the way are kept for :meth:`event`."""
        self.lines.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.lines.flush()
        for line in self.lines:
            message = json.loads(line)
            if "return" in message or "error" in message:
                return message.get("return")
            self.events.append(message)
        raise AssertionError(f"QEMU ended during {name}")

    def event(self, name: str) -> dict[str, Any]:
        """The next event of that name; earlier ones are passed over."""
        for message in itertools.chain(self.events, map(json.loads, self.lines)):
            if message.get("event") == name:
                return dict(message)
        raise AssertionError(f"QEMU ended without {name}")

    def picture(self) -> tuple[int, int, bytes]:
        """The screen as QEMU itself has it: width, height, and red, green, blue of each pixel."""
        assert self.command("screendump", filename=str(self.dump)) == {}
        kind, size, depth, pixels = self.dump.read_bytes().split(b"\n", 3)
        assert (kind, depth) == (b"P6", b"255")
        width, height = map(int, size.split())
        return width, height, pixels

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self.link.close()
        self.spice.unlink(missing_ok=True)
        self.vnc.unlink(missing_ok=True)
        self.qmp.unlink(missing_ok=True)


class Channel:
    """One SPICE connection from the link message on. ``send`` and ``read(size)`` carry its bytes."""

    def __init__(self, send: Callable[[bytes], None], read: Callable[[int], bytes]) -> None:
        self.send, self.read = send, read
        self.result = GONE
        self.session = 0

    def link(self, password: str = "", *, session: int = 0, channel: int = MAIN, twist: bytes = b"") -> int:
        """Say who we are; what the server answers: 0, an error, or :data:`GONE`."""
        try:
            self.send(twist or spicelink.message(session, channel))
            head = self.read(HEADER.size)
            if len(head) < HEADER.size:
                return GONE
            reply = spicelink.parse_reply(head + self.read(spicelink.whole(head) - len(head)))
            key = serialization.load_der_public_key(reply.key)
            assert isinstance(key, rsa.RSAPublicKey)
            self.send(struct.pack("<I", spicelink.AUTH_SPICE) + key.encrypt(password.encode() + b"\0", OAEP))
            word = self.read(4)
        except (ssl.SSLError, ConnectionError):
            return GONE
        self.result = int.from_bytes(word, "little") if len(word) == 4 else GONE
        return self.result

    def message(self) -> tuple[int, bytes]:
        """The next message's type and content."""
        kind, size = MINI.unpack(self.read(MINI.size))
        return kind, self.read(size) if size else b""

    def greeted(self) -> int:
        """Read up to the new session's number."""
        kind = 0
        while kind != MAIN_INIT:
            kind, data = self.message()
        self.session = int.from_bytes(data[:4], "little")
        return self.session

    def channels(self) -> set[int]:
        """The kinds of channels this guest has."""
        self.send(MINI.pack(ATTACH, 0))
        kind = 0
        while kind != CHANNELS_LIST:
            kind, data = self.message()
        return {data[at] for at in range(4, len(data), 2)}


def in_browser(browser: Browser) -> Channel:
    return Channel(browser.send, browser.read)


class Viewer(Channel):
    """A viewer program that trusts ``authority`` and nothing else."""

    def __init__(self, address: tuple[str, int], authority: Path, node: str = "pve1") -> None:
        context = ssl.create_default_context(cafile=str(authority))
        self.tls = context.wrap_socket(socket.create_connection(address, 30), server_hostname=node)
        super().__init__(self.tls.sendall, self._read)

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size and (data := self.tls.recv(size - len(found))):
            found += data
        return found

    def ended(self) -> bool:
        """Wait until the other side hangs up."""
        try:
            while self.tls.recv(65536):
                pass
        except OSError:
            return True
        return True

    def close(self) -> None:
        self.tls.close()
