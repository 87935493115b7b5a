"""How one SPICE channel begins, between whoever looks and the guest's QEMU. Then its bytes are only pumped.

The server library (0.15.1 at least) ends QEMU with a memory fault when a screen channel is closed before its
client has said ``DISPLAY_INIT``: a browser tab shut at the wrong moment would end the guest. So QEMU sees no
screen channel before that message is there, and the connection is kept until QEMU has acted on it.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from console import spicelink
from console.spicelink import LinkMessage, LinkReply
from console.target import connect
from console.viewonly import NotUnderstood

GREETING_LIMIT = 10.0
"""Seconds a client may take for its part."""
SETTLE_LIMIT = 5.0
"""Seconds a server has for its part; it answers within milliseconds."""


class Line(Protocol):
    """The client's side. Both raise ``OSError`` when it is gone or too slow."""

    def read(self, size: int) -> bytes: ...

    def write(self, data: bytes) -> None: ...


@dataclass(frozen=True)
class Opening:
    """What a channel's beginning came to: ``early`` is still to be sent to the client."""

    early: bytes
    session: int = 0


def read_message(line: Line) -> LinkMessage:
    """The client's link message. Raises :class:`NotUnderstood` and ``OSError``."""
    head = line.read(spicelink.HEADER.size)
    return spicelink.parse_message(head + line.read(spicelink.whole(head) - len(head)))


def read_proof(line: Line) -> bytes:
    """The client's encrypted password. Raises :class:`NotUnderstood` for another kind of proof."""
    word = line.read(4)
    if int.from_bytes(word, "little") != spicelink.AUTH_SPICE:
        raise NotUnderstood("another proof than a password")
    return line.read(spicelink.TICKET)


def ask(run_dir: Path, vmid: int, asked: LinkMessage) -> tuple[socket.socket, LinkReply]:
    """Pass a link message to that guest: its socket and answer. Raises as :func:`finish`."""
    target = connect(run_dir, vmid, "spice")
    try:
        target.sendall(asked.raw)
        head = exactly(target, spicelink.HEADER.size)
        reply = spicelink.parse_reply(head + exactly(target, spicelink.whole(head) - len(head)))
        if reply.error:
            raise NotUnderstood(f"the guest's SPICE server answers error {reply.error}")
    except BaseException:
        target.close()
        raise
    return target, reply


def finish(line: Line, target: socket.socket, asked: LinkMessage, reply: LinkReply) -> Opening:
    """From the client's proof on until bytes may flow. Raises :class:`NotUnderstood` and ``OSError``."""
    from console.spicepassword import encrypted  # here: 10 MiB that only who shows SPICE pays for

    head = reply.head(asked)
    proof = struct.pack("<I", spicelink.AUTH_SPICE) + encrypted(reply.key)
    if asked.channel == spicelink.DISPLAY:
        line.write(bytes(4))  # accepted; by us, as QEMU must not know of the channel yet
        proof += _display_init(line, head)
    target.sendall(proof)
    word = exactly(target, 4)
    if any(word):
        raise NotUnderstood(f"the guest's SPICE server refuses: {int.from_bytes(word, 'little')}")
    if asked.channel == spicelink.DISPLAY:
        return Opening(_until(target, head, lambda kind: kind >= spicelink.OF_THE_CHANNEL)[0])
    if asked.channel != spicelink.MAIN:
        return Opening(word)
    early, content = _until(target, head, lambda kind: kind == spicelink.MAIN_INIT)
    return Opening(word + early, int.from_bytes(content[:4], "little"))


def _display_init(line: Line, head: struct.Struct) -> bytes:
    start = line.read(head.size)
    kind, size = head.unpack(start)
    if kind != spicelink.DISPLAY_INIT or size > spicelink.LIMIT:
        raise NotUnderstood(f"a screen channel that begins with message {kind}")
    return start + line.read(size)


def _until(target: socket.socket, head: struct.Struct, wanted: Callable[[int], bool]) -> tuple[bytes, bytes]:
    """Messages up to the first wanted one, all of them as they came, and that one's content."""
    seen = bytearray()
    for _ in range(spicelink.EARLY_LIMIT):
        start = exactly(target, head.size)
        kind, size = head.unpack(start)
        if size > spicelink.EARLY_SIZE:
            raise NotUnderstood(f"an early SPICE message of {size} bytes")
        content = exactly(target, size)
        seen += start + content
        if wanted(kind):
            return bytes(seen), content
    raise NotUnderstood("a SPICE server that does not come to the point")


def exactly(target: socket.socket, size: int) -> bytes:
    """``size`` bytes of the server's, within :data:`SETTLE_LIMIT`. Raises ``OSError``."""
    end, found = time.monotonic() + SETTLE_LIMIT, bytearray()
    while len(found) < size:
        target.settimeout(max(0.01, end - time.monotonic()))
        data = target.recv(size - len(found))
        if not data:
            raise ConnectionResetError("the guest's SPICE server hung up")
        found += data
    return bytes(found)
