"""Screens as pictures: what is read of QEMU's, what is made of it."""

from __future__ import annotations

import struct
import zlib

import pytest

from vms.qemu.picture import LARGEST, Picture


def ppm(width: int, height: int, pixels: bytes) -> bytes:
    return b"P6\n%d %d\n255\n%s" % (width, height, pixels)


def unpacked(png: bytes) -> tuple[int, int, bytes]:
    """Width, height and pixels of a PNG, its checksums tried."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        body = png[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack_from(">I", png, at + 8 + length)[0]
        chunks[kind] = body
        at += 12 + length
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 2, 0, 0, 0]
    lines = zlib.decompress(chunks[b"IDAT"])
    rows = [lines[at : at + 1 + 3 * width] for at in range(0, len(lines), 1 + 3 * width)]
    assert all(row[0] == 0 for row in rows)
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    return width, height, b"".join(row[1:] for row in rows)


def test_what_qemu_writes_becomes_a_png() -> None:
    pixels = bytes(range(30))
    picture = Picture.parse(ppm(5, 2, pixels) + b"\0" * 100)
    assert picture == Picture(5, 2, pixels)
    assert unpacked(picture.png()) == (5, 2, pixels)
    assert picture.shrunk(5, 2) is picture


def test_a_smaller_picture_is_the_mean_of_the_larger() -> None:
    squares = b"".join(
        bytes([red, 255, 0])
        for row in range(4)
        for red in ((10, 20, 100, 200) if row < 2 else (0, 0, 255, 255))
    )
    assert Picture(4, 4, squares).shrunk(2, 2) == Picture(
        2, 2, bytes([15, 255, 0, 150, 255, 0, 0, 255, 0, 255, 255, 0])
    )
    white = Picture(1920, 1080, b"\xff" * (3 * 1920 * 1080)).shrunk(384, 288)
    assert (white.width, white.height) == (384, 216)
    assert white.pixels == b"\xff" * len(white.pixels)


@pytest.mark.parametrize("size", [(1, 700), (700, 1), (17, 300), (385, 289), (LARGEST, 3), (3, LARGEST)])
def test_every_shape_stays_white_and_small(size: tuple[int, int]) -> None:
    width, height = size
    small = Picture(width, height, b"\xff" * (3 * width * height)).shrunk(384, 288)
    assert len(small.pixels) == 3 * small.width * small.height <= 3 * 384 * 384
    assert set(small.pixels) == {255}
    unpacked(small.png())


@pytest.mark.parametrize(
    "data",
    [
        b"", b"P5\n2 2\n255\n" + b"\0" * 12, b"P6\n2 2\n65535\n" + b"\0" * 24, b"P6\n2 2\n255\n" + b"\0" * 11,
        b"P6\n0 2\n255\n", b"P6\n99999 99999\n255\n", b"P6\n6145 1\n255\n", b"P6\n-1 2\n255\n", b"\0" * 4096,
        b"P6 2 999999999999999999999999 255\n",
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"picture|screen"):
        Picture.parse(data)
