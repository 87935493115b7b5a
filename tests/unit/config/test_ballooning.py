"""The sharing of memory against the published vectors, and what must hold whatever the numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vms.config.ballooning import SLACK, Share, goal_of, round_of, settled

M = 10**6
STEP = 100 * M


def share(vmid: int, maximum: int, shares: int, balloon: int, minimum: int, free: int) -> Share:
    return Share(
        vmid=vmid, maximum=maximum * M, shares=shares, balloon=balloon * M, minimum=minimum * M, free=free * M
    )


A, B = share(1, 2000, 2000, 1000, 1000, 0), share(2, 2000, 1000, 1000, 1000, 0)
FULL = share(1, 2000, 2000, 2000, 2000, 0)
THREE = [FULL, share(2, 2000, 1000, 1007, 1000, 0), share(3, 2000, 1000, 1000, 1000, 512)]


@pytest.mark.parametrize(
    ("guests", "goal", "wanted"),
    [
        ([A, B], 0, {}),
        ([A, B], 90, {1: 1060, 2: 1030}),
        ([A, B], 150, {1: 1100, 2: 1050}),
        ([A, B], 270, {1: 1100, 2: 1090}),
        ([FULL, B], 18, {2: 1018}),
        ([FULL, B], 500, {2: 1100}),
        (THREE, 11, {2: 1018}),
        (THREE, 80, {2: 1087}),
        (THREE, 200, {2: 1107}),
    ],
)
def test_one_round(guests: list[Share], goal: int, wanted: dict[int, int]) -> None:
    assert round_of(guests, goal * M, STEP) == {vmid: size * M for vmid, size in wanted.items()}


@pytest.mark.parametrize(
    ("goal", "wanted"), [(180, (1120, 1060)), (270, (1180, 1090)), (600, (1300, 1300)), (900, (1600, 1300))]
)
def test_many_rounds_of_two(goal: int, wanted: tuple[int, int]) -> None:
    assert tuple(guest.balloon for guest in settled([A, B], goal * M, STEP)) == tuple(n * M for n in wanted)


def test_many_rounds_of_three_and_back() -> None:
    grown = settled(THREE, 593 * M, STEP)
    assert [guest.balloon // M for guest in grown] == [2000, 1300, 1300]
    for goal, wanted in ((-200, [2000, 1200, 1200]), (-400, [2000, 1200, 1000]), (-593, [2000, 1007, 1000])):
        assert [guest.balloon // M for guest in settled(grown, goal * M, STEP)] == wanted


GUESTS = st.lists(
    st.builds(
        lambda vmid, minimum, more, now, free, shares: Share(
            vmid=vmid,
            minimum=minimum,
            maximum=minimum + more,
            balloon=minimum + min(more, now),
            free=free,
            shares=shares,
        ),
        st.integers(1, 10**6),
        st.integers(0, 1 << 36),
        st.integers(0, 1 << 36),
        st.integers(0, 1 << 36),
        st.integers(0, 1 << 36),
        st.integers(0, 50000),
    ),
    max_size=6,
    unique_by=lambda guest: guest.vmid,
)


@given(GUESTS, st.integers(-(1 << 38), 1 << 38))
def test_nobody_leaves_their_bounds_or_moves_too_fast(guests: list[Share], goal: int) -> None:
    before = {guest.vmid: guest for guest in guests}
    for vmid, size in round_of(guests, goal).items():
        guest = before[vmid]
        assert guest.eligible
        assert guest.minimum <= size <= guest.maximum
        assert abs(size - guest.balloon) <= 100 << 20


def test_a_node_within_its_target_leaves_guests_alone() -> None:
    assert goal_of(100 << 30, 70 << 30) == 10 << 30
    assert goal_of(100 << 30, 85 << 30) == -(5 << 30)
    assert round_of([A, B], SLACK) == {}
