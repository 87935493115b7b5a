"""The rows of snapshots: found, described, gone with the volumes that are their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from vms import access
from vms.errors import ConfigError, StateError
from vms.models import VM, Snapshot, Storage, Volume
from vms.operations import mirror
from vms.operations.base import Context
from vms.operations.snapdisks import TPM
from vms.tasks import notify

CURRENT = "current"
DESCRIPTION_LIMIT = 8192


@dataclass(frozen=True)
class Entry:
    """A line of the tree: a snapshot, or the VM now (``current``, without one).

    ``branches`` draws it: for each level from the root down to its own, whether more follows there.
    """

    name: str
    parent: str
    snapshot: Snapshot | None
    branches: tuple[bool, ...]

    @property
    def depth(self) -> int:
        """How many stand above it."""
        return len(self.branches) - 1


def tree_of(vm: VM) -> list[Entry]:
    """The snapshots of a VM from the roots down, the VM itself below the one it comes from. Two queries."""
    rows = list(Snapshot.objects.filter(vm=vm).select_related("vmstate", "parent"))
    below: dict[int | None, list[Snapshot | None]] = {}
    for row in rows:
        below.setdefault(row.parent_id, []).append(row)
    below.setdefault(vm.parent_id, []).append(None)

    def walk(pk: int | None, parent: str, above: tuple[bool, ...]) -> Iterator[Entry]:
        siblings = below.get(pk, [])
        for number, row in enumerate(siblings, 1):
            branches = (*above, number < len(siblings))
            yield Entry(row.name if row else CURRENT, parent, row, branches)
            if row is not None:
                yield from walk(row.pk, row.name, branches)

    return list(walk(None, "", ()))


def find(vm: VM, name: str) -> Snapshot:
    """The snapshot of that name. Raises :class:`StateError` in PVE's words."""
    found = Snapshot.objects.filter(vm=vm, name=name).select_related("vmstate__storage", "parent").first()
    if found is None:
        raise StateError(f"snapshot '{name}' does not exist")
    return found


def unfinished(vm: VM, name: str) -> Snapshot | None:
    """A snapshot of which nobody knows whether it is whole."""
    return Snapshot.objects.filter(vm=vm, name=name, state=Snapshot.State.PREPARE).first()


async def free_volumes(ctx: Context, made: Snapshot) -> None:
    """Delete the files of a snapshot: its memory, the TPM's copy."""
    known = await ctx.db(volids_of, made)
    for volid in known:
        name = volid.partition(":")[0]
        storage = await ctx.db(Storage.objects.filter(name=name).first)
        if storage is not None:
            await ctx.services.storage(storage.name, storage.facts()).free(volid)


def volids_of(made: Snapshot) -> list[str]:
    """The ids of the volumes that are a snapshot's own."""
    row = Snapshot.objects.select_related("vmstate__storage").get(pk=made.pk)
    found = [str(row.running[key]) for key in ("volume", TPM) if row.running.get(key)]
    if row.vmstate is not None and row.vmstate.volid not in found:
        found.append(row.vmstate.volid)
    return found


def forget(vm: VM, made: Snapshot) -> None:
    """The snapshot's rows go: its children become its parent's, its volumes' rows go with it."""
    with transaction.atomic():
        row = Snapshot.objects.filter(pk=made.pk).first()
        if row is None:
            return
        gone = volids_of(row)
        Snapshot.objects.filter(vm=vm, parent=row).update(parent=row.parent)
        VM.everything.filter(pk=vm.pk, parent=row).update(parent=row.parent)
        row.delete()
        for volid in gone:
            storage, _, name = volid.partition(":")
            Volume.objects.filter(storage__name=storage, name=name, vmid=vm.vmid).delete()
        mirror.schedule(vm)
    notify.changed(f"vm-{vm.vmid}", "storage")


def describe(vm: VM, user: Any, name: str, text: str) -> None:
    """Change what is said of a snapshot. Raises :class:`AccessError` and :class:`StateError`."""
    if user is not None:
        access.require_vm(user, "VM.Snapshot", vm)
    if len(text) > DESCRIPTION_LIMIT:
        raise ConfigError("description", f"is longer than {DESCRIPTION_LIMIT} characters")
    with transaction.atomic():
        row = find(vm, name)
        Snapshot.objects.filter(pk=row.pk).update(description=text)
        mirror.schedule(vm)
    notify.changed(f"vm-{vm.vmid}")
