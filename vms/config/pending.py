"""What a change of one key means for a machine that runs: at once, by plugging, or at its next start.

Pure. The classes are Proxmox VE's. A drive or a card changes as a whole: when one of its parts has to wait,
the key waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from vms.config.vmconfig import VMConfig, parse_value
from vms.hardware import DRIVE_SLOTS, OPTIONS, slot_of
from vms.hardware.drive import Drive
from vms.hardware.limits import Limits
from vms.hardware.machine import hotplug_words
from vms.hardware.net import Net
from vms.schema.option import options_of

FORCED = "!"
"""Before a key of ``VM.pending``: its removal takes the volume along, as in the file's ``delete:`` line."""


class Class(StrEnum):
    """When a key takes effect on a machine that runs."""

    NOW = "now"
    """At once; the running QEMU knows nothing of it."""
    LIVE = "live"
    """At once; QEMU or the node is told."""
    NETWORK = "network"
    DISK = "disk"
    USB = "usb"
    CPU = "cpu"
    MEMORY = "memory"
    COLD = "cold"
    """At the next start."""


_BY_CLASS: dict[Class, str] = {
    Class.NOW: "description hookscript lock migrate_downtime migrate_speed name onboot protection shares "
    "startup tags vmstatestorage ciuser cipassword citype ciupgrade cicustom sshkeys searchdomain nameserver "
    "ipconfig unused vmstate parent snaptime snapstate runningmachine runningcpu running-nets-host-mtu "
    "autostart",
    Class.LIVE: "cpuunits cpulimit balloon",
    Class.NETWORK: "net",
    Class.DISK: "scsi virtio",
    Class.USB: "usb tablet",
    Class.CPU: "vcpus",
    Class.MEMORY: "memory",
    Class.COLD: "cores sockets smp cpu numa kvm arch affinity hugepages keephugepages allow-ksm bios machine "
    "vga spice_enhancements keyboard scsihw ostype agent acpi boot bootdisk efidisk0 tpmstate0 ide sata "
    "serial parallel hostpci virtiofs args smbios1 localtime startdate tdf reboot freeze hotplug vmgenid "
    "meta template watchdog rng0 audio0 ivshmem amd-sev intel-tdx",
}
CLASSES: Mapping[str, Class] = MappingProxyType(
    {name: cls for cls, names in _BY_CLASS.items() for name in names.split()}
)
"""Option or slot name (``net`` for ``net0``) → class. Of agent, balloon and hotplug the value decides."""

CLOUD_INIT = frozenset(
    {"ciuser", "cipassword", "citype", "ciupgrade", "cicustom", "sshkeys", "searchdomain", "nameserver",
     "ipconfig", "name"}
)  # fmt: skip
"""Options the cloud-init drive is made from; with ``hotplug: cloudinit`` it is written again at once."""

COLD_PARTS = frozenset({"aio", "cache", "discard", "iothread", "product", "queues", "ro", "ssd", "vendor"})
"""Of a plugged disk: the parts that wait for the next start."""
LIMIT_PARTS = frozenset(option.name for option in options_of(Limits))
"""Of a drive: how fast it may be used, told to QEMU at once."""
NOTED_PARTS = frozenset({"size", "format", "import-from"})
"""Of a drive: what only describes its volume."""
REPLUG_PARTS = frozenset({"model", "macaddr", "queues", "mtu", "host-tunnel"})
"""Of a card: what makes it another card. The rest is on the node's side and changes while it is plugged."""


class How(StrEnum):
    """What is to be done to a machine that runs."""

    SAME = "same"
    NOW = "now"
    TELL = "tell"
    PLUG = "plug"
    UNPLUG = "unplug"
    REPLUG = "replug"
    WAIT = "wait"


@dataclass(frozen=True)
class Verdict:
    """What becomes of one key. ``why`` says what it waits for, as a sentence's end."""

    how: How
    why: str = ""

    @property
    def waits(self) -> bool:
        return self.how is How.WAIT

    @property
    def on_node(self) -> bool:
        """Whether the node has something to do."""
        return self.how in (How.TELL, How.PLUG, How.UNPLUG, How.REPLUG)


SAME, NOW = Verdict(How.SAME), Verdict(How.NOW)
NEXT_START = Verdict(How.WAIT, "it takes effect at the next start")
_FIXED_BUS = Verdict(How.WAIT, "IDE and SATA drives are plugged in at the next start only")


def name_of(key: str) -> str:
    """``net`` for ``net0``; the key itself when it is no numbered slot."""
    found = slot_of(key)
    return found[0].name if found else key


def class_of(key: str) -> Class:
    """The class of a key, before anybody looks at its value. Raises ``KeyError`` for an unknown one."""
    return CLASSES[name_of(key)]


def hotplugged(text: str | None) -> frozenset[str]:
    """What ``hotplug`` allows, as words."""
    return frozenset(hotplug_words(str(OPTIONS["hotplug"].default) if text is None else text))


