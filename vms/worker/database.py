"""Database work off the event loop, on threads whose connections stay open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from django.db import InterfaceError, OperationalError, connection

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 4
"""One would do for SQLite's single writer; more keep a storage scan from delaying a guest's event."""


def _reconnecting(work: Callable[[], T]) -> T:
    """Run ``work``; after a broken connection the next call gets a new one."""
    try:
        return work()
    except (OperationalError, InterfaceError):
        connection.close()
        raise


class Database:
    """Call it with a function and its arguments; it runs on one of our threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="db")

    async def __call__(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The answer of ``work``.

        When the caller is cancelled, the cancellation goes on only after ``work`` has ended: a thread cannot
        be stopped, and an undo step must not race with the writing it undoes.
        """
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, _reconnecting, partial(work, *args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not future.done():
                await asyncio.wait([future])
            raise

    def close(self) -> None:
        """End the threads and their connections."""
        for _ in range(THREADS):
            self._threads.submit(connection.close)
        self._threads.shutdown()
