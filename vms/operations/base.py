"""What a verb is, and the one way to ask for it.

A verb is a class with :meth:`~Operation.check` (changes nothing; runs when asked *and* again under the VM's
lock on the node) and :meth:`~Operation.run` (the work, on the node). :func:`submit` is the only door to the
verbs of a VM, :func:`submit_on` to those of a node: they check the privilege, the state and the parameters,
and insert the task row, in one transaction.
"""

from __future__ import annotations

import builtins
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, ParamSpec, Protocol, TypeVar

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from vms import access
from vms.errors import ConfigError, ConfigErrors, LockedError, StateError
from vms.models import VM, Node, Task
from vms.schema.option import option_table, options_of
from vms.tasks import queue

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, kw_only=True)
class Params:
    """An operation's parameters: a dataclass of ``opt()`` fields, as a device's options are."""


@dataclass(frozen=True, kw_only=True)
class NoParams(Params):
    """For verbs that take none."""


class Guest(Protocol):
    """A live QEMU process, as an operation sees it.

    ``running`` is the process (:class:`vms.qemu.process.Running`), ``monitor`` its QMP connection,
    ``agent`` the guest agent's client (:class:`vms.qemu.agent.Agent`, whether it answers or not),
    ``status`` what QEMU last said of itself (``VM.Status``), ``record`` its launch record. Set ``held`` while
    a task of yours makes it stand still for a moment, so that no page tells of a pause; ``kept`` while one
    still needs the process should the guest power off, and have the worker look (``observe``) afterwards.
    """

    vmid: int
    record: Mapping[str, Any]
    running: Any
    monitor: Any
    agent: Any
    status: str
    held: bool
    kept: bool

    def store(self) -> None:
        """Write the launch record and the status into the VM's row (database work)."""


class NodeServices(Protocol):
    """What the worker lends to operations. ``facts`` and ``paths`` are this node's."""

    node: Node
    facts: Any
    paths: Any
    boot: str
    home: Any

    @property
    def user(self) -> str | None:
        """Whom QEMU runs as; None: as the worker itself."""

    def guest(self, vmid: int) -> Guest | None:
        """The live process of a VM, or None."""

    def storage(self, name: str, facts: Mapping[str, Any]) -> Any:
        """The driver (:class:`vms.storage.base.Storage`) of a storage described by ``facts``."""

    def note_launch(self, vmid: int, record: Mapping[str, Any]) -> None:
        """Keep the launch record on disk, for the case that the worker dies before the row holds it."""

    async def attach(self, vm: VM, launched: Any, record: dict[str, Any]) -> Guest:
        """Watch a process just launched. The guest's ``store``, to be called soon, writes its row."""

    async def observe(self, vmid: int) -> str:
        """Ask QEMU for the status now, store it, hint the pages; returns it (``stopped``: no process)."""

    def expect_end(self, vmid: int, why: str) -> None:
        """Say that the process is about to end on purpose, so that its end is no accident."""

    async def gone(self, vmid: int, timeout: float) -> bool:
        """Wait until the VM's process has ended and was cleaned up. False on time-out."""

    async def clean(self, vmid: int) -> None:
        """Remove what a run leaves on the host: helper processes, sockets. For a VM without a process."""

    async def scan(self, storage: str = "") -> int:
        """Read the storages (or the one) again; answers how many volumes were found."""

    async def ended(self, pk: int) -> Task:
        """Wait for the end of another task of this node; answers its row."""


