"""Which backups stay, by PVE's published rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vms.config.retention import Copy, Decision, decide, parse
from vms.errors import ConfigErrors

NOON = datetime(2026, 11, 27, 12, 30, tzinfo=UTC)


def at(*words: str) -> list[Copy]:
    return [Copy(datetime.fromisoformat(word.rstrip("!")).replace(tzinfo=UTC), "!" in word) for word in words]


def kept(copies: list[Copy], keep: str) -> list[str]:
    """Who keeps each: the rule, or ``-``."""
    return [one.rule if one.kept else "-" for one in decide(copies, parse(keep), UTC)]


@pytest.mark.parametrize("text", ["", "keep-all=1", "keep-last=0", "keep-all=0,keep-daily=0"])
def test_nothing_asked_keeps_all(text: str) -> None:
    assert kept(at("2026-01-01", "2020-01-01", "2026-01-02!"), text) == ["keep-all", "keep-all", "protected"]


def test_the_last_ones() -> None:
    copies = at("2026-11-01", "2026-11-03", "2026-11-02")
    assert kept(copies, "keep-last=2") == ["-", "keep-last", "keep-last"]


def test_one_of_each_day_that_has_a_backup() -> None:
    copies = at("2026-11-27T22:00", "2026-11-27T02:00", "2026-11-20T02:00", "2026-11-20T01:00", "2026-11-01")
    assert kept(copies, "keep-daily=2") == ["keep-daily", "-", "keep-daily", "-", "-"]
    decisions = decide(copies, parse("keep-daily=2"), UTC)
    assert decisions[1] == Decision(False, "keep-daily", "2026-11-27")
    assert decisions[1].why == "keep-daily keeps a newer one of 2026-11-27"
    assert decisions[4].why == "no rule keeps it"
    assert decisions[2].why == "keep-daily, 2026-11-20"


def test_a_period_an_earlier_rule_has_kept_counts_for_nothing() -> None:
    copies = at("2026-11-27", "2026-11-26", "2026-11-25", "2026-11-24", "2026-11-13", "2026-11-06")
    assert kept(copies, "keep-last=1,keep-daily=2,keep-weekly=2") == [
        "keep-last", "keep-daily", "keep-daily", "-", "keep-weekly", "keep-weekly"
    ]  # fmt: skip


def test_weeks_are_iso_weeks_and_years_end_in_them() -> None:
    # 2027-01-03 is the Sunday of week 53 of 2026, 2027-01-04 the Monday of week 1.
    copies = at("2027-01-04", "2027-01-03", "2026-12-28", "2026-12-27")
    assert kept(copies, "keep-weekly=3") == ["keep-weekly", "keep-weekly", "-", "keep-weekly"]
    assert decide(copies, parse("keep-weekly=9"), UTC)[2].period == "week 53 of 2026"


def test_months_and_years() -> None:
    copies = at("2026-11-27", "2026-11-01", "2026-10-31", "2025-12-31", "2024-06-01", "2023-01-01")
    assert kept(copies, "keep-monthly=2,keep-yearly=2") == [
        "keep-monthly", "-", "keep-monthly", "keep-yearly", "keep-yearly", "-"
    ]  # fmt: skip


def test_protected_ones_are_neither_counted_nor_removed() -> None:
    copies = at("2026-11-27T10:00!", "2026-11-27T09:00", "2026-11-26!", "2026-11-25", "2026-11-24")
    assert kept(copies, "keep-last=1,keep-daily=1") == [
        "protected", "keep-last", "protected", "keep-daily", "-"
    ]  # fmt: skip


def test_days_are_those_of_a_zone() -> None:
    copies = at("2026-11-27T00:30", "2026-11-26T23:30")  # 19:30 and 18:30 of one day in New York
    assert [one.kept for one in decide(copies, parse("keep-daily=2"), UTC)] == [True, True]
    assert [one.kept for one in decide(copies, parse("keep-daily=2"), ZoneInfo("America/New_York"))] == [
        True,
        False,
    ]


def test_both_hours_of_the_night_the_clocks_go_back() -> None:
    copies = at("2026-10-25T01:30", "2026-10-25T00:30")  # 02:30 twice in Berlin
    assert all(one.kept for one in decide(copies, parse("keep-hourly=2"), ZoneInfo("Europe/Berlin")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("keep-last=-1", "below the smallest"), ("keep-last=x", "whole number"),
        ("keep-fortnightly=2", "not known"),
        ("keep-last", "has no name"), ("keep-all=1,keep-last=2", "leave the other rules out"),
        ("keep-last=1,keep-last=2", "given twice"), ("keep-last=1,,", "empty part"),
    ],
)  # fmt: skip
def test_bad_rules(text: str, words: str) -> None:
    with pytest.raises(Exception, match=words) as caught:
        parse(text)
    assert caught.value.key == "prune-backups"  # type: ignore[attr-defined]
    assert isinstance(caught.value, ConfigErrors) or "keep" in text


def test_text_round_trips() -> None:
    assert (
        parse("keep-monthly=6,keep-last=3,keep-daily=7").format() == "keep-daily=7,keep-last=3,keep-monthly=6"
    )


counts = st.integers(0, 4)
rules = st.fixed_dictionaries(
    {f"keep-{name}": counts for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly")}
)
copies_of = st.lists(
    st.builds(
        Copy, st.integers(0, 900 * 24).map(lambda hours: NOON - timedelta(hours=hours)), st.booleans()
    ),
    max_size=60,
)  # fmt: skip


@given(copies_of, rules)
def test_properties(copies: list[Copy], wanted: dict[str, int]) -> None:
    keep = parse(",".join(f"{name}={count}" for name, count in wanted.items()))
    found = decide(copies, keep, UTC)
    assert len(found) == len(copies)
    if keep.everything:
        assert all(one.kept for one in found)
        return
    for name, count in wanted.items():
        of_rule = [one for one in found if one.kept and one.rule == name]
        assert len(of_rule) <= count
        if name != "keep-last":
            assert len({one.period for one in of_rule}) == len(of_rule)
    assert all(one.kept for one, copy in zip(found, copies, strict=True) if copy.protected)
    free = [(copy.made, one) for copy, one in zip(copies, found, strict=True) if not copy.protected]
    if free:  # the newest is always kept by somebody
        newest = max(made for made, _ in free)
        assert any(one.kept for made, one in free if made == newest)


@given(copies_of, rules)
def test_pruning_twice_removes_nothing_more(copies: list[Copy], wanted: dict[str, int]) -> None:
    keep = parse(",".join(f"{name}={count}" for name, count in wanted.items()))
    left = [copy for copy, one in zip(copies, decide(copies, keep, UTC), strict=True) if one.kept]
    assert all(one.kept for one in decide(left, keep, UTC))
