"""Hints: the only sender on the channel layer.

A hint says *what changed*, never *to what*: whoever hears it asks again through an ordinary view. So a lost,
forged or doubled hint does no harm, and no state ever travels through Redis. Topics: ``vm-101`` (the VM's
row), ``tasks`` (the task log), ``task-7`` (one task), ``tree`` (which VMs exist), ``storage``, ``node``.

One background thread runs an event loop, so that any thread can send without waiting. Hints within
:data:`COALESCE` seconds travel together.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import Coroutine
from typing import Any

from channels.layers import get_channel_layer

log = logging.getLogger(__name__)

GROUP = "hints"
"""Every browser's consumer is in this one group and filters by what its user may see."""
COALESCE = 0.02
SEND_LIMIT = 2.0
FAREWELL = 1.0
"""Seconds that the last hints of a process may take when it ends."""


class Portal:
    """A daemon thread with an event loop of its own."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._topics: set[str] = set()
        self._silent = False

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, started at first use (after any fork)."""
        with self._lock:
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="notify", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            return self._loop

    def close(self) -> None:
        """Send what was said and end the thread.

        A daemon thread that still runs when the interpreter ends is cut off wherever it is: in compiled
        code that aborts the whole process, and ``qm`` would fail although its work was done.
        """
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or not thread.is_alive():
            return
        with contextlib.suppress(TimeoutError, RuntimeError, concurrent.futures.CancelledError):
            asyncio.run_coroutine_threadsafe(self._drain(), loop).result(FAREWELL)
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(loop.stop)
        thread.join(FAREWELL)

    async def _drain(self) -> None:
        """Wait for what is on its way."""
        self._flush()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=FAREWELL)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` in the background. Never raises, never waits."""
        asyncio.run_coroutine_threadsafe(self._guard(work), self.loop())

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await asyncio.wait_for(work, SEND_LIMIT)
        except Exception as error:
            # With the layer gone, polling alone still finishes every task and refreshes every page.
            level = logging.DEBUG if self._silent else logging.WARNING  # said once, not with every hint
            log.log(level, "hints are not sent: %s: %s", type(error).__name__, error)
            self._silent = True
        else:
            self._silent = False

    def changed(self, topics: tuple[str, ...]) -> None:
        self.loop().call_soon_threadsafe(self._add, topics)

    def _add(self, topics: tuple[str, ...]) -> None:
        first = not self._topics
        self._topics.update(topics)
        if first:
            asyncio.get_running_loop().call_later(COALESCE, self._flush)

    def _flush(self) -> None:
        topics, self._topics = sorted(self._topics), set()
        layer = get_channel_layer()
        if topics and layer is not None:
            message = {"type": "hint", "topics": topics}
            self._pending = asyncio.ensure_future(self._guard(layer.group_send(GROUP, message)))


_portal = Portal()


def changed(*topics: str) -> None:
    """Tell every open page that ``topics`` have changed. Call after commit."""
    if topics:
        _portal.changed(topics)


def ring(node: str) -> None:
    """Wake the worker of ``node``: a task row waits. Losing this costs two seconds, never a task."""
    layer = get_channel_layer()
    if layer is not None:
        _portal.start(layer.send(f"node.{node}", {"type": "bell"}))
