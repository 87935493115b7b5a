"""Pictures of a guest's screen: read as QEMU writes them, made smaller, written as PNG. Pure.

What a browser gets is a PNG of our making, whatever the guest, or a QEMU it has broken out into, has drawn:
of what QEMU writes only sizes are believed, and these are bounded.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

LARGEST = 6144
"""Pixels a side at most."""
BYTES = 64 << 20
"""The largest picture read: 4096 × 4096 in three bytes a pixel, and more."""
STRONGEST = 16
"""256 bytes of a colour still add up within sixteen bits."""
_HEAD = re.compile(rb"P6\s+(\d{1,5})\s+(\d{1,5})\s+255\s", re.ASCII)


@dataclass(frozen=True)
class Picture:
    """``pixels`` are red, green and blue, a byte each, row by row."""

    width: int
    height: int
    pixels: bytes

    @classmethod
    def parse(cls, data: bytes) -> Picture:
        """Read a PPM (P6), which may be followed by anything. Raises ``ValueError``."""
        head = _HEAD.match(data[:32])
        if head is None:
            raise ValueError("this is no PPM picture")
        width, height = int(head[1]), int(head[2])
        if not (0 < width <= LARGEST and 0 < height <= LARGEST):
            raise ValueError(f"a screen of {width} × {height} is none we draw")
        pixels = data[head.end() : head.end() + 3 * width * height]
        if len(pixels) != 3 * width * height:
            raise ValueError("the picture is cut short")
        return cls(width, height, pixels)

    def shrunk(self, width: int, height: int) -> Picture:
        """Reduced by a whole factor, :data:`STRONGEST` at most, until it fits.

        Each pixel is the mean of those it stands for.

        Rows are added as one large number with sixteen bits a colour: a thousandth of the time a loop over
        pixels would take.
        """
        factor = min(max(-(-self.width // width), -(-self.height // height), 1), STRONGEST)
        if factor == 1:
            return self
        columns, rows = max(self.width // factor, 1), max(self.height // factor, 1)
        found = bytearray()
        for row in range(rows):
            found += self._mean(row * factor, factor, columns)
        return Picture(columns, rows, bytes(found))

    def _mean(self, top: int, factor: int, columns: int) -> bytes:
        """One row of the smaller picture, from ``factor`` rows below ``top``."""
        stride = 3 * self.width
        wide = bytearray(2 * stride)
        total, deep = 0, min(factor, self.height - top)
        for line in range(top, top + deep):
            wide[0::2] = self.pixels[line * stride : (line + 1) * stride]
            total += int.from_bytes(wide, "little")
        sums = memoryview(total.to_bytes(2 * stride, "little")).cast("H")
        broad = min(factor, self.width)
        row = bytearray(3 * columns)
        for colour in range(3):
            added = 0
            for column in range(broad):
                part = sums[colour + 3 * column :: 3 * factor][:columns].tobytes()
                added += int.from_bytes(part, "little")
            whole = memoryview(added.to_bytes(2 * columns, "little")).cast("H")
            row[colour::3] = bytes(value // (deep * broad) for value in whole)
        return bytes(row)

    def png(self) -> bytes:
        """As a PNG file."""
        stride = 3 * self.width
        lines = b"".join(b"\0" + self.pixels[at : at + stride] for at in range(0, len(self.pixels), stride))
        head = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 6)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    check = zlib.crc32(body, zlib.crc32(kind))
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)