class Context(Protocol):
    """What :meth:`Operation.run` works with."""

    task: Task
    user: Any
    params: Any
    services: NodeServices

    @property
    def vm(self) -> VM:
        """The VM's row. Raises :class:`StateError` for a task about the node."""

    @property
    def monitor(self) -> Any:
        """The VM's QMP monitor. Raises :class:`StateError` when it is not running."""

    async def roll_back(self) -> None:
        """Undo every registered step now, last first."""

    async def db(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run database work off the event loop. Ends before a cancellation goes on."""

    async def log(self, text: str) -> None:
        """Add a line to the task's log (written behind; in order)."""

    async def warn(self, text: str) -> None:
        """Add a warning; the task then ends as ``warnings``."""

    async def progress(self, fraction: float | None, text: str = "") -> None:
        """Say how far it is, 0 to 1."""

    def on_undo(self, text: str, work: Callable[[], Awaitable[None]]) -> None:
        """Register the inverse of a host step just made; run (last first) unless the operation succeeds."""

    def step(self, name: str) -> None:
        """The border between two host steps, by name: where a fault test kills the worker."""

    def at_end(self, work: Callable[[], None]) -> None:
        """Do database work in the transaction that ends the task well. Dropped by a roll-back."""

    def keep(self) -> None:
        """Drop what was registered: from here on the work done stands, whatever fails next."""


class Operation:
    """One verb. Subclass it and register it with :func:`operation`."""

    type: ClassVar[str] = ""
    privilege: ClassVar[str] = ""
    label: ClassVar[str] = ""
    lock: ClassVar[str] = ""
    accepts_locks: ClassVar[frozenset[str]] = frozenset()
    """Locks of others under which this verb is allowed all the same."""
    on_trash: ClassVar[bool] = False
    """Whether this verb is for what lies in the trash; others leave that alone."""
    beside_clones: ClassVar[bool] = False
    """Whether this may be done to a VM while clones are being made of it: it touches no disk of a VM that is
    off, and starts none."""
    reads: ClassVar[bool] = False
    """Whether it only reads the VM, so that what cuts the power or pauses need not wait for it."""
    takes_turn: ClassVar[bool] = True
    """Whether it waits for, and holds up, other tasks on the VM. What only talks to the guest does not."""
    fleeting: ClassVar[bool] = False
    """Whether a power cut takes along all it does before its end, so that it may simply be done again after
    one: it begins before its claim is on the disk."""
    params: ClassVar[builtins.type[Params]] = NoParams

    def authorise(self, user: Any, vm: VM, params: Any) -> None:
        """Raise :class:`AccessError` unless ``user`` may. Asked when submitted and when it starts."""
        access.require_vm(user, self.privilege, vm)

    def check(self, vm: VM, params: Any) -> None:
        """Raise :class:`StateError` (or another :class:`VMError`) when this cannot be done now."""

    def title(self, vm: VM, params: Any) -> str:
        """What a person reads in the list of tasks."""
        return f"{self.label} {vm.vmid} ({vm.display_name})"

    def overrules(self, params: Any) -> frozenset[str]:
        """The types of tasks on the same VM that this one ends instead of waiting for them."""
        return frozenset()

    async def run(self, ctx: Context) -> None:
        """Do it."""
        raise NotImplementedError

    async def resume(self, ctx: Context) -> None:
        """Settle a task whose worker died while it ran.

        Returns when the goal was reached all the same (the task ends well); raises with the definite
        reason otherwise, having cleaned up what the dead worker left.
        """
        raise StateError(f"The worker was restarted in the middle of this task. {await self.now(ctx)}")

    @staticmethod
    async def now(ctx: Context) -> str:
        """What the VM is now, in a sentence."""
        status = await ctx.services.observe(ctx.vm.vmid)
        return f"VM {ctx.vm.vmid} is {status}; look at it and repeat if need be."


class NodeOperation(Operation):
    """A verb about the node, not about a VM (``ctx.vm`` is not to be used)."""

    def authorise_on(self, user: Any, node: Node, params: Any) -> None:
        """Raise :class:`AccessError` unless ``user`` may."""
        access.require(user, self.privilege, f"/nodes/{node.name}")

    def check_on(self, node: Node, params: Any) -> None:
        """Raise :class:`VMError` when this cannot be done now."""

    def subject(self, params: Any) -> str:
        """What it is done to, for the task's label."""
        return ""

    async def resume(self, ctx: Context) -> None:
        """These are safe to do twice."""
        await self.run(ctx)


OPERATIONS: dict[str, Operation] = {}
"""PVE task type → the verb. Filled by importing :mod:`vms.operations`."""

O = TypeVar("O", bound=Operation)  # noqa: E741


def operation(
    type_: str, *, privilege: str, label: str, lock: str = "", params: type[Params] = NoParams
) -> Callable[[type[O]], type[O]]:
    """Register a class as the verb ``type_``. ``lock`` is PVE's word for a VM it holds for long."""

    def register(cls: type[O]) -> type[O]:
        if type_ in OPERATIONS:
            raise ValueError(f"two operations are called {type_}")
        members: dict[str, Any] = {
            "type": type_, "privilege": privilege, "label": label, "lock": lock, "params": params
        }  # fmt: skip
        for name, value in members.items():
            setattr(cls, name, value)
        OPERATIONS[type_] = cls()
        return cls

    return register


def parse_params(cls: type[Params], given: Mapping[str, str]) -> Any:
    """The checked parameters. Raises :class:`ConfigErrors`, one per wrong or unknown key."""
    table = option_table(cls)
    values: dict[str, Any] = {}
    errors: list[ConfigError] = []
    for name, text in given.items():
        option = table.get(name)
        if option is None:
            errors.append(ConfigError(name, "is not a parameter of this operation"))
            continue
        try:
            values[option.attr] = option.parse(str(text), name)
        except ConfigError as error:
            errors.append(error)
    errors += [
        ConfigError(option.name, "is missing")
        for option in options_of(cls)
        if option.required and option.attr not in values and option.name not in given
    ]
    if errors:
        raise ConfigErrors(errors)
    return cls(**values)


def submit(type_: str, *, vm: VM, user: Any, params: Mapping[str, str] | None = None) -> Task:
    """Ask for verb ``type_`` on ``vm`` in the name of ``user``; answers at once with a task row.

    ``params`` are the texts the door received. Raises :class:`AccessError`, :class:`ConfigErrors`,
    :class:`StateError`. ``user`` None is the system itself and may everything.
    """
    verb = OPERATIONS[type_]
    given = dict(params or {})
    parsed = parse_params(verb.params, given)
    if user is not None:
        verb.authorise(user, vm, parsed)
    with transaction.atomic():
        # Locked against a change of its configuration that is being made beside us.
        rows = VM.everything.select_related("node", "pool").select_for_update(of=("self",))
        fresh = rows.get(pk=vm.pk)
        check_lock(verb, fresh)
        check_clones(verb, fresh)
        verb.check(fresh, parsed)
        if verb.lock:
            taken = VM.everything.filter(pk=fresh.pk, lock=fresh.lock).update(lock=verb.lock)
            if not taken:
                raise StateError(f"VM {fresh.vmid} was locked by somebody else a moment ago.")
        return queue.enqueue(
            type_, node=fresh.node, vm=fresh, user=user, params=given, lock=verb.lock,
            label=verb.title(fresh, parsed),
        )  # fmt: skip


def submit_on(type_: str, *, node: Node, user: Any, params: Mapping[str, str] | None = None) -> Task:
    """:func:`submit` for a verb about the node itself."""
    verb = OPERATIONS[type_]
    if not isinstance(verb, NodeOperation):
        raise ValueError(f"{type_} is about a VM")
    given = dict(params or {})
    parsed = parse_params(verb.params, given)
    if user is not None:
        verb.authorise_on(user, node, parsed)
    with transaction.atomic():
        verb.check_on(node, parsed)
        label = f"{verb.label} {verb.subject(parsed)}".strip()
        return queue.enqueue(type_, node=node, vm=None, user=user, params=given, label=label)


def check_lock(verb: Operation, vm: VM, *, own: str = "") -> None:
    """Raise :class:`LockedError` when somebody's lock forbids ``verb``. ``own``: the asker's lock.

    Raises :class:`StateError` for what lies in the trash, unless the verb is about that.
    """
    if vm.stage == VM.Stage.TRASH and not verb.on_trash:
        raise StateError(f"VM {vm.vmid} is in the trash.", hint="Restore it first.")
    if vm.lock and vm.lock != own and vm.lock not in verb.accepts_locks:
        if vm.lock == "suspended":
            raise LockedError(
                f"VM {vm.vmid} is locked (suspended): it is hibernated.",
                hint="Start it, which goes on from its saved memory, or discard the saved memory.",
            )
        raise LockedError(f"VM {vm.vmid} is locked ({vm.lock}) by {holder(vm)}.")


def check_clones(verb: Operation, vm: VM) -> None:
    """Raise :class:`StateError` when ``verb`` would spoil a clone that is being made of the VM.

    Asked when something is submitted; afterwards the worker lets nobody change what somebody reads.
    """
    if verb.beside_clones:
        return
    task = clones_under_way(vm).first()
    if task is not None:
        raise StateError(
            f"VM {vm.vmid} is being cloned by {told(task)}.", hint="Wait for the clone, or cancel it."
        )


def clones_under_way(vm: VM) -> QuerySet[Task]:
    """The tasks that read the VM to make another one."""
    reading = {f"params__{queue.SOURCE}": str(vm.vmid)}
    return Task.objects.filter(status__in=queue.UNFINISHED, **reading).order_by("pk")


def holder(vm: VM) -> str:
    """Who holds the VM's lock, in words."""
    task = Task.objects.filter(vm=vm, status__in=queue.UNFINISHED).order_by("pk").first()
    return told(task) if task is not None else "an operation that is no longer running"


def told(task: Task) -> str:
    """A task as somebody who waits for it reads it."""
    since = timezone.localtime(task.created).strftime("%H:%M %Z")
    return f"'{task.label}', started by {task.username or 'system'} at {since}"
