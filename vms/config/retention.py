"""Which backups stay: PVE's ``prune-backups``, ``keep-last=3,keep-daily=7,keep-monthly=6``. Pure.

The rules take their turn in a fixed order, each from the newest backup to the oldest. A rule of a period (an
hour, a day, an ISO week, a month, a year) keeps the newest backup of each of its N newest periods. Only
periods count that have a backup, and a period in which an earlier rule has kept one is passed over and counts
for nothing. Protected backups stay whatever the rules say, and no rule counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from vms.errors import ConfigError, ConfigErrors
from vms.schema.option import opt, options_of
from vms.schema.propstring import PropertyString

KEY = "prune-backups"
MOST = 100_000


def _count(label: str, key: str, help: str) -> int | None:
    made: int | None = opt(label, key=key, minimum=0, maximum=MOST, help=help)
    return made


@dataclass(frozen=True, kw_only=True)
class Keep(PropertyString):
    """How many backups of each kind stay. Nothing given: all."""

    keep_all: bool | None = opt("Keep all", key="keep-all", help="Nothing is ever removed.")
    keep_last: int | None = _count("Keep last", "keep-last", "The newest backups, whenever they were made.")
    keep_hourly: int | None = _count(
        "Keep hourly", "keep-hourly", "The newest backup of an hour, so many hours."
    )
    keep_daily: int | None = _count("Keep daily", "keep-daily", "The newest backup of a day, so many days.")
    keep_weekly: int | None = _count(
        "Keep weekly", "keep-weekly", "The newest backup of a week, Monday to Sunday, so many weeks."
    )
    keep_monthly: int | None = _count(
        "Keep monthly", "keep-monthly", "The newest backup of a month, so many months."
    )
    keep_yearly: int | None = _count(
        "Keep yearly", "keep-yearly", "The newest backup of a year, so many years."
    )

    def check_parts(self, key: str) -> None:
        """``keep-all`` stands alone. Raises :class:`ConfigErrors`."""
        if self.keep_all and any(self.counts().values()):
            raise ConfigErrors([ConfigError(key, "keep-all keeps everything, leave the other rules out")])

    def counts(self) -> dict[str, int]:
        """Rule → how many it keeps, in the order of their turns; without those that keep none."""
        pairs = ((o.name, getattr(self, o.attr)) for o in options_of(Keep) if o.name != "keep-all")
        return {name: count for name, count in pairs if count}

    @property
    def everything(self) -> bool:
        """Whether nothing is ever removed: said so, or no rule that keeps anything."""
        return bool(self.keep_all) or not self.counts()


def parse(text: str, key: str = KEY) -> Keep:
    """Read ``prune-backups``. Empty text keeps all. Raises :class:`ConfigErrors` on ``key``."""
    return Keep.parse(text, key) if text.strip() else Keep()


def canonical(text: str) -> str:
    """The rules in their canonical text. Raises :class:`ValueError` with a sentence."""
    try:
        return parse(text).format()
    except ConfigError as error:
        raise ValueError(f"{error.part}: {error.text}" if error.part else error.text) from None


@dataclass(frozen=True)
class Copy:
    """A backup of one VM, as far as retention looks at it. ``made`` is aware."""

    made: datetime
    protected: bool = False


@dataclass(frozen=True)
class Decision:
    """Whether a backup stays.

    ``rule`` is who keeps it (``keep-daily``, ``keep-all``, ``protected``), or for one that goes the rule that
    keeps a newer one of the same period; empty when no rule reaches it. ``period`` names the day, week… in
    words.
    """

    kept: bool
    rule: str = ""
    period: str = ""

    @property
    def why(self) -> str:
        """The reason as half a sentence."""
        if self.kept:
            if self.rule == "protected":
                return "protected"
            return f"{self.rule}, {self.period}" if self.period else self.rule
        if self.rule:
            return f"{self.rule} keeps a newer one of {self.period}"
        return "no rule keeps it"


def decide(copies: Sequence[Copy], keep: Keep, zone: tzinfo) -> list[Decision]:
    """For each backup of one VM whether it stays, in the order given. ``zone``: whose days count."""
    if keep.everything:
        return [Decision(True, "protected" if copy.protected else "keep-all") for copy in copies]
    found = {number: Decision(True, "protected") for number, copy in enumerate(copies) if copy.protected}
    free = [number for number in range(len(copies)) if number not in found]
    free.sort(key=lambda number: copies[number].made, reverse=True)
    for rule, count in keep.counts().items():
        if rule == "keep-last":
            found |= {number: Decision(True, rule) for number in free[:count]}
        else:
            moments = [(number, copies[number].made.astimezone(zone)) for number in free]
            _by_period(found, moments, rule, count)
    return [found.get(number, Decision(False)) for number in range(len(copies))]


def _by_period(
    found: dict[int, Decision], newest_first: Sequence[tuple[int, datetime]], rule: str, count: int
) -> None:
    """One rule's turn: what it keeps, and what it leaves to go, is added to ``found``."""
    period = _PERIODS[rule]
    covered = {period(made) for number, made in newest_first if number in found and found[number].kept}
    chosen: set[str] = set()
    for number, made in newest_first:
        name = period(made)
        if number in found or name in covered:
            continue
        if name in chosen:
            found[number] = Decision(False, rule, name)
        elif len(chosen) < count:
            chosen.add(name)
            found[number] = Decision(True, rule, name)
        else:
            return


def _week(made: datetime) -> str:
    year, week, _ = made.isocalendar()
    return f"week {week} of {year}"


_PERIODS: dict[str, Callable[[datetime], str]] = {
    "keep-hourly": lambda made: f"{made:%Y-%m-%d %H}:00 {made:%z}",
    "keep-daily": lambda made: f"{made:%Y-%m-%d}",
    "keep-weekly": _week,
    "keep-monthly": lambda made: f"{made:%Y-%m}",
    "keep-yearly": lambda made: f"{made:%Y}",
}
"""The period a moment lies in, in words; two moments of one period have the same."""
