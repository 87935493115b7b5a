"""What waits for a cold start becomes the configuration, on the node: volumes that go with it are deleted."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from django.db import transaction

from vms.config.upkeep import is_seed, volumes
from vms.errors import ConfigError, ConfigErrors, VMError
from vms.models import VM, Volume
from vms.models.configuration import with_parts
from vms.models.waiting import Waiting, forget_volumes, volumes_named
from vms.operations.base import NodeServices
from vms.operations.volumes import snapshots_with
from vms.tasks import notify

log = logging.getLogger(__name__)

Database = Callable[..., Awaitable[Any]]
"""Runs database work off the event loop."""


def fresh_of(vm: VM) -> VM:
    """The VM's rows as they are now, kept from others until the transaction ends."""
    VM.everything.select_for_update().get(pk=vm.pk)
    return fresh_of_now(vm)


def fresh_of_now(vm: VM) -> VM:
    """The VM's rows as they are now."""
    found: VM = with_parts(VM.everything.filter(pk=vm.pk)).get()
    return found


async def settle_keys(
    services: NodeServices, database: Database, vm: VM, keys: list[str] | None = None,
    step: Callable[[str], None] = lambda _name: None,
) -> list[str]:  # fmt: skip
    """:func:`settle` for somebody who has no task. Answers the volumes that were deleted.

    Raises :class:`ConfigErrors` when the result cannot stand; it goes on waiting then.
    """
    doomed: list[Volume] = await database(doomed_by, vm, keys)
    for volume in doomed:
        await services.storage(volume.storage.name, volume.storage.facts()).free(volume.volid)
        step(f"deleted {volume.name}")
    await database(apply, vm, keys)
    return [volume.volid for volume in doomed]


async def settle_ended(services: NodeServices, database: Database, vm_pk: int) -> None:
    """The guest has ended: what waited for that becomes the configuration.

    Not under a lock: saved memory, for one, belongs to the configuration that ran. What cannot be applied
    waits for the next start, which says why.
    """
    vm = await database(VM.everything.filter(pk=vm_pk, lock="").exclude(pending={}).first)
    if vm is None:
        return
    try:
        await settle_keys(services, database, vm)
    except VMError as error:
        log.warning("VM %s: what waits was not applied: %s", vm.vmid, error)


def doomed_by(vm: VM, keys: list[str] | None) -> list[Volume]:
    """The volumes that go when these keys take effect. Raises :class:`ConfigErrors` for one in use."""
    fresh = fresh_of_now(vm)
    waiting = Waiting.of(fresh)
    found = volumes_named(fresh, waiting.settled(waiting.changes if keys is None else keys)[1])
    reasons = [(volume.volid, needed_by(volume)) for volume in found if not is_seed(volume.volid)]
    errors = [ConfigError(volumes(waiting.config)[volid], why) for volid, why in reasons if why]
    if errors:
        raise ConfigErrors(errors)
    return found


def apply(vm: VM, keys: list[str] | None) -> None:
    """The one transaction in which waiting keys become the configuration."""
    with transaction.atomic():
        fresh = fresh_of(vm)
        waiting = Waiting.of(fresh)
        after, gone = waiting.settled(waiting.changes if keys is None else keys)
        after.store(fresh)
        forget_volumes(fresh, gone)
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")


def needed_by(volume: Volume) -> str:
    """Why a volume cannot be deleted, as a sentence; empty when it can."""
    if volume.clones.exists():
        return f"base volume '{volume.volid}' is still in use by linked clones"
    kept = snapshots_with(volume)
    if kept:
        return f"'{volume.volid}' is part of snapshot {kept[0]}; delete the snapshot first"
    other = volume.disks.exclude(vm__vmid=volume.vmid or 0).select_related("vm").first()
    return f"'{volume.volid}' is also used by VM {other.vm.vmid}" if other is not None else ""
