"""The disks of a VM in its snapshots: which belong in one, and why not; taken, taken back to, removed.

A disk's snapshot lies inside its qcow2. While QEMU has the disk open it alone may touch it, and takes the
snapshots of all disks in one transaction. The TPM's state is no qcow2 but a small file of its emulator: a
copy of it is kept beside it (:mod:`vms.operations.tpmcopy`).

CD drives are no part of a snapshot, the cloud-init drive neither: it is made anew at every start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vms.errors import StateError, StorageError
from vms.models import VM, Snapshot, Volume
from vms.models.configuration import config_of, is_drive, slot_kind
from vms.operations.base import Context, Guest
from vms.qemu import blocknodes
from vms.qemu.blocknodes import BlockNodes
from vms.qemu.monitor import Monitor
from vms.storage import open_storage
from vms.storage.base import Storage as Driver

TPM = "tpmstate0"
SLOW = 600.0
"""Seconds QEMU gets to remove a snapshot from a large disk; it answers nothing else meanwhile."""


@dataclass(frozen=True)
class Held:
    """A disk in a snapshot: the key it has there, and its volume with its storage."""

    key: str
    volume: Volume


def belongs(key: str, text: str) -> bool:
    """Whether a drive of a configuration is part of a snapshot."""
    if not is_drive(key) or slot_kind(key) == "unused":
        return False
    words = text.split(",")
    return "media=cdrom" not in words and words[0].removeprefix("file=") not in ("none", "cdrom")


def volumes_in(config: Mapping[str, str]) -> dict[str, str]:
    """Drive key → volume id of everything of a configuration that a snapshot holds."""
    return {
        key: str(text).split(",")[0].removeprefix("file=")
        for key, text in config.items()
        if belongs(key, str(text))
    }


def held_by(vm: VM, config: Mapping[str, str]) -> list[Held]:
    """The disks of a configuration of ``vm``. Raises :class:`StateError` naming one whose volume is gone."""
    wanted = volumes_in(config)
    names = [volid.partition(":")[2] for volid in wanted.values()]
    rows = Volume.objects.select_related("storage").filter(name__in=names)
    known = {row.volid: row for row in rows if row.node_id in (None, vm.node_id)}
    for key, volid in wanted.items():
        if volid not in known or not known[volid].present:
            raise StateError(f"{key}: volume '{volid}' does not exist")
    return [Held(key, known[volid]) for key, volid in sorted(wanted.items())]


def refusals(vm: VM, config: Mapping[str, str] | None = None) -> dict[str, str]:
    """Drive key → why it cannot be part of a snapshot. No snapshot is possible unless this is empty."""
    found: dict[str, str] = {}
    for key, volid in volumes_in(config_of(vm) if config is None else config).items():
        row = next((disk.volume for disk in vm.disks.all() if disk.slot == key), None)
        if row is None:
            found[key] = f"'{volid}' is not there."
        elif key != TPM:
            found[key] = kind_of(row).snapshot_refusal(volid)
        elif not row.storage.spec.files:
            found[key] = f"'{volid}' is on a storage without files, where no copy of it can be kept."
    return {key: text for key, text in found.items() if text}


# ---- on the node


def driver_of(ctx: Context, volume: Volume) -> Any:
    """The driver of the volume's storage."""
    return ctx.services.storage(volume.storage.name, volume.storage.facts())


def apart(held: Held) -> bool:
    """Whether the disk's storage takes its snapshots, whoever has it open."""
    return held.key != TPM and kind_of(held.volume).snapshots_apart(held.volume.volid)


async def names_of(ctx: Context, guest: Guest | None, held: Held) -> set[str]:
    """The snapshots a disk holds, asked of QEMU where that has it open and holds them."""
    nodes = (await inside(guest, [held])).get(held.key)
    if guest is not None and nodes is not None:
        return await names_in(guest.monitor, nodes)
    return set(await driver_of(ctx, held.volume).snapshots(held.volume.volid))


