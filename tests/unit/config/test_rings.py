"""Rings of measurements: averages, gaps, and a size that never grows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vms.models.metric import FRAMES, SLOTS, Ring, frame_of

HOUR, YEAR = frame_of("hour"), frame_of("year")
NOW = 1_800_000_000 - 1_800_000_000 % 60


def test_samples_of_a_slot_are_averaged_and_gaps_stay_gaps() -> None:
    ring = Ring(("cpu", "mem"))
    for second, cpu in ((0, 0.2), (10, 0.4), (50, 0.6)):
        ring.add(HOUR, NOW + second, {"cpu": cpu})
    ring.add(HOUR, NOW + 120, {"cpu": 1.0, "mem": 5.0})
    rows = {row["time"]: row for row in ring.rows(HOUR, NOW + 130)}
    assert rows[NOW] == {"time": NOW, "cpu": (0.2 + 0.4 + 0.6) / 3}
    assert rows[NOW + 60] == {"time": NOW + 60}
    assert rows[NOW + 120] == {"time": NOW + 120, "cpu": 1.0, "mem": 5.0}
    assert len(rows) == SLOTS


def test_what_is_older_than_the_ring_is_gone() -> None:
    ring = Ring(("cpu",))
    ring.add(HOUR, NOW, {"cpu": 1.0})
    later = NOW + SLOTS * HOUR.step
    assert all("cpu" not in row for row in ring.rows(HOUR, later))
    ring.add(HOUR, later, {"cpu": 0.5})
    assert ring.rows(HOUR, later)[-1]["cpu"] == 0.5


def test_frames_reach_as_far_as_their_names_say() -> None:
    spans = {"hour": 3600, "day": 86400, "week": 7 * 86400, "month": 31 * 86400, "year": 366 * 86400}
    assert {frame.name for frame in FRAMES} == spans.keys()
    assert all(frame.step * SLOTS >= spans[frame.name] for frame in FRAMES)


@given(st.binary(max_size=9000))
def test_rubbish_begins_empty(data: bytes) -> None:
    ring = Ring(("cpu",), data)
    assert len(bytes(ring)) == len(bytes(Ring(("cpu",))))


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 1e15)), max_size=50))
def test_the_size_never_changes_and_it_survives_its_bytes(samples: list[tuple[int, float]]) -> None:
    ring = Ring(("cpu", "mem"))
    size = len(bytes(ring))
    for moment, value in samples:
        ring.add(YEAR, moment, {"mem": value})
        ring = Ring(("cpu", "mem"), bytes(ring))
    assert len(bytes(ring)) == size


def test_a_ring_written_before_a_quantity_was_known_keeps_what_it_has() -> None:
    old = Ring(("cpu", "mem"))
    old.add(HOUR, NOW, {"cpu": 0.5, "mem": 7.0})
    new = Ring(("cpu", "mem", "diskread"), bytes(old))
    new.add(HOUR, NOW + 60, {"cpu": 0.1, "diskread": 3.0})
    *_, before, now = new.rows(HOUR, NOW + 60)
    assert before == {"time": NOW, "cpu": 0.5, "mem": 7.0}
    assert now == {"time": NOW + 60, "cpu": 0.1, "diskread": 3.0}
