"""What a SPICE client and server say before they trust each other, down to the bytes.

Every channel (screen, keyboard, pointer…) is a connection of its own and begins alike: the client's link
message names the session it belongs to, 0 for a new one, and what channel it wants; the server answers with a
public key under which the client sends its password. A new session's number comes with the main channel's
first message.
Pure: no sockets.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from console.viewonly import NotUnderstood

MAGIC, MAJOR, MINOR = b"REDQ", 2, 2
HEADER = struct.Struct("<4sIII")
"""Magic, major and minor version, bytes that follow."""
MESSAGE = struct.Struct("<IBBIII")
"""Session, channel type, channel number, how many words of common and of channel capabilities, and where."""
REPLY = struct.Struct("<I162sIII")
"""Error, public key, and the capabilities as above."""
LIMIT = 4096
"""Longest link message or reply taken, in bytes; real ones have about 200."""

MAIN, DISPLAY, INPUTS, CURSOR = 1, 2, 3, 4
IN_A_PAGE = frozenset({DISPLAY, INPUTS, CURSOR})
"""Channels a page may open beside its main one: it has no sound, no USB and no shared folder."""
AUTH_SPICE, MINI_HEADER = 1, 3
"""Numbers of common capabilities; the second one is also what a client says who sends a password."""
TICKET = 128
"""Bytes of an encrypted password: the key has 1024 bits."""
PERMISSION_DENIED = 7
MAIN_INIT, DISPLAY_INIT = 103, 101
"""The server's first words about a session; the client's about its screen, without which there is none."""
OF_THE_CHANNEL = 101
"""Message types from here on are a channel's own; lower ones keep the connection."""
EARLY_SIZE = 1 << 20
EARLY_LIMIT = 64
"""Messages read along at a channel's beginning before its server is taken for another one than we know."""


@dataclass(frozen=True)
class LinkMessage:
    """A client's first words; ``raw`` is all of them, ``common`` the first word of common capabilities."""

    session: int
    channel: int
    common: int
    raw: bytes

    def offers(self, capability: int) -> bool:
        return bool(self.common >> capability & 1)


@dataclass(frozen=True)
class LinkReply:
    """A server's answer, header included in ``raw``."""

    error: int
    key: bytes
    common: int
    raw: bytes

    def head(self, asked: LinkMessage) -> struct.Struct:
        """How messages begin: type and size, in the short form where both sides know it."""
        mini = asked.offers(MINI_HEADER) and self.common >> MINI_HEADER & 1
        return struct.Struct("<HI" if mini else "<8xHI4x")

    def with_key(self, key: bytes) -> bytes:
        """The same answer with another public key of the same length."""
        start = HEADER.size + 4
        return self.raw[:start] + key + self.raw[start + len(self.key) :]


def whole(buffer: bytes | bytearray) -> int:
    """The length of the link message or reply ``buffer`` begins with; 0 while its header is not there yet.

    Raises :class:`NotUnderstood` for what is no SPICE, another major version, or more than :data:`LIMIT`.
    """
    if not MAGIC.startswith(bytes(buffer[:4])):
        raise NotUnderstood("this is no SPICE")
    if len(buffer) < HEADER.size:
        return 0
    _, major, _, size = HEADER.unpack_from(buffer)
    if major != MAJOR or size > LIMIT:
        raise NotUnderstood(f"a SPICE link of version {major} with {size} bytes")
    return HEADER.size + int(size)


def parse_message(raw: bytes) -> LinkMessage:
    """Raises :class:`NotUnderstood`. ``raw`` is as long as :func:`whole` says."""
    body = raw[HEADER.size :]
    if len(body) < MESSAGE.size:
        raise NotUnderstood("the SPICE link message is cut short")
    session, channel, _, words, _, offset = MESSAGE.unpack_from(body)
    return LinkMessage(session, channel, _first_word(body, words, offset), raw)


def parse_reply(raw: bytes) -> LinkReply:
    """Raises :class:`NotUnderstood`. ``raw`` is as long as :func:`whole` says."""
    body = raw[HEADER.size :]
    if len(body) < REPLY.size:
        raise NotUnderstood("the SPICE server's answer is cut short")
    error, key, words, _, offset = REPLY.unpack_from(body)
    return LinkReply(error, key, _first_word(body, words, offset), raw)


def message(session: int, channel: int, *, common: int = 0b1011, number: int = 0) -> bytes:
    """A link message without channel capabilities."""
    body = MESSAGE.pack(session, channel, number, 1, 0, MESSAGE.size) + struct.pack("<I", common)
    return HEADER.pack(MAGIC, MAJOR, MINOR, len(body)) + body


def _first_word(body: bytes, words: int, offset: int) -> int:
    if not words:
        return 0
    if offset + 4 > len(body):
        raise NotUnderstood("SPICE capabilities that are not there")
    return int.from_bytes(body[offset : offset + 4], "little")
