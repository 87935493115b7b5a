"""Who works on a VM and who waits: in the order they came, and side by side where that does no harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

Waits = Callable[[int], Awaitable[None]]
"""Called with the number of the task that stands in the way, before a wait."""


class Mode(Enum):
    """What a task does to a VM.

    ``CHANGE`` goes alone; ``BESIDE`` (cutting the power, pausing) goes alone among the others, yet does not
    wait for those who only ``READ`` (a clone's source).
    """

    CHANGE = "change"
    BESIDE = "beside"
    READ = "read"

    def goes_with(self, other: Mode) -> bool:
        """Whether both may work on the VM at the same time."""
        pair = {self, other}
        return pair == {Mode.READ} or pair == {Mode.READ, Mode.BESIDE}


@dataclass(eq=False)
class _Place:
    """A task's place in the line of one VM."""

    pk: int
    mode: Mode
    free: asyncio.Event = field(default_factory=asyncio.Event)


class Turns:
    """A line per VM row. A task about the node (no row) never waits."""

    def __init__(self) -> None:
        self._lines: dict[int, list[_Place]] = {}

    @asynccontextmanager
    async def turn(self, wanted: Iterable[tuple[int, Mode]], pk: int, waits: Waits) -> AsyncIterator[None]:
        """Hold the ``wanted`` rows for task ``pk``."""
        async with AsyncExitStack() as held:
            # Always in the same order: two tasks that want the same two rows cannot wait for each other.
            for row, mode in sorted(wanted, key=lambda pair: pair[0]):
                await held.enter_async_context(self._place(row, _Place(pk, mode), waits))
            yield

    @asynccontextmanager
    async def _place(self, row: int, place: _Place, waits: Waits) -> AsyncIterator[None]:
        line = self._lines.setdefault(row, [])
        line.append(place)
        self._wake(line)
        try:
            if not place.free.is_set():
                await waits(next(other.pk for other in line if not place.mode.goes_with(other.mode)))
                await place.free.wait()
            yield
        finally:
            line.remove(place)
            self._wake(line)
            if not line:
                del self._lines[row]

    @staticmethod
    def _wake(line: list[_Place]) -> None:
        """Free everybody who gets along with all who came before."""
        for number, place in enumerate(line):
            if all(place.mode.goes_with(before.mode) for before in line[:number]):
                place.free.set()

    def waiting(self, row: int | None) -> list[int]:
        """The tasks on that VM: those who hold it first, then those that wait."""
        return [] if row is None else [place.pk for place in self._lines.get(row, ())]
