"""When something is to happen again and again: calendar events as Proxmox VE takes them. Pure.

``[WEEKDAY] [[YEAR-]MONTH-DAY] [[HOUR:]MINUTE[:SECOND]]``, of which at least one is there: ``sat 02:00``,
``mon..fri 21:00``, ``*/2:00`` (every two hours), ``*-*-01 03:00``, ``8..17,22:0/15``, ``*/5`` (a time
without a colon is minutes). Each number may be a list, a range ``1..5``, a start with a step ``0/15``, or
``*``. Without a time it is 00:00, a weekday and a date both have to fit; ``daily``, ``weekly`` and their like
are names of such events.

Times are those of a zone's wall clocks. What falls into the hour that is left out in spring comes as much
later; what falls into the hour that comes twice in autumn comes once, the first time, unless it comes every
hour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import islice

from vms.errors import ConfigError
from vms.schema.option import shown

KEY = "schedule"
LONGEST = 128
"""Characters of an event."""
HORIZON = 60
"""Years in which a time is looked for: a 29 February on a given weekday comes within 40."""

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NAMES = {
    "minutely": "*:*", "hourly": "*:00", "daily": "00:00", "weekly": "mon 00:00", "monthly": "*-01 00:00",
    "yearly": "01-01 00:00", "annually": "01-01 00:00", "quarterly": "01,04,07,10-01 00:00",
    "semiannually": "01,07-01 00:00", "semi-annually": "01,07-01 00:00",
}  # fmt: skip
_FIRST_YEAR, _LAST_YEAR = 1970, 2199
_PIECE = re.compile(r"(\*|[0-9]{1,4})(?:\.\.([0-9]{1,4}))?(?:/([0-9]{1,4}))?")
_FULL = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True)
class Event:
    """A calendar event as sorted numbers. ``weekdays``: 0 is Monday. ``years`` empty: every year."""

    text: str
    weekdays: tuple[int, ...] = tuple(range(7))
    years: tuple[int, ...] = ()
    months: tuple[int, ...] = tuple(range(1, 13))
    days: tuple[int, ...] = tuple(range(1, 32))
    hours: tuple[int, ...] = (0,)
    minutes: tuple[int, ...] = (0,)
    second: int = 0

    @property
    def hourly(self) -> bool:
        """Whether it comes in every hour of its days."""
        return len(self.hours) == 24


def parse(text: str, key: str = KEY) -> Event:
    """Read an event. Raises :class:`ConfigError` on ``key`` that says what is wrong and shows a right one."""
    plain = " ".join(text.split()).lower()
    if not plain:
        raise ConfigError(key, "is empty; write for example 'sat 02:00' or 'mon..fri 21:00'")
    if len(text) > LONGEST:
        raise ConfigError(key, f"has {len(text)} characters, at most {LONGEST} are allowed")
    words = NAMES.get(plain, plain).split(" ")
    found: dict[str, tuple[int, ...]] = {}
    second = 0
    if words and words[0][0].isalpha():
        found["weekdays"] = _weekdays(words.pop(0), key)
    if words and "-" in words[0]:
        found |= _date(words.pop(0), key)
    if words:
        time, second = _time(words.pop(0), key)
        found |= time
    if words:
        raise ConfigError(
            key, f"'{shown(words[0])}' is left over; write WEEKDAY DATE TIME, as in 'sat 02:00'"
        )
    return Event(plain, second=second, **found)


def next_run(event: Event, after: datetime, zone: tzinfo) -> datetime | None:
    """The first time after ``after`` (aware), in UTC; ``None`` when there is none for decades."""
    return next(upcoming(event, after, zone), None)


def next_runs(event: Event, after: datetime, zone: tzinfo, count: int) -> list[datetime]:
    """The next ``count`` times after ``after``, fewer when there are no more."""
    return list(islice(upcoming(event, after, zone), count))


def upcoming(event: Event, after: datetime, zone: tzinfo) -> Iterator[datetime]:
    """All times after ``after``, in order, without end where the event has none."""
    here = after.astimezone(zone)
    # A time in the hour that is left out lands on the same day but may come from the day before's end.
    last = after
    for day in _dates(event, here.date() - timedelta(days=1)):
        for moment in _moments(event, day, zone):
            if moment > last:
                last = moment
                yield moment


def _dates(event: Event, start: date) -> Iterator[date]:
    for year in range(start.year, min(start.year + HORIZON, _LAST_YEAR) + 1):
        if event.years and year not in event.years:
            continue
        for month in event.months:
            if (year, month) < (start.year, start.month):
                continue
            for number in event.days:
                try:
                    day = date(year, month, number)
                except ValueError:
                    break  # days are sorted: the month has no later ones either
                if day >= start and day.weekday() in event.weekdays:
                    yield day


def _moments(event: Event, day: date, zone: tzinfo) -> list[datetime]:
    """The event's times on one day of the zone, as UTC, sorted, none twice."""
    found = set()
    for hour in event.hours:
        for minute in event.minutes:
            wall = datetime(day.year, day.month, day.day, hour, minute, event.second, tzinfo=zone)
            found.add(wall.astimezone(UTC))
            if event.hourly and (second := wall.replace(fold=1)).utcoffset() != wall.utcoffset():
                later = second.astimezone(UTC)
                if later.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None):
                    found.add(later)  # an hour that comes twice, not one that is left out
    return sorted(found)


