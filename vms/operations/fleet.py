"""Bulk start and bulk shutdown: all guests of a node, or some, in their order.

Each guest gets a task of its own; the bulk task submits them in turn, waits as their start order says and
tells how each ended. One guest's failure keeps no other from its turn.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from vms import access
from vms.errors import VMError
from vms.models import VM, Node, Task
from vms.operations.base import Context, NodeOperation, Params, operation, submit
from vms.operations.order import DOWN_TIMEOUT, Turn, guests_of, starting, stopping, workers
from vms.schema.option import opt, shown
from vms.tasks import queue
from vms.tasks.queue import UNFINISHED

START_GRACE = 60
"""Seconds a bulk shutdown waits for guests that are just starting, so as not to miss them."""


def vm_list(text: str) -> str:
    """VM IDs separated by commas, blanks or semicolons."""
    words = text.replace(";", " ").replace(",", " ").split()
    if not words:
        raise ValueError("names no VM; write numbers like 100,101")
    for word in words:
        if not (word.isascii() and word.isdigit() and len(word) <= 9):
            raise ValueError(f"'{shown(word)}' is no VM ID; write numbers like 100,101")
    return ",".join(words)


@dataclass(frozen=True, kw_only=True)
class StartAllParams(Params):
    """What Bulk start can be told."""

    vms: str | None = opt(
        "VMs", check=vm_list, max_length=8000,
        help="Only these guests, by VM ID, such as 100,101. All of the node without it.",
    )  # fmt: skip
    force: bool | None = opt(
        "Force", default=False, help="Also start guests whose option 'Start at boot' is off."
    )
    max_workers: int | None = opt(
        "Side by side", key="max-workers", minimum=1, maximum=64,
        help="How many guests of one order number start at the same time; one less than the node's threads, "
        "at most 8, without it.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StopAllParams(Params):
    """What Bulk shutdown can be told."""

    vms: str | None = opt(
        "VMs", check=vm_list, max_length=8000,
        help="Only these guests, by VM ID, such as 100,101. All that run on the node without it.",
    )  # fmt: skip
    force_stop: bool | None = opt(
        "Stop it then", key="force-stop", default=True,
        help="Cut the power of a guest that did not shut down in time.",
    )  # fmt: skip
    timeout: int | None = opt(
        "Timeout", default=DOWN_TIMEOUT, minimum=0, maximum=7200, unit="s",
        help="How long each guest may take, unless its own start order says otherwise (down).",
    )  # fmt: skip
    max_workers: int | None = opt(
        "Side by side", key="max-workers", minimum=1, maximum=64,
        help="How many guests of one order number shut down at the same time; one less than the node's "
        "threads, at most 8, without it.",
    )  # fmt: skip


def chosen(params: Any) -> list[int] | None:
    """The VM IDs the parameters name; None: all."""
    return None if params.vms is None else [int(word) for word in params.vms.split(",")]


class Fleet(NodeOperation):
    """What both directions share."""

    child = ""
    """The type of the task each guest gets."""
    doing = ""

    def authorise_on(self, user: Any, node: Node, params: Any) -> None:
        """``VM.PowerMgmt`` on ``/``, or on every VM that is named (PVE)."""
        named = chosen(params)
        if named is None:
            access.require(user, self.privilege, "/")
            return
        vms = {vm.vmid: vm for vm in VM.objects.select_related("pool").filter(vmid__in=named)}
        for vmid in named:
            if vmid in vms:
                access.require_vm(user, self.privilege, vms[vmid])
            else:
                access.require(user, self.privilege, f"/vms/{vmid}")

    def subject(self, params: Any) -> str:
        named = chosen(params)
        return "" if named is None else f"of {len(named)} VM{'s' if len(named) != 1 else ''}"

    def groups(self, node: Node, params: Any) -> list[list[Turn]]:
        """The guests whose turn it is, in their groups (database work)."""
        return starting(guests_of(node, chosen(params)))

    def child_params(self, turn: Turn, params: Any) -> dict[str, str]:
        """What a guest's own task is told."""
        return {}

    async def pause(self, ctx: Context, turn: Turn) -> None:
        """Wait between this guest's launch and the next one's."""

    async def run(self, ctx: Context) -> None:
        groups = await ctx.db(self.groups, ctx.services.node, ctx.params)
        total, gone = sum(map(len, groups)), 0
        if not total:
            await ctx.log("there is no guest to act on")
        places = asyncio.Semaphore(ctx.params.max_workers or workers(ctx.services.facts.threads))
        for group in groups:
            async with asyncio.TaskGroup() as ends:
                for turn in group:
                    await places.acquire()
                    gone += 1
                    await ctx.progress((gone - 1) / total, f"{self.doing} {turn.vm} ({gone} of {total})")
                    task = await self._ask(ctx, turn)
                    if task is None:
                        places.release()
                        continue
                    ends.create_task(self._follow(ctx, turn, task, places))
                    if gone < total:
                        await self.pause(ctx, turn)

    async def _ask(self, ctx: Context, turn: Turn) -> Task | None:
        """The guest's own task; one that is under way already will do. None when it is refused."""

        def ask() -> Task:
            under_way = Task.objects.filter(vm=turn.vm, type=self.child, status__in=UNFINISHED).first()
            params = self.child_params(turn, ctx.params)
            return under_way or submit(self.child, vm=turn.vm, user=ctx.user, params=params)

        try:
            task = await ctx.db(ask)
        except VMError as error:
            await ctx.warn(f"{turn.vm}: {error}")
            return None
        await ctx.log(f"{self.doing} {turn.vm}: task {task.upid}")
        return task

    async def _follow(self, ctx: Context, turn: Turn, task: Task, places: asyncio.Semaphore) -> None:
        try:
            ended = await ctx.services.ended(task.pk)
        finally:
            places.release()
        if ended.status not in (Task.Status.OK, Task.Status.WARNINGS):
            await ctx.warn(f"{turn.vm}: {ended.message or ended.get_status_display()}")

    async def resume(self, ctx: Context) -> None:
        """Go on: guests that had their turn are as they should be and are passed over."""
        await ctx.log("the worker was restarted; going on with the guests that are left")
        await self.run(ctx)


