"""Host steps that a cancellation must not cut in two."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar, cast

from vms.errors import VMError
from vms.operations.base import Context

T = TypeVar("T")


async def whole(work: Awaitable[T]) -> T:
    """Do ``work`` to its end; a cancellation goes on only afterwards.

    For steps that are short and cannot be stopped half way: a thread that renames a file, a QMP command.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        raise


async def undoable(
    ctx: Context, work: Awaitable[T], name: Callable[[T], str], undo: Callable[[T], Awaitable[None]]
) -> T:
    """Do ``work`` to its end and register its inverse, also when the task was cancelled meanwhile."""

    async def both() -> T:
        made = await work
        ctx.on_undo(name(made), lambda: undo(made))
        return made

    return await whole(both())


class Branch:
    """A part of a task that can be taken back while the rest of it stands. All else is the task's.

    Hand :attr:`ctx` to what does the part. It is taken back with the task, before what was done earlier.
    """

    def __init__(self, ctx: Context, name: str) -> None:
        self._task = ctx
        self._undo = AsyncExitStack()
        self._void = False
        ctx.on_undo(name, self.roll_back)

    @property
    def ctx(self) -> Context:
        """The branch as the context of an operation."""
        return cast("Context", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def on_undo(self, text: str, work: Callable[[], Awaitable[None]]) -> None:
        """Register the inverse of a host step just made."""
        self._undo.push_async_callback(self._take_back, text, work)

    def at_end(self, work: Callable[[], None]) -> None:
        """Do database work in the transaction that ends the task, unless this part was taken back."""
        self._task.at_end(lambda: None if self._void else work())

    def keep(self) -> None:
        """Forget the way back of this part."""
        self._undo = AsyncExitStack()

    async def roll_back(self) -> None:
        """Undo every step of this part, last first; a step that fails is said and the rest goes on."""
        self._void = True
        await self._undo.aclose()

    async def _take_back(self, text: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (VMError, OSError) as error:
            await self._task.warn(f"could not undo: {text}: {error}")
        else:
            await self._task.log(f"undone: {text}")
