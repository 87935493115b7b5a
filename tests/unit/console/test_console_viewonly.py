"""The view-only filter against a client that says everything, in pieces of every size."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.viewonly import NotUnderstood, ViewOnly

HELLO = b"RFB 003.008\n\x01\x00"
PIXEL_FORMAT = b"\x00\x00\x00\x00" + bytes(range(16))
UPDATE = b"\x03\x01" + struct.pack(">4H", 0, 0, 800, 600)
DROPPED = {
    "key": b"\x04\x01\x00\x00\x00\x00\xff\x0d",
    "pointer": b"\x05\x01\x00\x10\x00\x10",
    "paste": b"\x06\x00\x00\x00\x00\x00\x00\x03abc",
    "extended paste": b"\x06\x00\x00\x00" + struct.pack(">i", -8) + bytes(8),
    "continuous updates": b"\x96\x01" + bytes(8),
    "fence": b"\xf8\x00\x00\x00\x00\x00\x00\x01\x04abcd",
    "power": b"\xfa\x00\x01\x03",
    "screen size": b"\xfb\x00" + struct.pack(">HHBB", 800, 600, 1, 0) + bytes(16),
    "extended key": b"\xff\x00\x00\x01" + bytes(8),
    "audio on": b"\xff\x01\x00\x00",
    "audio format": b"\xff\x01\x00\x02" + bytes(6),
}


def encodings(*codes: int) -> bytes:
    return struct.pack(f">BxH{len(codes)}i", 2, len(codes), *codes)


def in_pieces(data: bytes, size: int) -> bytes:
    watch = ViewOnly()
    return b"".join(watch.feed(data[start : start + size]) for start in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("dropped", DROPPED, ids=lambda word: word.replace(" ", "-"))
def test_input_is_dropped_and_pixels_pass(dropped: str, size: int) -> None:
    said = HELLO + PIXEL_FORMAT + DROPPED[dropped] * 2 + UPDATE + DROPPED[dropped] + UPDATE
    assert in_pieces(said, size) == b"RFB 003.008\n\x01\x01" + PIXEL_FORMAT + UPDATE + UPDATE


def test_a_watcher_is_always_a_shared_client() -> None:
    assert ViewOnly().feed(b"RFB 003.008\n\x01\x00") == b"RFB 003.008\n\x01\x01"
    assert ViewOnly().feed(b"RFB 003.003\n\x00") == b"RFB 003.003\n\x01", "3.3 has no security message"


def test_only_harmless_encodings_are_asked_for() -> None:
    watch = ViewOnly()
    watch.feed(HELLO)
    asked = encodings(7, 0, -26, -250, -223, -258, -259, -308, -312, -313, -316, 0x574D5664, -1063131698)
    assert watch.feed(asked) == encodings(7, 0, -26, -250, -223, 0x574D5664)


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n",
        HELLO[:12] + b"\x02",
        HELLO + b"\x77",
        HELLO + b"\xff\x09\0\0",
        HELLO + b"\x01",
    ],
)
def test_what_is_not_understood_ends_it(said: bytes) -> None:
    with pytest.raises(NotUnderstood):
        in_pieces(said, 5)


def test_a_long_paste_is_not_kept() -> None:
    watch = ViewOnly()
    watch.feed(HELLO + b"\x06\x00\x00\x00" + struct.pack(">i", 1 << 30))
    for _ in range(64):
        assert watch.feed(bytes(1 << 20)) == b""
    assert len(watch._buffer) == 0


@given(
    st.lists(st.sampled_from([PIXEL_FORMAT, UPDATE, encodings(0, 7), *DROPPED.values()]), max_size=20),
    st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_any_mixture_in_any_pieces(messages: list[bytes], cuts: list[int]) -> None:
    said, watch, passed, at, turn = HELLO + b"".join(messages), ViewOnly(), b"", 0, 0
    while at < len(said):
        size = cuts[turn % len(cuts)]
        passed += watch.feed(said[at : at + size])
        at, turn = at + size, turn + 1
    kept = [message for message in messages if message not in DROPPED.values()]
    assert passed == b"RFB 003.008\n\x01\x01" + b"".join(kept)
