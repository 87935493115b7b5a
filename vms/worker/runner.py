"""From a claimed row to its definite end.

Each claimed row is one asyncio task: it waits for its turn on the VM, authorises the user again, checks
again, runs, and ends the row. Whatever happens, the row ends; a row whose worker died is ended by the next
worker (:meth:`Runner.spawn` with ``inherited``).
"""

from __future__ import annotations

import asyncio
import logging
import shlex
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from vms import operations  # noqa: F401  (registers every verb)
from vms.errors import AccessError, LaunchError, StateError, VMError
from vms.models import VM, Task
from vms.models.configuration import with_parts
from vms.operations.base import (
    OPERATIONS,
    NodeOperation,
    NodeServices,
    Operation,
    check_lock,
    parse_params,
    told,
)
from vms.tasks import queue
from vms.tasks.queue import Claimed
from vms.worker.context import TaskContext
from vms.worker.database import Database
from vms.worker.ends import Ends
from vms.worker.turns import Mode, Turns

log = logging.getLogger(__name__)

CUT_SHORT = "The worker was stopped in the middle of this task."


@dataclass(frozen=True)
class End:
    """How a row ends."""

    status: Task.Status
    message: str = ""
    detail: str = ""


Prepared = TaskContext | Exception | None
"""A row's context made together with its claim, why it could not be, or nothing: it is made in its turn."""


