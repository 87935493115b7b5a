"""The one place where tests wait: for a state, up to a deadline, never for a fixed time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
POLL = 0.02
"""Seconds between two looks."""


async def eventually(
    probe: Callable[[], T | Awaitable[T]], what: str, *, timeout: float = 30, poll: float = POLL
) -> T:
    """Call ``probe`` (plain or async) until it answers something true; return that.

    Fails the test with ``what`` and the last answer after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer  # type: ignore[return-value]
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout:g} s; last answer: {answer!r}")
        await asyncio.sleep(poll)


def eventually_sync(probe: Callable[[], T], what: str, *, timeout: float = 30, poll: float = POLL) -> T:
    """:func:`eventually` for tests without an event loop."""
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout:g} s; last answer: {answer!r}")
        time.sleep(poll)
