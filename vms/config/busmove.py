"""Moving a machine's boot disk to a faster bus, for a guest whose driver has to be installed first. Pure.

Windows finds its disk on VirtIO only after the driver is in: a small helper disk on the new bus and the
driver disc come first, the driver is installed, then the boot disk changes its place and the boot order
follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from vms.config.upkeep import boot_devices, volume_of
from vms.config.vmconfig import VMConfig, parse_value
from vms.errors import ConfigError
from vms.hardware import SLOTS, part_of
from vms.hardware.drive import Drive
from vms.schema.option import options_of

RECORD = "busmove"
"""Where a VM's row keeps a move that was begun (in ``VM.draft``)."""
SLOW = ("ide", "sata")
TARGETS = {"scsi": "VirtIO SCSI", "virtio": "VirtIO Block"}
CONTROLLER = "virtio-scsi-single"
HELPER_SERIAL = "pvelite-helper"
"""The helper's serial number, by which the guest's agent tells it from other disks."""
HELPER_SIZE = "1"
"""GiB. It stays empty."""
BUS_ORDER = ("ide", "scsi", "virtio", "sata")
"""The order in which Proxmox looks for the first disk."""

Changes = dict[str, str | None]
"""Key → text, ``None`` to remove it."""


@dataclass(frozen=True)
class Move:
    """A move that was begun. ``volume`` is the boot disk's, which stays the same all the way; ``seen`` says
    who vouches for the driver (``word``, ``agent``), ``to`` where the disk went, ``spare`` the helper's
    volume, which nobody needs then, ``before`` what to restore on the way back."""

    disk: str
    volume: str
    target: str
    helper: str
    seen: str = ""
    to: str = ""
    spare: str = ""
    before: Changes = field(default_factory=dict)

    @classmethod
    def read(cls, record: Any) -> Self | None:
        """From a VM's row; None for what is no such record."""
        names = {item.name for item in fields(cls)}
        if not isinstance(record, Mapping) or not {"disk", "volume", "target", "helper"} <= record.keys():
            return None
        return cls(**{name: value for name, value in record.items() if name in names})

    def record(self) -> dict[str, Any]:
        """For a VM's row."""
        return asdict(self)


def boot_disk(mapping: Mapping[str, str]) -> str:
    """The hard disk the machine boots from: the boot order's first, else Proxmox's first; "" for none."""
    config = VMConfig.parse(only_drives(mapping))
    disks = [key for name in BUS_ORDER for key, _, drive in config.slots(name) if not drive.is_cdrom]
    listed = [key for key in boot_devices(mapping) or () if key in disks]
    return next(iter(listed or disks), "")


def only_drives(mapping: Mapping[str, str]) -> dict[str, str]:
    """The drives of a configuration."""
    kinds = {key: part_of(key) for key in mapping}
    return {key: text for key, text in mapping.items() if issubclass(kinds[key] or object, Drive)}


def slow_boot_disk(mapping: Mapping[str, str]) -> str:
    """The boot disk if it sits on a bus that every system drives without help; "" else."""
    found = boot_disk(mapping)
    return found if found.rstrip("0123456789") in SLOW else ""


def free_place(mapping: Mapping[str, str], bus: str) -> str:
    """The lowest free slot of ``bus``. Raises :class:`ConfigError` when all are taken."""
    keys = next(slot.keys() for slot in SLOTS if slot.name == bus)
    found = next((key for key in keys if key not in mapping), "")
    if not found:
        raise ConfigError(bus, f"every place on {TARGETS.get(bus, bus)} is taken; detach a disk first")
    return found