def verdict(key: str, new: str | None, running: Mapping[str, str]) -> Verdict:
    """What becomes of ``key`` when it gets ``new`` (``None``: is removed) while ``running`` runs.

    Both texts must parse. Raises :class:`ConfigError` when one does not.
    """
    old = running.get(key)
    if old == new:
        return SAME
    found = class_of(key)
    if key == "hotplug":
        words = hotplugged(old) | hotplugged(new)
        return NEXT_START if words & {"cpu", "memory"} else NOW
    if key == "agent":
        return _agent(old, new)
    if key == "balloon":
        return NEXT_START if (old == "0") != (new == "0") else Verdict(How.TELL)
    if found is Class.NOW:
        return NOW
    if found is Class.LIVE:
        return Verdict(How.TELL)
    if name_of(key) in DRIVE_SLOTS:
        return _drive(key, old, new, running)
    if found is Class.NETWORK:
        return _card(key, old, new, running)
    if found in (Class.USB, Class.CPU, Class.MEMORY):
        return _plugged(found, key, old, new, running)
    return NEXT_START


def _agent(old: str | None, new: str | None) -> Verdict:
    was, becomes = (parse_value("agent", text or "0") for text in (old, new))
    changed = {
        option.name
        for option in options_of(type(was))
        if was.value(option.name) != becomes.value(option.name)
    }
    return NOW if changed <= {"fstrim_cloned_disks"} else NEXT_START


def _allowed(word: str, running: Mapping[str, str]) -> Verdict | None:
    """Why ``word`` cannot be plugged; ``None`` when it can."""
    if word in hotplugged(running.get("hotplug")):
        return None
    return Verdict(How.WAIT, f"hotplug of '{word}' is off for this VM")


def _plug_kind(old: str | None, new: str | None) -> Verdict:
    return Verdict(How.PLUG if old is None else How.UNPLUG if new is None else How.REPLUG)


def _plugged(found: Class, key: str, old: str | None, new: str | None, running: Mapping[str, str]) -> Verdict:
    refused = _allowed(found.value, running)
    if refused:
        return refused
    if found is Class.USB and key != "tablet":
        return _plug_kind(old, new)
    if found is Class.MEMORY and running.get("numa", "0") != "1":
        return Verdict(How.WAIT, "memory is plugged in only where NUMA is on")
    return Verdict(How.TELL)


def _drive(key: str, old: str | None, new: str | None, running: Mapping[str, str]) -> Verdict:
    hot = name_of(key) in CLASSES and class_of(key) is Class.DISK
    was: Drive | None = parse_value(key, old) if old is not None else None
    becomes: Drive | None = parse_value(key, new) if new is not None else None
    if was is not None and becomes is not None:
        if was.is_cdrom and becomes.is_cdrom and not (was.is_cloudinit or becomes.is_cloudinit):
            return _medium(was, becomes)
        if was.file == becomes.file and was.media == becomes.media:
            return _parts(changed_parts(was, becomes))
    if not hot:
        return _FIXED_BUS
    return _allowed("disk", running) or _plug_kind(old, new)


def _medium(was: Drive, becomes: Drive) -> Verdict:
    if was.file != becomes.file:
        return Verdict(How.TELL)
    return _parts(changed_parts(was, becomes))


def _parts(changed: frozenset[str]) -> Verdict:
    waiting = sorted(changed & COLD_PARTS)
    if waiting:
        return Verdict(How.WAIT, f"{', '.join(waiting)} of a plugged drive takes effect at the next start")
    if changed & LIMIT_PARTS:
        return Verdict(How.TELL)
    return NOW if changed else SAME


def changed_parts(was: Any, becomes: Any) -> frozenset[str]:
    """Names of the parts in which two values of one key differ, what only describes a volume left out."""
    names = {option.name: option.attr for option in options_of(type(becomes))}
    return frozenset(
        name
        for name, attr in names.items()
        if name not in NOTED_PARTS and getattr(was, attr) != getattr(becomes, attr)
    )


def _card(key: str, old: str | None, new: str | None, running: Mapping[str, str]) -> Verdict:
    if old is not None and new is not None:
        was: Net = parse_value(key, old)
        becomes: Net = parse_value(key, new)
        changed = changed_parts(was, becomes)
        # Between a bridge and user-mode networking the node's end is another device.
        if not changed & REPLUG_PARTS and bool(was.bridge) == bool(becomes.bridge):
            return Verdict(How.TELL) if changed else SAME
    return _allowed("network", running) or _plug_kind(old, new)


def split_pending(pending: Mapping[str, Any]) -> tuple[dict[str, str | None], frozenset[str]]:
    """``VM.pending`` as (key → text, ``None`` for a removal) and the keys whose volume goes too."""
    forced = frozenset(key.removeprefix(FORCED) for key in pending if key.startswith(FORCED))
    changes: dict[str, str | None] = dict.fromkeys(sorted(forced))
    for key, text in pending.items():
        if not key.startswith(FORCED):
            changes[key] = None if text is None else str(text)
    return changes, forced


def joined_pending(changes: Mapping[str, str | None], forced: frozenset[str]) -> dict[str, str | None]:
    """The inverse of :func:`split_pending`."""
    return {
        f"{FORCED}{key}" if key in forced and text is None else key: text for key, text in changes.items()
    }


def all_keys() -> set[str]:
    """Every option and slot name there is; each has a class."""
    from vms.hardware import SLOTS

    return set(OPTIONS) | {slot.name for slot in SLOTS}


__all__ = ["CLASSES", "Class", "How", "VMConfig", "Verdict", "class_of", "split_pending", "verdict"]
