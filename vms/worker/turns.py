"""One task at a time on each VM, in the order they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


class Turns:
    """A queue per VM row. ``None`` (a task about the node) never waits."""

    def __init__(self) -> None:
        self._locks: dict[int, asyncio.Lock] = {}
        self._lines: dict[int, list[int]] = {}

    @asynccontextmanager
    async def turn(
        self, vm_id: int | None, pk: int, waits: Callable[[int], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """Hold the VM for task ``pk``. ``waits`` is called with the holding task's number before a wait."""
        if vm_id is None:
            yield
            return
        lock = self._locks.setdefault(vm_id, asyncio.Lock())
        line = self._lines.setdefault(vm_id, [])
        line.append(pk)
        try:
            if lock.locked():
                await waits(line[0])
            async with lock:
                yield
        finally:
            line.remove(pk)
            if not line:
                del self._lines[vm_id], self._locks[vm_id]

    def waiting(self, vm_id: int | None) -> list[int]:
        """The tasks on that VM: the holder first, then those that wait."""
        return [] if vm_id is None else list(self._lines.get(vm_id, ()))
