"""Waiting for another task's end, for tasks that consist of others."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from vms.models import Task
from vms.worker.database import Database

RECHECK = 1.0
"""Seconds between two looks at the row: one that is cancelled while it waits ends without the runner."""


class Ends:
    """Tells who waits that the runner has ended a row."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._next = asyncio.Event()

    def ring(self) -> None:
        """Some row has come to its end: whoever waits looks again."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, pk: int) -> Task:
        """The row of task ``pk`` once it has ended."""
        while True:
            rung = self._next
            row = await self._db(Task.objects.get, pk=pk)
            if row.finished:
                return row
            with suppress(TimeoutError):
                await asyncio.wait_for(rung.wait(), RECHECK)