class Runner:
    """The running rows of this worker's life."""

    def __init__(self, services: NodeServices, database: Database, ends: Ends) -> None:
        self._services = services
        self._db = database
        self._ends = ends
        self._turns = Turns()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._about: dict[int, set[int]] = {}
        self._reasons: dict[int, End] = {}
        self._closing: set[int] = set()

    @property
    def running(self) -> int:
        """How many rows are in hand."""
        return len(self._tasks)

    async def take(self) -> list[tuple[Claimed, Prepared]]:
        """Claim what waits. A single row, what a person waits for, is prepared while its claim is written
        to the disk; what was read for one that is ours no more is dropped."""
        boot = self._services.boot
        rows = await self._db(queue.waiting, self._services.node)
        if len(rows) != 1 or not about(rows[0]).isdisjoint(set().union(*self._about.values())):
            taken = await self._db(lambda: [row for row in rows if queue.claim_row(row, boot)])
            return [(row, None) for row in taken]
        verb = OPERATIONS.get(rows[0].type)
        if verb is not None and verb.fleeting:
            return await self._db(self._take_at_once, rows[0])
        since, prepared = await asyncio.gather(
            self._db(queue.claim_row, rows[0], boot), self._db(self._prepare_early, rows[0])
        )
        return self._taken(rows[0], since, prepared)

    def _take_at_once(self, row: Claimed) -> list[tuple[Claimed, Prepared]]:
        """Claim a row whose claim need not be on the disk, and prepare it."""
        since = queue.claim_row(row, self._services.boot, lasting=False)
        return self._taken(row, since, self._prepare_early(row, row.task)) if since else []

    def _taken(
        self, row: Claimed, since: datetime | None, prepared: Prepared
    ) -> list[tuple[Claimed, Prepared]]:
        """The row with what was read for it, perhaps before it was claimed; nothing when it is not ours."""
        if since is None:
            return []
        if isinstance(prepared, TaskContext):
            task = prepared.task
            task.status, task.boot, task.started = Task.Status.RUNNING, self._services.boot, since
        return [(row, prepared)]

    def spawn(self, row: Claimed, prepared: Prepared = None, *, inherited: bool = False) -> None:
        """Begin with a claimed row; ``inherited`` ones are settled instead of run."""
        task = asyncio.create_task(self._live(row, prepared, inherited), name=f"task-{row.pk}")
        self._tasks[row.pk], self._about[row.pk] = task, about(row)
        task.add_done_callback(lambda _done: self._forget(row.pk))

    def _forget(self, pk: int) -> None:
        for table in (self._tasks, self._about, self._reasons):
            table.pop(pk, None)
        self._closing.discard(pk)

    def cancel(self, pk: int, end: End | None = None) -> None:
        """Stop a running row: what it did is undone and the row ends as ``end`` says."""
        task = self._tasks.get(pk)
        if task is not None and pk not in self._reasons and pk not in self._closing:
            self._reasons[pk] = end or End(Task.Status.CANCELLED, "Cancelled.")
            task.cancel()

    async def _overrule(self, row: Claimed) -> None:
        """End the tasks on the same VM that this one need not wait for."""
        ctx = await self._db(self._load, row)
        verb = OPERATIONS[ctx.task.type]
        types = verb.overrules(ctx.params)
        if not types:
            return
        if ctx.user is not None:
            await self._db(verb.authorise, ctx.user, ctx.vm, ctx.params)
        before = [pk for pk in self._turns.waiting(row.vm_id) if pk != row.pk]
        rows = await self._db(lambda: list(Task.objects.filter(pk__in=before, type__in=types)))
        for other in rows:
            self.cancel(other.pk, End(Task.Status.CANCELLED, f"Overruled by {told(ctx.task)}."))

    async def drain(self, grace: float) -> None:
        """Let what runs end within ``grace`` seconds, then cancel the rest. Every row ends."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=grace)
        for pk in list(self._tasks):
            self.cancel(pk, End(Task.Status.ERROR, CUT_SHORT))
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    # ---- one row

    async def _live(self, row: Claimed, prepared: Prepared, inherited: bool) -> None:
        try:
            if wanted(row) and self._turns.waiting(row.vm_id):
                with suppress(VMError):  # refused here, it is refused with its reason when its turn comes
                    await self._overrule(row)
            async with self._turns.turn(wanted(row), row.pk, lambda holder: self._waits(row.pk, holder)):
                await self._take_turn(row, prepared, inherited)
        except asyncio.CancelledError:
            # Cancelled while it waited for its turn.
            end = self._reasons.get(row.pk, End(Task.Status.CANCELLED, "Cancelled."))
            await self._finish(await self._db(Task.objects.get, pk=row.pk), end, None)
        except Exception:
            log.exception("task %s could not be ended", row.pk)

    async def _waits(self, pk: int, holder: int) -> None:
        """Say on the waiting row whom it waits for."""

        def tell() -> None:
            other = Task.objects.filter(pk=holder).first()
            if other is not None:
                queue.set_progress(Task(pk=pk), None, f"waiting for {told(other)}")

        await self._db(tell)

    async def _take_turn(self, row: Claimed, prepared: Prepared, inherited: bool) -> None:
        ctx: TaskContext | None = None
        try:
            if isinstance(prepared, Exception):
                raise prepared
            made = prepared if prepared is not None else await self._db(self._prepare, row, inherited)
            ctx = made
            verb = OPERATIONS[made.task.type]
            await (verb.resume(made) if inherited else verb.run(made))
            made.keep()
            end = End(Task.Status.WARNINGS if made.warnings else Task.Status.OK)
        except asyncio.CancelledError:
            end = self._reasons.get(row.pk, End(Task.Status.CANCELLED, "Cancelled."))
        except Exception as error:
            end = ended(error)
        self._closing.add(row.pk)  # from here on nothing cuts it short
        await self._close(row, end, ctx)

    async def _close(self, row: Claimed, end: End, ctx: TaskContext | None) -> None:
        if ctx is None:
            await self._finish(await self._db(Task.objects.get, pk=row.pk), end, None)
            return
        if end.status not in (Task.Status.OK, Task.Status.WARNINGS):
            await ctx.roll_back()
        await self._finish(ctx.task, end, ctx)

    async def _finish(self, task: Task, end: End, ctx: TaskContext | None) -> None:
        await self._db(
            queue.finish, task, self._services.boot, end.status, message=end.message, detail=end.detail,
            lines=await ctx.rest() if ctx else (), also=ctx.last_work() if ctx else (),
        )  # fmt: skip
        self._ends.ring()
        if end.status == Task.Status.ERROR:
            log.info("task %s (%s) failed: %s", task.pk, task.label, end.message)

    def _prepare_early(self, row: Claimed, known: Task | None = None) -> Prepared:
        """:meth:`_prepare`, or why it could not be: that is said once the row's turn has come."""
        try:
            return self._prepare(row, False, known)
        except Exception as error:
            return error

    def _prepare(self, row: Claimed, inherited: bool, known: Task | None = None) -> TaskContext:
        """Everything a task needs from the database before it runs, in one go."""
        ctx = self._load(row, known)
        if not inherited:
            self._admit(OPERATIONS[ctx.task.type], ctx)
        return ctx

    def _load(self, row: Claimed, known: Task | None = None) -> TaskContext:
        """The row, its user and its VM with all parts, as they are now; ``known``: the row, read just now."""
        task = known or Task.objects.select_related("node", "user").get(pk=row.pk)
        vm = with_parts(VM.everything.filter(pk=row.vm_id)).first() if row.vm_id is not None else None
        user = task.user
        verb = OPERATIONS.get(task.type)
        if verb is None:
            raise StateError(f"This worker knows no operation '{task.type}'.")
        params = parse_params(verb.params, task.params)
        if task.message:
            queue.set_progress(task, None)  # it no longer waits
        return TaskContext(task, vm, user, params, self._services, self._db)

    def _admit(self, verb: Operation, ctx: TaskContext) -> None:
        """Rights and state, asked again now that it is this task's turn."""
        if ctx.user is None and ctx.task.username != "system":
            raise AccessError(f"User {ctx.task.username} no longer exists.")
        if isinstance(verb, NodeOperation):
            if ctx.user is not None:
                verb.authorise_on(ctx.user, ctx.task.node, ctx.params)
            verb.check_on(ctx.task.node, ctx.params)
            return
        if ctx.user is not None:
            verb.authorise(ctx.user, ctx.vm, ctx.params)
        check_lock(verb, ctx.vm, own=ctx.task.lock)
        verb.check(ctx.vm, ctx.params)


