"""What a verb is, and the one way to ask for it.

A verb is a class with :meth:`check` (changes nothing; runs when asked *and* again under the VM's lock on the
node) and :meth:`run` (the work, on the node). :func:`submit` is the only door to all of them: it checks the
privilege, the state and the parameters, and inserts the task row, in one transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from django.db import transaction

from vms import access
from vms.errors import ConfigError, ConfigErrors, StateError
from vms.models import VM, Node, Task
from vms.schema.option import option_table, options_of
from vms.tasks import queue

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Params:
    """An operation's parameters: a dataclass of ``opt()`` fields, as a device's options are."""


@dataclass(frozen=True, kw_only=True)
class NoParams(Params):
    """For verbs that take none."""


class Guest(Protocol):
    """A live QEMU process, as an operation sees it."""

    vmid: int
    pid: int
    monitor: Any


class NodeServices(Protocol):
    """What the worker lends to operations. ``facts`` and ``paths`` are this node's."""

    node: Node
    facts: Any
    paths: Any
    boot: str

    def guest(self, vmid: int) -> Guest | None:
        """The live process of a VM, or None."""

    async def attach(self, vm: VM, running: Any) -> Guest:
        """Watch a process just launched: connect QMP, follow events, observe its status."""

    async def observe(self, vmid: int) -> str:
        """Ask QEMU for the status now, store it, hint the pages; returns it."""

    async def gone(self, vmid: int, timeout: float) -> bool:
        """Wait until the VM's process has ended and was cleaned up. False on time-out."""


class Context(Protocol):
    """What :meth:`Operation.run` works with."""

    task: Task
    vm: VM
    user: Any
    params: Any
    services: NodeServices
    undo: AsyncExitStack

    @property
    def monitor(self) -> Any:
        """The VM's QMP monitor. Raises :class:`StateError` when it is not running."""

    async def db(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run database work off the event loop."""

    async def log(self, text: str) -> None:
        """Add a line to the task's log."""

    async def warn(self, text: str) -> None:
        """Add a warning; the task then ends as ``warnings``."""

    async def progress(self, fraction: float, text: str = "") -> None:
        """Say how far it is, 0 to 1."""

    def on_undo(self, text: str, work: Callable[[], Awaitable[None]]) -> None:
        """Register the inverse of a host step just made; run (last first) unless the operation succeeds."""


class Operation(Protocol):
    """One verb."""

    type: ClassVar[str]
    privilege: ClassVar[str]
    label: ClassVar[str]
    lock: ClassVar[str]
    params: ClassVar[type[Params]]

    def check(self, vm: VM, params: Any) -> None:
        """Raise :class:`StateError` (or another :class:`VMError`) when this cannot be done now."""

    async def run(self, ctx: Context) -> None:
        """Do it."""


OPERATIONS: dict[str, Operation] = {}
"""PVE task type → the verb. Filled by importing :mod:`vms.operations`."""


def operation(
    type_: str, *, privilege: str, label: str, lock: str = "", params: type[Params] = NoParams
) -> Callable[[type], type]:
    """Register a class as the verb ``type_``. ``lock`` is PVE's word for a VM it holds for long."""

    def register(cls: type) -> type:
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
    if user is not None:
        access.require_vm(user, verb.privilege, vm)
    parsed = parse_params(verb.params, given)
    with transaction.atomic():
        fresh = VM.everything.select_related("node", "pool").get(pk=vm.pk)
        verb.check(fresh, parsed)
        if verb.lock:
            taken = VM.everything.filter(pk=fresh.pk, lock="").update(lock=verb.lock)
            if not taken:
                raise StateError(f"VM {fresh.vmid} is locked ({fresh.lock}) by {holder(fresh)}.")
        return queue.enqueue(
            type_, node=fresh.node, vm=fresh, user=user, params=given,
            label=f"{verb.label} {fresh.vmid} ({fresh.display_name})",
        )  # fmt: skip


def holder(vm: VM) -> str:
    """Who holds the VM's lock, in words."""
    task = Task.objects.filter(vm=vm, status__in=queue.UNFINISHED).order_by("pk").first()
    if task is None:
        return "an operation that is no longer running"
    since = task.created.strftime("%H:%M")
    return f"'{task.label}', started by {task.username or 'system'} at {since} UTC"
