"""Configure: change a VM after its creation.

Everybody asks :func:`change`. What is asked is judged by the configuration that would result, noted as
waiting, and then takes effect as far as it can: on a stopped VM all of it, on a running one what needs no new
start. What needs nothing of the node (a name, a note, anything that merely waits) the door does itself in the
same transaction, and the task's row is born ended: there is one door, and it always answers a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from vms.config.pending import CLOUD_INIT, How, hotplugged, name_of, verdict
from vms.config.secrets import SECRETS, masked
from vms.config.upkeep import is_unused
from vms.errors import ConfigError, StateError
from vms.models import VM, Task
from vms.models.configuration import with_parts
from vms.models.waiting import Waiting
from vms.operations import settle
from vms.operations.base import Context, Operation, Params, check_clones, check_lock, operation, submit
from vms.operations.protection import note_owner, protected
from vms.operations.resulting import judge
from vms.operations.wish import Wish, authorise, volume_texts
from vms.schema.option import opt
from vms.tasks import queue


@dataclass(frozen=True, kw_only=True)
class ConfigureParams(Params):
    """What is asked, as :class:`~vms.operations.wish.Wish` writes it down."""

    set: str | None = opt("Set", help="Options and their values, as a JSON object.")
    delete: str | None = opt("Delete", help="Options to remove, separated by commas.")
    revert: str | None = opt("Revert", help="Options that shall wait for no start, separated by commas.")
    digest: str | None = opt("Digest", max_length=40, help="Refuse if the configuration has changed since.")
    force: bool | None = opt("Force", default=False, help="Delete the volumes of removed drives for good.")
    keys: str | None = opt("Noted", hidden=True, help="The keys that were noted as waiting by this task.")


def change(
    vm: VM,
    user: Any,
    *,
    set: Mapping[str, str] | None = None,
    delete: Sequence[str] = (),
    revert: Sequence[str] = (),
    digest: str = "",
    force: bool = False,
    by: str = "",
) -> Task:
    """Ask for a change of a VM's configuration in the name of ``user`` (None: the system's own).

    ``set`` are texts by key; ``scsi1: local:8`` makes a new disk of 8 GiB, an empty text deletes its key.
    ``delete`` removes keys: a drive's volume becomes an ``unusedN``, or goes for good with ``force``; an
    ``unusedN``'s volume always goes. ``revert`` lets keys wait no longer. ``digest``:
    :func:`vms.models.configuration.state_digest` of what the asker saw. ``by``: whose name a protection gets
    where no user asks.

    Answers a task; it has ended already (``task.finished``) when the node had nothing to do. Raises
    :class:`AccessError`, :class:`ConfigErrors` with an error per key, :class:`StateError`.
    """
    verb = Configure()
    with transaction.atomic():
        fresh = locked(vm)
        wish = Wish.read(fresh, set or {}, delete, revert, digest, force)
        if user is not None:
            authorise(user, fresh, wish)
        check_lock(verb, fresh)
        verb.judge(fresh, wish)
        if not everywhere(fresh, wish):
            check_clones(verb, fresh)
        label = verb.title(fresh, None)
        protects = wish.set.get("protection") == "1" and not protected(fresh)
        owner = (user.get_username() if user is not None else by) if protects else ""
        done = at_once(fresh, wish)
        if done is not None:
            note_owner(fresh, owner)
            lines = [queue.Line(text) for text in (words(wish), *done)]
            return queue.note(
                Configure.type, node=fresh.node, vm=fresh, user=user, label=label, params=shown_params(wish),
                lines=lines,
            )  # fmt: skip
        rest = first_keys(fresh, wish)
        note_owner(fresh, owner)
        return submit(Configure.type, vm=fresh, user=user, params=rest.params())


def everywhere(vm: VM, wish: Wish) -> bool:
    """Whether all of the wish takes effect at once whatever the machine does."""
    waiting = Waiting.of(vm)
    changes = wish.changes(waiting)
    return all(
        verdict(key, text, waiting.config).how is How.NOW and not is_unused(key)
        for key, text in changes.items()
    )


def locked(vm: VM) -> VM:
    """The VM's rows as they are, nobody else's to change until the transaction ends."""
    VM.everything.select_for_update().get(pk=vm.pk)
    fresh: VM = with_parts(VM.everything.filter(pk=vm.pk)).get()
    return fresh


def words(wish: Wish) -> str:
    """What was asked, as a line of a log, without secrets."""
    asked = masked({key: text for key, text in wish.set.items() if key not in wish.brought})
    found = [f"-{key} {one_line(asked[key])}" for key in sorted(asked)]
    found += [f"-delete {','.join(wish.delete)}"] if wish.delete else []
    found += [f"-revert {','.join(wish.revert)}"] if wish.revert else []
    found += ["-force"] if wish.force else []
    return f"update: {' '.join(found) or 'nothing'}"


def one_line(text: str) -> str:
    """A value as it fits into a line of a log."""
    flat = text.replace("\n", "\\n")
    return flat if len(flat) <= 200 else flat[:199] + "\N{HORIZONTAL ELLIPSIS}"


def shown_params(wish: Wish) -> dict[str, str]:
    """What a row that is only kept for its history says: no secret in it."""
    return wish.without(SECRETS).params()


def at_once(vm: VM, wish: Wish) -> list[str] | None:
    """Do all of the wish here and now, if the node is not needed for it; answers what to say.

    ``None``: nothing was done, the node has to.
    """
    waiting = Waiting.of(vm)
    planned, doomed = wish.planned(waiting)
    changes = wish.changes(waiting)
    felt = vm.running and settle.SWITCHED & settle.dropped(waiting, planned)
    if doomed or felt or volume_texts(wish):
        return None
    idle = not vm.running and vm.status != VM.Status.UNKNOWN and not _busy(vm)
    if idle:
        after, gone = planned.settled(planned.changes)
        if gone:
            return None
        after.store(vm)
        return settle.said(planned.changes, {})
    verdicts = {key: verdict(key, text, waiting.config) for key, text in changes.items()}
    now = [key for key, one in verdicts.items() if one.how is How.NOW and not is_unused(key)]
    waits = [key for key, one in verdicts.items() if one.how is How.WAIT]
    if len(now) + len(waits) < len(changes) or (waits and not vm.running) or _renews_seed(vm, changes):
        return None
    after, _ = planned.settled(now)
    after.store(vm)
    return settle.said({key: changes[key] for key in now}, {key: verdicts[key].why for key in waits})


def first_keys(vm: VM, wish: Wish) -> Wish:
    """Do what takes effect at once whatever the machine does, so that a task carries neither it nor a secret;
    answers the rest."""
    waiting = Waiting.of(vm)
    changes = wish.changes(waiting)
    now = [
        key
        for key, text in changes.items()
        if verdict(key, text, waiting.config).how is How.NOW
        and not is_unused(key)
        and key not in wish.brought
    ]
    if not now:
        return wish.without(SECRETS)
    after, _ = waiting.with_changes({key: changes[key] for key in now})[0].settled(now)
    after.store(vm)
    return wish.without(SECRETS.union(now))


def _busy(vm: VM) -> bool:
    return Task.objects.filter(vm=vm, status__in=queue.UNFINISHED).exists()


def _renews_seed(vm: VM, changes: Iterable[str]) -> bool:
    """Whether the cloud-init drive of a running VM is to be written again at once."""
    config = Waiting.of(vm).config
    words = hotplugged(config.get("hotplug"))
    return "cloudinit" in words and any(name_of(key) in CLOUD_INIT for key in changes)


@operation("qmconfig", privilege="VM.Audit", label="Configure", params=ConfigureParams)
class Configure(Operation):
    """Change the VM's configuration."""

    def authorise(self, user: Any, vm: VM, params: Any) -> None:
        """Each option has its own privilege."""
        authorise(user, vm, Wish.of_params(vm, params))

    def check(self, vm: VM, params: Any) -> None:
        wish = Wish.of_params(vm, params)
        for key in SECRETS & wish.set.keys():
            raise ConfigError(key, "is set through the door of this operation: no task carries a secret")
        self.judge(vm, wish)

    def judge(self, vm: VM, wish: Wish) -> None:
        """Raise :class:`VMError` when this cannot be asked of that VM."""
        if vm.stage != VM.Stage.DEFINED:
            raise StateError(f"VM {vm.vmid} is not created yet; finish its wizard first.")
        judge(vm, wish)

    async def run(self, ctx: Context) -> None:
        await settle.carry_out(ctx)

    async def resume(self, ctx: Context) -> None:
        """What was noted is carried out; what was not is undone and done again."""
        await ctx.log("the worker was restarted during this change; going on")
        await settle.go_on(ctx)


def effective(vm: VM) -> dict[str, str]:
    """The configuration the next start uses: what waits is applied."""
    return Waiting.of(vm).effective


@dataclass(frozen=True)
class Row:
    """One key as a page or ``qm pending`` shows it.

    ``current`` is what the machine has (None: nothing), ``pending`` what it gets at the next start;
    ``delete`` is 1 when the key goes then, 2 when its volume goes too.
    """

    key: str
    current: str | None = None
    pending: str | None = None
    delete: int = 0

    @property
    def waits(self) -> bool:
        return self.pending is not None or self.delete > 0


def pending_rows(vm: VM) -> list[Row]:
    """Every key of the configuration with what waits for it, secrets masked. No query of its own."""
    waiting = Waiting.of(vm)
    current = masked(waiting.config)
    new = masked({key: text for key, text in waiting.changes.items() if text is not None})
    return [
        Row(
            key,
            current.get(key),
            new.get(key),
            (2 if key in waiting.forced else 1) if waiting.changes.get(key, "") is None else 0,
        )
        for key in sorted(current.keys() | waiting.changes.keys())
    ]