# ---- reading


def _weekdays(text: str, key: str) -> tuple[int, ...]:
    found: set[int] = set()
    for piece in text.split(","):
        first, dots, last = piece.partition("..")
        start = _weekday(first, key)
        end = _weekday(last, key) if dots else start
        found |= {number % 7 for number in range(start, end + (1 if end >= start else 8))}
    return tuple(sorted(found))


def _weekday(word: str, key: str) -> int:
    for names in (DAYS, _FULL):
        if word in names:
            return names.index(word)
    raise ConfigError(key, f"'{shown(word)}' is no weekday; write {', '.join(DAYS)}, or a name such as daily")


def _date(text: str, key: str) -> dict[str, tuple[int, ...]]:
    parts = text.split("-")
    if len(parts) > 3:
        raise ConfigError(key, f"'{shown(text)}' is no date; write YEAR-MONTH-DAY, as in *-*-01")
    found = {"days": _numbers(parts[-1], 1, 31, "day", key)}
    if len(parts) >= 2:
        found["months"] = _numbers(parts[-2], 1, 12, "month", key)
    if len(parts) == 3 and parts[0] != "*":
        found["years"] = _numbers(parts[0], _FIRST_YEAR, _LAST_YEAR, "year", key)
    return found


def _time(text: str, key: str) -> tuple[dict[str, tuple[int, ...]], int]:
    parts = text.split(":")
    if len(parts) > 3:
        raise ConfigError(key, f"'{shown(text)}' is no time; write HOUR:MINUTE, as in 02:30")
    if len(parts) == 1:
        return {"hours": tuple(range(24)), "minutes": _numbers(text, 0, 59, "minute", key)}, 0
    seconds = _numbers(parts[2], 0, 59, "second", key) if len(parts) == 3 else (0,)
    if len(seconds) != 1:
        raise ConfigError(key, "comes more than once a minute; write one second or none")
    hours = _numbers(parts[0], 0, 23, "hour", key)
    return {"hours": hours, "minutes": _numbers(parts[1], 0, 59, "minute", key)}, seconds[0]


def _numbers(text: str, low: int, high: int, what: str, key: str) -> tuple[int, ...]:
    """``1,3..5,0/15,*`` as sorted numbers from ``low`` to ``high``."""
    found: set[int] = set()
    for piece in text.split(","):
        match = _PIECE.fullmatch(piece)
        if match is None or (match[1] == "*" and match[2]):
            raise ConfigError(key, f"'{shown(piece)}' is no {what}; write a number, 1..5, 0/15 or *")
        start = low if match[1] == "*" else int(match[1])
        end = int(match[2]) if match[2] else (high if match[1] == "*" or match[3] else start)
        step = int(match[3]) if match[3] else 1
        if not low <= start <= high or not low <= end <= high:
            raise ConfigError(key, f"'{shown(piece)}' is no {what}; it goes from {low} to {high}")
        if end < start or step < 1:
            raise ConfigError(key, f"'{shown(piece)}' holds no {what}")
        found |= set(range(start, end + 1, step))
    return tuple(sorted(found))
