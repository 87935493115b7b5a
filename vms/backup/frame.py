"""The bytes inside an archive's file, as they come: plain, or out of one zstd frame that is watched.

zstd itself says nothing of a file that ends in the middle of a frame, or of what follows one. The walker here
knows the frame's blocks (RFC 8878) without unpacking them, so that both are told.
"""

from __future__ import annotations

import os
from typing import IO, Protocol, cast

import zstandard

from vms.errors import StorageError

READ = 1 << 20
WINDOW = 8 << 20
"""Bytes of the largest window, and so of memory, an archive may ask for."""
_MAGIC = b"\x28\xb5\x2f\xfd"
_TRUNCATED = "the file is not complete: it ends in the middle"


class Stream(Protocol):
    """Where an archive's bytes come from."""

    def readinto(self, buffer: memoryview) -> int:
        """Fill some of ``buffer``; 0 at the end. Raises :class:`StorageError` for damaged data."""


class Plain:
    """A file that is not compressed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def readinto(self, buffer: memoryview) -> int:
        """Fill some of ``buffer``; 0 at the end."""
        try:
            return os.readv(self._descriptor, [buffer])
        except OSError as error:
            raise StorageError(f"the file cannot be read: {error.strerror}") from error


class Compressed:
    """A file that is one zstd frame."""

    def __init__(self, descriptor: int) -> None:
        self._walker = _Walker(descriptor)
        unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW)
        source = cast("IO[bytes]", self._walker)  # all that is asked of it is read()
        self._reader = unpacker.stream_reader(source, read_size=READ, closefd=False)

    def readinto(self, buffer: memoryview) -> int:
        """Fill some of ``buffer``; 0 at the end, where the frame has to be whole and nothing may follow."""
        try:
            got = self._reader.readinto(buffer)
        except zstandard.ZstdError as error:
            raise StorageError(f"the compressed data is damaged ({str(error)[:80]})") from error
        if not got:
            self._walker.check_end()
        return got


class _Walker:
    """Hands a file's bytes through and follows the frame's blocks in them."""

    def __init__(self, descriptor: int) -> None:
        self._file = Plain(descriptor)
        self._head = bytearray()
        self._skip = 0
        self._last = False
        self._state = "magic"

    def read(self, size: int = -1) -> bytes:
        """The next bytes of the file; called by the unpacker."""
        buffer = bytearray(READ if size < 0 else size)
        data = bytes(memoryview(buffer)[: self._file.readinto(memoryview(buffer))])
        self._follow(data)
        return data

    def check_end(self) -> None:
        """Raise :class:`StorageError` unless the file ended where the frame does."""
        while self.read():
            continue
        if self._state != "end":
            raise StorageError(_TRUNCATED)

    def _follow(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                if not self._skip and self._state == "sum":
                    self._state = "end"
                continue
            if self._state == "end":
                raise StorageError("something follows the compressed data")
            self._head.append(data[at])
            at += 1
            self._step()

    def _step(self) -> None:
        head = self._head
        if self._state == "magic" and len(head) == 5:
            if head[:4] != _MAGIC:
                raise StorageError("this is no zstd file")
            descriptor = head[4]
            if not descriptor & 4:
                raise StorageError("the compressed data carries no checksum")
            if descriptor & 0x18:
                raise StorageError("the compressed data is damaged (its first bytes)")
            single = bool(descriptor & 0x20)
            length = (0, 1, 2, 4)[descriptor & 3] + (int(single), 2, 4, 8)[descriptor >> 6] + (not single)
            self._state, self._skip = "block", length
            head.clear()
        elif self._state == "block" and len(head) == 3:
            number = int.from_bytes(head, "little")
            last, kind, size = number & 1, number >> 1 & 3, number >> 3
            if kind == 3:
                raise StorageError("the compressed data is damaged (an unknown kind of block)")
            self._skip = 1 if kind == 1 else size
            if last:
                self._state, self._skip = "sum", self._skip + 4
            head.clear()