async def check_unused(ctx: Context, guest: Guest | None, disks: Iterable[Held], name: str) -> None:
    """Raise :class:`StateError` when a disk holds a snapshot of that name already, which no record knows."""
    for held in disks:
        if held.key != TPM and name in await names_of(ctx, guest, held):
            raise StateError(
                f"{held.key}: '{held.volume.volid}' holds a snapshot '{name}' that no record knows",
                hint="Choose another name.",
            )


async def check_there(ctx: Context, guest: Guest | None, disks: Iterable[Held], name: str) -> None:
    """Raise :class:`StateError` unless every disk holds the snapshot."""
    for held in disks:
        if held.key == TPM:
            continue
        if name not in await names_of(ctx, guest, held):
            raise StateError(f"{held.key}: '{held.volume.volid}' holds no snapshot '{name}'")
        if apart(held):
            refusal = await driver_of(ctx, held.volume).revert_refusal(held.volume.volid, name)
            if refusal:
                raise StateError(f"{held.key}: {refusal}.")


async def take(
    ctx: Context, guest: Guest | None, disks: Iterable[Held], name: str, opened: Mapping[str, BlockNodes]
) -> None:
    """Take the snapshot of every disk but the TPM's; of those QEMU has ``opened`` at one moment.

    While a guest has a disk open whose storage takes the snapshot (:func:`apart`), it stands still.
    """
    actions = [
        {"type": "blockdev-snapshot-internal-sync", "data": {"device": nodes.top, "name": name}}
        for nodes in opened.values()
    ]
    if guest is not None and actions:
        await guest.monitor.execute("transaction", {"actions": actions}, timeout=SLOW)
    for held in disks:
        if held.key not in opened and held.key != TPM:
            await driver_of(ctx, held.volume).snapshot(held.volume.volid, name)


async def inside(guest: Guest | None, disks: Iterable[Held]) -> dict[str, BlockNodes]:
    """Drive key → what QEMU has made of those disks it has open, under whatever key it has them now.

    Only of those whose snapshots lie inside the image, so that QEMU alone may touch them.
    """
    if guest is None:
        return {}
    drives = await blocknodes.drives(guest.monitor)
    found = {}
    for held in disks:
        if held.key != TPM and not apart(held):
            kind, volid = kind_of(held.volume), held.volume.volid
            one = next((one for one in drives if kind.opened_as(volid, one.filename)), None)
            if one is not None:
                found[held.key] = one
    return found


def kind_of(volume: Volume) -> Driver:
    """The driver of the volume's storage, to be asked what needs no look at the storage."""
    return open_storage(volume.storage.name, volume.storage.facts())


async def remove(ctx: Context, guest: Guest | None, held: Held, name: str) -> None:
    """Remove a snapshot from one disk; one that is not there is no error."""
    nodes = (await inside(guest, [held])).get(held.key)
    if guest is None or nodes is None:
        await driver_of(ctx, held.volume).delete_snapshot(held.volume.volid, name)
    elif name in await names_in(guest.monitor, nodes):
        await guest.monitor.execute(
            "blockdev-snapshot-delete-internal-sync", {"device": nodes.top, "name": name}, timeout=SLOW
        )


async def names_in(monitor: Monitor, nodes: BlockNodes) -> set[str]:
    """The snapshots inside a disk that QEMU has open."""
    for node in await monitor.execute("query-named-block-nodes", {"flat": True}):
        if node["node-name"] == nodes.format:
            return {str(one["name"]) for one in node["image"].get("snapshots", [])}
    return set()


async def revert(ctx: Context, held: Held, name: str) -> None:
    """Take one disk of a VM that is off back to its snapshot. Raises :class:`StorageError`."""
    try:
        await driver_of(ctx, held.volume).revert(held.volume.volid, name)
    except StorageError as error:
        raise StorageError(f"{held.key}: {error}", hint=error.hint) from error


def lost_with(snapshot: Snapshot, vm: VM) -> dict[str, str]:
    """Disks the VM has now and the snapshot knows nothing of: key → volume id."""
    before = set(volumes_in(snapshot.config).values())
    return {key: volid for key, volid in volumes_in(config_of(vm)).items() if volid not in before}
