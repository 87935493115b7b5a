"""What of a configuration waits for a cold start (``VM.pending``): noted, dropped, made the configuration.

The main configuration stays what the running machine has. Each function is one transaction that reads the
rows anew, so a task and the cleanup after a guest's end may both come here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db import transaction

from vms.config.pending import joined_pending, split_pending
from vms.config.upkeep import applied, holds_volume, is_unused, volume_of, volumes
from vms.models.configuration import config_of, save_config, saved
from vms.models.storage import Volume
from vms.models.vm import VM


@dataclass(frozen=True)
class Waiting:
    """A VM's configuration and what waits: ``changes`` (``None`` removes a key); ``forced`` are
    the keys that take their volume along."""

    vmid: int
    config: Mapping[str, str]
    changes: Mapping[str, str | None]
    forced: frozenset[str]

    @classmethod
    def of(cls, vm: VM) -> Waiting:
        """As the rows at hand say."""
        changes, forced = split_pending(vm.pending)
        return cls(vm.vmid, config_of(vm), changes, forced)

    @property
    def effective(self) -> dict[str, str]:
        """What the next start uses."""
        return applied(self.config, self.changes, self.vmid, self.forced).mapping

    def with_changes(
        self,
        changes: Mapping[str, str | None],
        forced: Iterable[str] = (),
        dropped: Iterable[str] = (),
    ) -> tuple[Waiting, tuple[str, ...]]:
        """After somebody asked for more: ``changes`` are added, ``dropped`` keys wait no longer.

        A volume nobody speaks for any more becomes an unused disk (a cloud-init drive's goes for good and is
        in the answer); one that a waiting drive uses is none.
        """
        wait = {key: text for key, text in self.changes.items() if key not in set(dropped)}
        wait |= changes
        hard = (self.forced - set(dropped) - changes.keys()) | set(forced)
        config = dict(self.config)
        spoken = {volume_of(text) for key, text in wait.items() if text is not None and holds_volume(key)}
        for key in [key for key in config if is_unused(key) and volume_of(config[key]) in spoken]:
            del config[key]
        left = {
            key: text
            for key, text in self.changes.items()
            if text is not None and holds_volume(key) and volume_of(text) not in spoken
        }
        orphans = {**config, **left}
        back = applied(orphans, dict.fromkeys(left), self.vmid, keep=volumes(config))
        config |= {key: text for key, text in back.mapping.items() if is_unused(key)}
        return Waiting(self.vmid, config, wait, frozenset(hard) & wait.keys()), back.doomed

    def settled(self, keys: Iterable[str]) -> tuple[Waiting, tuple[str, ...]]:
        """After ``keys`` took effect, and the volumes that are gone with that."""
        now = {key: self.changes[key] for key in keys if key in self.changes}
        rest = {key: text for key, text in self.changes.items() if key not in now}
        spoken = {volume_of(text) for key, text in rest.items() if text is not None and holds_volume(key)}
        done = applied(self.config, now, self.vmid, self.forced & now.keys(), keep=spoken)
        return Waiting(self.vmid, done.mapping, rest, self.forced - now.keys()), done.doomed

    def store(self, vm: VM) -> None:
        """Make this the VM's rows. Raises :class:`ConfigErrors` when the configuration cannot stand."""
        if dict(self.config) != config_of(vm):
            save_config(vm, self.config)
        pending = joined_pending(self.changes, self.forced)
        if pending != vm.pending:
            vm.pending = pending
            VM.everything.filter(pk=vm.pk).update(pending=pending)
            saved.send(VM, vm=vm)


def apply_pending(vm: VM) -> None:
    """Make what waits the configuration. Volumes that go with it (:func:`doomed_volumes`) must be gone.

    Raises :class:`ConfigErrors` when the result cannot stand; it goes on waiting then.
    """
    with transaction.atomic():
        waiting = Waiting.of(vm)
        after, doomed = waiting.settled(waiting.changes)
        after.store(vm)
        forget_volumes(vm, doomed)


def doomed_volumes(vm: VM) -> list[Volume]:
    """The volumes that go for good when what waits is applied."""
    waiting = Waiting.of(vm)
    return volumes_named(vm, waiting.settled(waiting.changes)[1])


def volumes_named(vm: VM, volids: Iterable[str]) -> list[Volume]:
    """The rows of volumes on the VM's node, by their ids."""
    wanted = set(volids)
    names = [volid.partition(":")[2] for volid in wanted]
    rows = Volume.objects.select_related("storage").filter(name__in=names)
    return [row for row in rows if row.volid in wanted and row.node_id in (None, vm.node_id)]


def waiting_volumes(vm: VM) -> list[Volume]:
    """The volumes only a waiting drive names: no row of a drive holds them yet."""
    waiting = Waiting.of(vm)
    spoken = {volume_of(text) for key, text in waiting.changes.items() if text and holds_volume(key)}
    return volumes_named(vm, spoken - volumes(waiting.config).keys())


def forget_volumes(vm: VM, volids: Iterable[str]) -> None:
    """The volumes are gone, so are their rows."""
    for row in volumes_named(vm, volids):
        row.delete()
