"""Calendar events: what is read, when it comes, and the nights on which clocks are moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vms.config.calendar import Event, next_run, next_runs, parse
from vms.errors import ConfigError

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 27, 12, 30, 20, tzinfo=UTC)  # a Friday


def walls(text: str, count: int = 3, after: datetime = NOW) -> list[str]:
    return [f"{one:%a %Y-%m-%d %H:%M}" for one in next_runs(parse(text), after, UTC, count)]


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("sat 02:00", ["Sat 2026-11-28 02:00", "Sat 2026-12-05 02:00"]),
        ("mon..fri 21:00", ["Fri 2026-11-27 21:00", "Mon 2026-11-30 21:00"]),
        ("*/2:00", ["Fri 2026-11-27 14:00", "Fri 2026-11-27 16:00"]),
        ("02:30", ["Sat 2026-11-28 02:30", "Sun 2026-11-29 02:30"]),
        ("*-*-01 03:00", ["Tue 2026-12-01 03:00", "Fri 2027-01-01 03:00"]),
        ("*-05", ["Sat 2026-12-05 00:00", "Tue 2027-01-05 00:00"]),
        ("mon,wed 0..23/2:15", ["Mon 2026-11-30 00:15", "Mon 2026-11-30 02:15"]),
        ("daily", ["Sat 2026-11-28 00:00", "Sun 2026-11-29 00:00"]),
        ("weekly", ["Mon 2026-11-30 00:00", "Mon 2026-12-07 00:00"]),
        ("monthly", ["Tue 2026-12-01 00:00", "Fri 2027-01-01 00:00"]),
        ("yearly", ["Fri 2027-01-01 00:00", "Sat 2028-01-01 00:00"]),
        ("quarterly", ["Fri 2027-01-01 00:00", "Thu 2027-04-01 00:00"]),
        ("hourly", ["Fri 2026-11-27 13:00", "Fri 2026-11-27 14:00"]),
        ("minutely", ["Fri 2026-11-27 12:31", "Fri 2026-11-27 12:32"]),
        ("*/5", ["Fri 2026-11-27 12:35", "Fri 2026-11-27 12:40"]),
        ("mon..wed 30/10", ["Mon 2026-11-30 00:30", "Mon 2026-11-30 00:40"]),
        ("mon..fri 8..17,22:0/15", ["Fri 2026-11-27 12:45", "Fri 2026-11-27 13:00"]),
        ("fri 12..13:5/20", ["Fri 2026-11-27 12:45", "Fri 2026-11-27 13:05"]),
        ("Sat *-1..7 15:00", ["Sat 2026-12-05 15:00", "Sat 2027-01-02 15:00"]),
        ("sat,sun", ["Sat 2026-11-28 00:00", "Sun 2026-11-29 00:00"]),
        ("fri..mon 01:00", ["Sat 2026-11-28 01:00", "Sun 2026-11-29 01:00"]),
        ("2027-10-21", ["Thu 2027-10-21 00:00"]),
        ("2026..2027-02-29", []),
        ("*-02-29 00:00:30", ["Tue 2028-02-29 00:00", "Sun 2032-02-29 00:00"]),
        ("mon *-02-29", ["Mon 2044-02-29 00:00", "Mon 2072-02-29 00:00"]),
        ("2015-10-21", []),
        ("12:30:25", ["Fri 2026-11-27 12:30", "Sat 2026-11-28 12:30"]),
    ],
)
def test_when_it_comes(text: str, runs: list[str]) -> None:
    assert walls(text, 2) == runs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"), ("   ", "is empty"), ("someday", "no weekday"), ("mon..", "no weekday"),
        ("24:00", "goes from 0 to 23"), ("12:60", "goes from 0 to 59"), ("*-13-01", "goes from 1 to 12"),
        ("*-*-32", "goes from 1 to 31"), ("12:5..1", "holds no minute"), ("12:0/0", "holds no minute"),
        ("1:2:3:4", "is no time"), ("*-*-*-*", "is no date"), ("12:00 mon", "left over"),
        ("12:*..5", "is no minute"),
        ("mon 1:00 x", "left over"), ("*:*:*", "more than once a minute"), ("02:3O", "is no minute"),
        ("9" * 129, "at most 128"), ("1:٣", "is no minute"), ("*-~1", "is no day"),
    ],
)  # fmt: skip
def test_what_is_no_event(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse(text)
    assert caught.value.key == "schedule"


def utc(*words: str) -> list[datetime]:
    return [datetime.fromisoformat(word).replace(tzinfo=UTC) for word in words]


def test_the_hour_that_is_left_out() -> None:
    """In Berlin 2027-03-28 goes from 01:59 to 03:00, which is 01:00 UTC."""
    before = datetime(2027, 3, 27, 12, tzinfo=UTC)
    assert next_runs(parse("02:30"), before, BERLIN, 2) == utc("2027-03-28T01:30", "2027-03-29T00:30")
    assert next_runs(parse("1..3:00"), before, BERLIN, 3) == utc(
        "2027-03-28T00:00", "2027-03-28T01:00", "2027-03-28T23:00"
    )
    hours = next_runs(parse("hourly"), datetime(2027, 3, 28, tzinfo=UTC), BERLIN, 3)
    assert hours == utc("2027-03-28T01:00", "2027-03-28T02:00", "2027-03-28T03:00")


def test_the_hour_that_comes_twice() -> None:
    """In Berlin 2026-10-25 has 02:00 to 02:59 twice, from 00:00 and from 01:00 UTC."""
    before = datetime(2026, 10, 24, 22, tzinfo=UTC)
    assert next_runs(parse("02:30"), before, BERLIN, 2) == utc("2026-10-25T00:30", "2026-10-26T01:30")
    assert next_runs(parse("*:30"), before, BERLIN, 4) == utc(
        "2026-10-24T22:30", "2026-10-24T23:30", "2026-10-25T00:30", "2026-10-25T01:30"
    )


moments = st.datetimes(datetime(2024, 1, 1), datetime(2029, 1, 1)).map(lambda one: one.replace(tzinfo=UTC))


def some(low: int, high: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(st.integers(low, high), min_size=1, max_size=6).map(lambda found: tuple(sorted(found)))


def text_of(event: Event) -> str:
    def listed(numbers: tuple[int, ...]) -> str:
        return ",".join(map(str, numbers))

    names = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    days = ",".join(names[number] for number in event.weekdays)
    return f"{days} {listed(event.months)}-{listed(event.days)} {listed(event.hours)}:{listed(event.minutes)}"


events = st.builds(
    Event, st.just(""), weekdays=some(0, 6), months=some(1, 12), days=some(1, 31), hours=some(0, 23),
    minutes=some(0, 59),
)  # fmt: skip


@given(events)
def test_text_reads_back(event: Event) -> None:
    text = text_of(event)
    if len(text) <= 128:
        assert parse(text) == Event(
            text, event.weekdays, (), event.months, event.days, event.hours, event.minutes
        )


@given(events, moments)
@example(Event("", hours=(2,), minutes=(30,)), datetime(2027, 3, 27, 12, tzinfo=UTC))
def test_times_fit_their_event_and_rise(event: Event, after: datetime) -> None:
    last = after
    for run in next_runs(event, after, BERLIN, 5):
        assert run > last
        wall = run.astimezone(BERLIN)
        if wall.utcoffset() == (wall - timedelta(hours=1)).utcoffset():  # no clock was moved just now
            assert (wall.weekday() in event.weekdays, wall.month in event.months, wall.day in event.days) == (
                True, True, True
            )  # fmt: skip
            assert (wall.hour in event.hours, wall.minute in event.minutes) == (True, True)
        last = run


@given(some(0, 23), some(0, 59), moments)
def test_nothing_is_passed_over(hours: tuple[int, ...], minutes: tuple[int, ...], after: datetime) -> None:
    """Against looking at every minute of a day, in a zone without such nights."""
    event = Event("", hours=hours, minutes=minutes)
    start = after.replace(second=0, microsecond=0) + timedelta(minutes=1)
    looked = (start + timedelta(minutes=number) for number in range(24 * 60 + 1))
    assert next_run(event, after, UTC) == next(
        one for one in looked if one.hour in hours and one.minute in minutes
    )


@given(st.text(max_size=140))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        event = parse(text)
    except ConfigError:
        return
    next_run(event, NOW, BERLIN)