def begun(mapping: Mapping[str, str], target: str, storage: str, disc: str = "") -> tuple[Changes, Move]:
    """The helper disk on ``storage`` and the driver ``disc`` (an ISO's volume; "" for none).

    Raises :class:`ConfigError` when the boot disk is not on a slow bus, or there is no place.
    """
    disk = slow_boot_disk(mapping)
    if not disk:
        raise ConfigError("boot", "the machine does not boot from a disk on IDE or SATA")
    if target not in TARGETS:
        raise ConfigError("target", f"'{target}' is not one of {', '.join(TARGETS)}")
    # The first free place is left to the boot disk.
    helper = free_place({**mapping, free_place(mapping, target): ""}, target)
    changes: Changes = {helper: f"{storage}:{HELPER_SIZE},backup=0,serial={HELPER_SERIAL}"}
    if target == "scsi" and not mapping.get("scsihw", "").startswith("virtio-scsi"):
        changes["scsihw"] = CONTROLLER
    if disc and not any(volume_of(text) == disc for text in only_drives(mapping).values()):
        changes[disc_drive(mapping)] = f"{disc},media=cdrom"
    return changes, Move(disk, volume_of(mapping[disk]), target, helper)


def disc_drive(mapping: Mapping[str, str]) -> str:
    """An empty CD drive to put a disc into, else a free place for another."""
    for key, text in only_drives(mapping).items():
        if volume_of(text) == "none" and "media=cdrom" in text.split(","):
            return key
    places = [f"{name}{number}" for name in SLOW for number in range(0, 6, 2 if name == "ide" else 1)]
    free = next((key for key in places if part_of(key) is not None and key not in mapping), "")
    if not free:
        raise ConfigError("ide2", "there is no place for another CD drive; remove one first")
    return free


def switched(mapping: Mapping[str, str], move: Move) -> tuple[Changes, Move]:
    """The boot disk on its new bus, the boot order after it, the helper gone.

    Raises :class:`ConfigError` when the disk is not where the move began.
    """
    if volume_of(mapping.get(move.disk, "")) != move.volume:
        raise ConfigError(move.disk, "is not the disk this began with any more; begin again")
    to = free_place(mapping, move.target)
    changes: Changes = {to: moved_text(mapping, move.disk, to), move.disk: None}
    if move.helper in mapping:
        changes[move.helper] = None
    before: Changes = {move.disk: mapping[move.disk], to: None}
    for key in ("boot", "bootdisk"):
        if key in mapping and move.disk in renamed_words(mapping[key]):
            before[key], changes[key] = mapping[key], renamed(mapping[key], move.disk, to)
    spare = volume_of(mapping.get(move.helper, ""))
    return changes, replace(move, to=to, spare=spare, before=before)


def renamed_words(text: str) -> list[str]:
    """The devices a boot order names."""
    return text.removeprefix("order=").split(";")


def renamed(text: str, old: str, new: str) -> str:
    """A boot order with one device under another name."""
    head = "order=" if text.startswith("order=") else ""
    return head + ";".join(new if word == old else word for word in renamed_words(text))


def moved_text(mapping: Mapping[str, str], old: str, new: str) -> str:
    """What is in ``old`` as a drive in ``new``: what the new bus does not know is left out, and it gets a
    thread of its own where that works."""
    drive, kind = parse_value(old, mapping[old]), part_of(new) or Drive
    known = {option.attr for option in options_of(kind)}
    given = {option.attr: getattr(drive, option.attr) for option in options_of(type(drive))}
    values = {attr: value for attr, value in given.items() if attr in known and value is not None}
    if new.startswith("virtio") or mapping.get("scsihw") == CONTROLLER:
        values["iothread"] = True
    return kind(**values).format()


def undone(mapping: Mapping[str, str], move: Move) -> Changes:
    """The way back. Raises :class:`ConfigError` when the disk is not where it was moved to any more."""
    if volume_of(mapping.get(move.to, "")) != move.volume:
        raise ConfigError(move.to or move.disk, "is not the disk that was moved; there is no way back")
    if move.disk in mapping:
        raise ConfigError(move.disk, "is taken by now; free it first")
    orders = ("boot", "bootdisk")
    return {key: text for key, text in move.before.items() if key not in orders or key in mapping}