def about(row: Claimed) -> set[int]:
    """The VM rows a task works with."""
    return {pk for pk in (row.vm_id, row.reads, row.changes) if pk is not None}


def mode_of(verb: Operation | None) -> Mode:
    """What a verb does to the VM it is about."""
    if verb is not None and verb.reads:
        return Mode.READ
    return Mode.BESIDE if verb is not None and verb.beside_clones else Mode.CHANGE


def wanted(row: Claimed) -> list[tuple[int, Mode]]:
    """What a task must hold before it may begin."""
    verb = OPERATIONS.get(row.type)
    found: list[tuple[int, Mode]] = []
    if verb is not None and not verb.takes_turn:
        return found
    if row.vm_id is not None:
        found.append((row.vm_id, mode_of(verb)))
    if row.reads is not None:
        found.append((row.reads, Mode.READ))
    if row.changes is not None and row.changes != row.vm_id:
        found.append((row.changes, Mode.CHANGE))
    return found


def ended(error: Exception) -> End:
    """The end of a row whose work raised ``error``."""
    if isinstance(error, VMError):
        text = f"{error} {error.hint}".strip() if error.hint else str(error)
        return End(Task.Status.ERROR, text, launch_detail(error) if isinstance(error, LaunchError) else "")
    log.error("an operation broke", exc_info=error)
    try:
        words = f": {error}"
    except Exception:  # its words may want the database, and this is no place for that
        words = ""
    return End(
        Task.Status.ERROR,
        f"Internal error ({type(error).__name__}){words}. The worker's log has the place.",
    )


def launch_detail(error: LaunchError) -> str:
    """QEMU's own words, the exit code and the command line, for who wants to know it all."""
    code = "not known" if error.exit_code is None else str(error.exit_code)
    return (
        f"QEMU said:\n{error.log_tail.strip() or '(nothing)'}\n\n"
        f"Exit code: {code}\n\nCommand:\n{shlex.join(error.argv)}\n"
    )
