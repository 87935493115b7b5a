"""What a change of some keys does to the others: detached volumes, the boot order. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vms.config.vmconfig import free_slot, parse_value
from vms.errors import ConfigError
from vms.hardware import is_drive
from vms.schema.types import VolumeId

_STATE_KEYS = ("efidisk0", "tpmstate0")
_OWNER = re.compile(r"(?:vm|base)-([1-9][0-9]*)-")
_SEED = re.compile(r"vm-[1-9][0-9]*-cloudinit(?:\.\w+)?")
_NEW = re.compile(r"[0-9]+(?:\.[0-9]+)?|cloudinit")


@dataclass(frozen=True)
class Applied:
    """A configuration after a change. ``doomed`` are the volumes that go for good; ``detached`` maps each
    volume that lost its drive to the ``unusedN`` that holds it now."""

    mapping: dict[str, str]
    doomed: tuple[str, ...] = ()
    detached: tuple[tuple[str, str], ...] = ()


def holds_volume(key: str) -> bool:
    """Whether ``key`` names a volume: a drive, EFI variables, a TPM's state, a detached disk."""
    return is_drive(key) or key in _STATE_KEYS or is_unused(key)


def is_unused(key: str) -> bool:
    """Whether ``key`` is a detached disk (``unused3``)."""
    return bool(re.fullmatch(r"unused[0-9]+", key))


def volume_of(text: str) -> str:
    """The first part of a drive's value: a volume, ``none``, ``cdrom``, ``storage:32``."""
    return text.partition(",")[0].removeprefix("file=").removeprefix("volume=")


def is_wish(text: str) -> bool:
    """Whether a drive's value asks for a volume that is still to be made (``local:32``)."""
    return bool(_NEW.fullmatch(volume_of(text).partition(":")[2]))


def owner_of(volid: str) -> int | None:
    """The VM a volume belongs to, by its name, as in Proxmox VE; ``None`` for an ISO and the like."""
    try:
        name = VolumeId.parse(volid).name
    except ValueError:
        return None
    found = _OWNER.match(name.rpartition("/")[2])
    return int(found[1]) if found else None


def is_seed(volid: str) -> bool:
    """Whether a volume is a cloud-init drive's: made anew whenever it is needed."""
    return bool(_SEED.fullmatch(re.split(r"[/:]", volid)[-1]))


def volumes(mapping: Mapping[str, str]) -> dict[str, str]:
    """Volume → the key that holds it, a drive before a detached disk."""
    found: dict[str, str] = {}
    for key in sorted(mapping, key=is_unused):
        if holds_volume(key):
            found.setdefault(volume_of(mapping[key]), key)
    return found


def applied(
    before: Mapping[str, str],
    changes: Mapping[str, str | None],
    vmid: int,
    forced: Iterable[str] = (),
    keep: Iterable[str] = (),
) -> Applied:
    """``before`` with ``changes`` (``None`` removes a key) and what follows from them.

    A disk of VM ``vmid`` that no drive holds any more becomes the lowest free ``unusedN``; it goes for good
    when its key is ``forced``, when it was detached already, or when it is a cloud-init drive. ``keep`` are
    volumes that somebody else still speaks for. Raises :class:`ConfigError` when no ``unusedN`` is free.
    """
    after = dict(before)
    for key, text in changes.items():
        if text is None:
            after.pop(key, None)
        else:
            after[key] = text
    held = {volume_of(text) for key, text in after.items() if holds_volume(key) and not is_unused(key)}
    for key in [key for key in after if is_unused(key) and volume_of(after[key]) in held]:
        del after[key]
    doomed, detached = [], []
    left = volumes(after)
    for volid, key in volumes(before).items():
        if volid in left or volid in keep or owner_of(volid) != vmid:
            continue
        if key in set(forced) or is_unused(key) or is_seed(volid):
            doomed.append(volid)
        else:
            after[free_unused(after)] = volid
            detached.append((volid, volumes(after)[volid]))
    without_devices(after, [key for key, text in changes.items() if text is None])
    return Applied(dict(sorted(after.items())), tuple(doomed), tuple(detached))


def free_unused(mapping: Mapping[str, str]) -> str:
    """The lowest free ``unusedN``. Raises :class:`ConfigError` when there are too many."""
    try:
        return free_slot(mapping, "unused")
    except ConfigError:
        raise ConfigError("unused", "Too many unused volumes - please delete them first.") from None


def without_devices(mapping: dict[str, str], removed: Iterable[str]) -> None:
    """Take devices that were removed out of the boot order."""
    gone = set(removed) - mapping.keys()
    if mapping.get("bootdisk") in gone:
        del mapping["bootdisk"]
    devices = boot_devices(mapping)
    if devices is not None and gone & set(devices):
        mapping["boot"] = "order=" + ";".join(device for device in devices if device not in gone)


def boot_devices(mapping: Mapping[str, str]) -> list[str] | None:
    """The devices of the boot order; ``None`` when there is no list."""
    text = mapping.get("boot")
    if text is None:
        return None
    boot = parse_value("boot", text)
    return list(boot.devices) if boot.order is not None else None


def boot_disks(mapping: Mapping[str, str]) -> list[str]:
    """The hard disks a guest may boot from, which stay plugged while it runs."""
    devices = boot_devices(mapping)
    if devices is None:
        devices = [mapping["bootdisk"]] if "bootdisk" in mapping else []
    return [key for key in devices if is_drive(key) and "media=cdrom" not in mapping.get(key, "").split(",")]