@operation("startall", privilege="VM.PowerMgmt", label="Bulk start", params=StartAllParams)
class StartAll(Fleet):
    """Start the node's guests in their order, as when it has booted."""

    child = "qmstart"
    doing = "starting"

    def groups(self, node: Node, params: Any) -> list[list[Turn]]:
        wanted = starting(vm for vm in guests_of(node, chosen(params)) if not vm.running)
        groups = [[turn for turn in group if turn.onboot or params.force] for group in wanted]
        return [group for group in groups if group]

    async def pause(self, ctx: Context, turn: Turn) -> None:
        if turn.up is not None:
            await ctx.log(f"Waiting for {turn.up} seconds (startup delay)")
        await asyncio.sleep(turn.delay)

    async def run(self, ctx: Context) -> None:
        for vm in await ctx.db(unlock, ctx.services.node):
            await ctx.log(f"{vm}: removed a left-over lock (backup)")
        await super().run(ctx)


@operation("stopall", privilege="VM.PowerMgmt", label="Bulk shutdown", params=StopAllParams)
class StopAll(Fleet):
    """Shut the node's guests down in reverse order, as when it is about to go down."""

    child = "qmshutdown"
    doing = "shutting down"

    def groups(self, node: Node, params: Any) -> list[list[Turn]]:
        return stopping(vm for vm in guests_of(node, chosen(params)) if vm.running)

    def child_params(self, turn: Turn, params: Any) -> dict[str, str]:
        otherwise = DOWN_TIMEOUT if params.timeout is None else params.timeout
        force = params.force_stop is not False
        return {"timeout": str(turn.timeout(otherwise)), "forceStop": str(int(force))}

    async def run(self, ctx: Context) -> None:
        """A bulk start that is under way ends here; a guest that is just starting is waited for."""
        if chosen(ctx.params) is None:
            for task in await ctx.db(cancel_starts, ctx.services.node):
                await ctx.log(f"cancelled '{task.label}', which was under way")
                await ctx.services.ended(task.pk)
            with suppress(TimeoutError):
                async with asyncio.timeout(START_GRACE):
                    for task in await ctx.db(starts_of, ctx.services.node):
                        await ctx.services.ended(task.pk)
        await super().run(ctx)


def unlock(node: Node) -> list[VM]:
    """Give back the locks of backups that nobody makes any more; answers whose they were."""
    busy = Task.objects.filter(node=node, status__in=UNFINISHED, vm__isnull=False).values("vm_id")
    rows = list(VM.objects.filter(node=node, lock="backup").exclude(pk__in=busy))
    VM.objects.filter(pk__in=[vm.pk for vm in rows], lock="backup").update(lock="")
    return rows


def cancel_starts(node: Node) -> list[Task]:
    """The node's unfinished bulk starts, each asked to stop."""
    tasks = list(Task.objects.filter(node=node, type="startall", status__in=UNFINISHED))
    return [task for task in tasks if queue.request_cancel(task)]


def starts_of(node: Node) -> list[Task]:
    """The starts of single guests that are under way."""
    return list(Task.objects.filter(node=node, type="qmstart", status__in=UNFINISHED))
