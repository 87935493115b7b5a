"""View-only, enforced: what a watching client may say to a VNC server, and nothing else.

The client's half of an RFB connection (RFC 6143) is parsed message by message. Requests for pixels pass;
keys, pointer, clipboard and every extension that could act on the guest are dropped. Encodings are passed
from an allow-list, so the server never learns of an extension that would change the messages' lengths.
Pure: no sockets.
"""

from __future__ import annotations

import struct

SET_PIXEL_FORMAT, SET_ENCODINGS, UPDATE_REQUEST = 0, 2, 3
KEY_EVENT, POINTER_EVENT, CUT_TEXT = 4, 5, 6
ENABLE_CONTINUOUS, FENCE, XVP, SET_DESKTOP_SIZE, QEMU = 150, 248, 250, 251, 255

PLAIN = {
    SET_PIXEL_FORMAT: 20,
    UPDATE_REQUEST: 10,
    KEY_EVENT: 8,
    POINTER_EVENT: 6,
    ENABLE_CONTINUOUS: 10,
    XVP: 4,
}
"""Message type → its fixed length in bytes."""
PASSED = frozenset({SET_PIXEL_FORMAT, UPDATE_REQUEST})
ENCODINGS = frozenset({0, 1, 2, 5, 6, 7, 16, 21, 50, -223, -224, -239, -260, -261, -307, 0x574D5664})
"""Pixels, cursor shapes, sizes and names that a server may send us; -261 is the keyboard's lights."""
LEVELS = frozenset({*range(-32, -22), *range(-256, -246)})
"""Quality and compression wishes."""


class NotUnderstood(ValueError):
    """The client said something RFB does not know; what follows cannot be told apart from input."""


class ViewOnly:
    """One connection's filter: :meth:`feed` takes what came from the client and gives what may go on."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0
        self._step = "version"
        self._asks_security = True

    def feed(self, data: bytes) -> bytes:
        """Raises :class:`NotUnderstood`. Keeps at most one SetEncodings (256 KiB) back."""
        self._buffer += data
        passed = bytearray()
        while self._buffer:
            if self._skip:
                gone = min(self._skip, len(self._buffer))
                del self._buffer[:gone]
                self._skip -= gone
                continue
            used = self._hello(passed) if self._step != "messages" else self._message(passed)
            if not used:
                break
            del self._buffer[:used]
        return bytes(passed)

    def _hello(self, passed: bytearray) -> int:
        """Version, security type, ClientInit. The bytes used, 0 when more must come."""
        if self._step == "version":
            if len(self._buffer) < 12:
                return 0
            if bytes(self._buffer[:4]) != b"RFB ":
                raise NotUnderstood("no RFB version")
            self._asks_security = bytes(self._buffer[:12]) != b"RFB 003.003\n"
            self._step = "security" if self._asks_security else "init"
            passed += self._buffer[:12]
            return 12
        if self._step == "security":
            if self._buffer[0] != 1:
                raise NotUnderstood("a security type other than None")
            self._step = "init"
            passed.append(1)
            return 1
        self._step = "messages"
        passed.append(1)  # always shared: a watcher may not throw the others out
        return 1

    def _message(self, passed: bytearray) -> int:
        kind = self._buffer[0]
        if kind in PLAIN:
            length = PLAIN[kind]
            if kind in PASSED:
                if len(self._buffer) < length:
                    return 0
                passed += self._buffer[:length]
                return length
            return self._drop(length)
        if kind == SET_ENCODINGS:
            return self._encodings(passed)
        return self._drop(self._length(kind))

    def _drop(self, length: int) -> int:
        """Forget the next ``length`` bytes, those that have not come yet included. 0: not known yet."""
        here = min(length, len(self._buffer))
        self._skip = length - here
        return here

    def _length(self, kind: int) -> int:
        """The length of a dropped message of variable length, 0 while too little of it has come."""
        have = len(self._buffer)
        if kind == CUT_TEXT:  # a negative length is the extended clipboard's
            return 8 + abs(struct.unpack_from(">i", self._buffer, 4)[0]) if have >= 8 else 0
        if kind == FENCE:
            return 9 + self._buffer[8] if have >= 9 else 0
        if kind == SET_DESKTOP_SIZE:
            return 8 + 16 * self._buffer[6] if have >= 7 else 0
        if kind == QEMU:
            return self._qemu_length() if have >= 4 else 0
        raise NotUnderstood(f"message type {kind}")

    def _qemu_length(self) -> int:
        submessage, operation = self._buffer[1], int.from_bytes(self._buffer[2:4], "big")
        if submessage == 0:  # extended key event
            return 12
        if submessage == 1:  # audio: enable, disable, set format
            return 10 if operation == 2 else 4
        raise NotUnderstood(f"QEMU message {submessage}")

    def _encodings(self, passed: bytearray) -> int:
        if len(self._buffer) < 4:
            return 0
        count = int.from_bytes(self._buffer[2:4], "big")
        length = 4 + 4 * count
        if len(self._buffer) < length:
            return 0
        wanted = struct.unpack_from(f">{count}i", self._buffer, 4)
        kept = [code for code in wanted if code in ENCODINGS or code in LEVELS]
        passed += struct.pack(f">BxH{len(kept)}i", SET_ENCODINGS, len(kept), *kept)
        return length
