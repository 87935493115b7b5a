"""What an operation works with while it runs: its rows, its log, its way back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, ParamSpec, TypeVar

from vms.errors import StateError, VMError
from vms.models import VM, Task, TaskLogLine
from vms.operations.base import NodeServices
from vms.tasks import queue
from vms.worker import faults
from vms.worker.database import Database

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger(__name__)

BREATH = 0.05
"""Seconds that lines wait for company: a short task writes them together with its end."""


class TaskContext:
    """One running task. The class :class:`vms.operations.base.Context` describes it for operations."""

    def __init__(
        self, task: Task, vm: VM | None, user: Any, params: Any, services: NodeServices, database: Database
    ) -> None:
        self.task = task
        self._vm = vm
        self.user = user
        self.params = params
        self.services = services
        self.warnings = 0
        self._database = database
        self._undo = AsyncExitStack()
        self._last: list[Callable[[], None]] = []
        self._lines: list[queue.Line] = []
        self._writer: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    @property
    def vm(self) -> VM:
        """The VM's row. Raises :class:`StateError` for a task about the node, or when the VM is gone."""
        if self._vm is None:
            raise StateError("The VM no longer exists.")
        return self._vm

    @property
    def monitor(self) -> Any:
        """The VM's QMP monitor. Raises :class:`StateError` when it is not running."""
        guest = self.services.guest(self.vm.vmid)
        if guest is None:
            raise StateError(f"VM {self.vm.vmid} is not running.")
        return guest.monitor

    async def db(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run database work off the event loop."""
        return await self._database(work, *args, **kwargs)

    async def log(self, text: str) -> None:
        """Add a line to the task's log. Written behind: no operation waits for the disk to say a word."""
        self._say(queue.Line(text))

    async def warn(self, text: str) -> None:
        """Add a warning; the task then ends as ``warnings``."""
        self.warnings += 1
        self._say(queue.Line(text, TaskLogLine.Level.WARNING))

    async def progress(self, fraction: float | None, text: str = "") -> None:
        """Say how far it is, 0 to 1."""
        await self.db(queue.set_progress, self.task, fraction, text)

    def _say(self, line: queue.Line) -> None:
        self._lines.append(line)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name=f"log-{self.task.pk}")

    async def _write(self) -> None:
        while self._lines:
            await asyncio.sleep(BREATH)
            async with self._writing:
                lines, self._lines = self._lines, []
                if lines:
                    await self._database(queue.write, self.task, *lines)

    async def rest(self) -> list[queue.Line]:
        """The lines not stored yet; what was being stored is, by then. Nothing may be said after this."""
        async with self._writing:
            lines, self._lines = self._lines, []
        if self._writer is not None:
            self._writer.cancel()
        return lines

    def at_end(self, work: Callable[[], None]) -> None:
        """Do database work in the transaction that ends the task well. Dropped by a roll-back."""
        self._last.append(work)

    def last_work(self) -> list[Callable[[], None]]:
        """What :meth:`at_end` was given."""
        return list(self._last)

    def step(self, name: str) -> None:
        """The border between two host steps, by name: where a fault test kills the worker."""
        faults.reached(self.task.type, name)

    # ---- the way back

    def on_undo(self, text: str, work: Callable[[], Awaitable[None]]) -> None:
        """Register the inverse of a host step just made."""
        self._undo.push_async_callback(self._take_back, text, work)

    def keep(self) -> None:
        """Forget the way back: what was done so far stands."""
        self._undo = AsyncExitStack()

    async def roll_back(self) -> None:
        """Undo every registered step, last first; a step that fails is said and the rest goes on."""
        self._last.clear()
        await self._undo.aclose()

    async def _take_back(self, text: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (VMError, OSError) as error:
            log.warning("undo failed in task %s: %s: %s", self.task.pk, text, error)
            await self.warn(f"could not undo: {text}: {error}")
        else:
            await self.log(f"undone: {text}")
