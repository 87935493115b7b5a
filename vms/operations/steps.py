"""Host steps that a cancellation must not cut in two."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

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
