"""Hardware: one module per part, each with its options and what QEMU gets of it.

This is the only registry: ``SLOTS`` lists the numbered keys (``net0`` … ``net31``), ``OPTIONS`` every other
key of a configuration, and :func:`part_of` says which keys hold a property string.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from vms.hardware.agent import Agent, AgentOptions
from vms.hardware.boot import Boot, BootOptions
from vms.hardware.buses import ControllerOptions, IdeDrive, SataDrive, ScsiDrive, VirtioDrive
from vms.hardware.cloudinit import CiCustom, CloudInitOptions, IpConfig, StateOptions
from vms.hardware.cpu import Cpu, CpuOptions
from vms.hardware.display import DisplayOptions, SpiceEnhancements, Vga
from vms.hardware.drive import Unused
from vms.hardware.extras import AmdSev, Audio, ExtraOptions, IntelTdx, Ivshmem, Rng, VirtioFs, Watchdog
from vms.hardware.firmware import EfiDisk, FirmwareOptions
from vms.hardware.guest import GuestOptions, Meta, Startup
from vms.hardware.hostpci import HostPci
from vms.hardware.machine import Machine, MachineOptions, Smbios1
from vms.hardware.memory import Memory, MemoryOptions, Numa
from vms.hardware.net import Net
from vms.hardware.serial import Parallel, Serial
from vms.hardware.tpm import TpmOptions, TpmState
from vms.hardware.usb import Usb
from vms.schema.option import Option, options_of
from vms.schema.propstring import PropertyString


@dataclass(frozen=True)
class Slot:
    """A kind of key with a number: ``name`` 0 … ``count`` - 1, each holding a ``part``."""

    name: str
    part: type[PropertyString]
    count: int

    def keys(self) -> list[str]:
        """Every key of this kind, ascending."""
        return [f"{self.name}{index}" for index in range(self.count)]


SLOTS: tuple[Slot, ...] = (
    Slot("ide", IdeDrive, 4),
    Slot("scsi", ScsiDrive, 31),
    Slot("virtio", VirtioDrive, 16),
    Slot("sata", SataDrive, 6),
    Slot("unused", Unused, 256),
    Slot("net", Net, 32),
    Slot("ipconfig", IpConfig, 32),
    Slot("serial", Serial, 4),
    Slot("parallel", Parallel, 3),
    Slot("usb", Usb, 14),
    Slot("hostpci", HostPci, 16),
    Slot("numa", Numa, 8),
    Slot("virtiofs", VirtioFs, 10),
)
"""The numbered keys. Drives come in the order in which QEMU gets them."""

DRIVE_SLOTS = ("ide", "scsi", "virtio", "sata")
"""Names of the slots that hold disks and CD drives."""

OPTION_CLASSES: tuple[type, ...] = (
    GuestOptions,
    CpuOptions,
    MemoryOptions,
    MachineOptions,
    FirmwareOptions,
    TpmOptions,
    ControllerOptions,
    BootOptions,
    DisplayOptions,
    AgentOptions,
    ExtraOptions,
    CloudInitOptions,
    StateOptions,
)

OPTIONS: Mapping[str, Option] = MappingProxyType(
    {option.name: option for cls in OPTION_CLASSES for option in options_of(cls)}
)
"""Every key of a configuration that is no numbered slot, with its option."""

PARTS: Mapping[str, type[PropertyString]] = MappingProxyType(
    {
        "startup": Startup,
        "meta": Meta,
        "cpu": Cpu,
        "memory": Memory,
        "machine": Machine,
        "smbios1": Smbios1,
        "efidisk0": EfiDisk,
        "tpmstate0": TpmState,
        "boot": Boot,
        "vga": Vga,
        "spice_enhancements": SpiceEnhancements,
        "agent": Agent,
        "watchdog": Watchdog,
        "rng0": Rng,
        "audio0": Audio,
        "ivshmem": Ivshmem,
        "amd-sev": AmdSev,
        "intel-tdx": IntelTdx,
        "cicustom": CiCustom,
    }
)
"""The plain keys whose value is a property string."""

_SLOT_NAMES = {slot.name: slot for slot in SLOTS}


LONGEST_KEY = 24
"""No key of a configuration is longer."""


def slot_of(key: str) -> tuple[Slot, int] | None:
    """The slot and number of ``net0``; ``None`` for a key that is no numbered slot."""
    return _slot_of(key) if len(key) <= LONGEST_KEY else None


@lru_cache(4096)
def _slot_of(key: str) -> tuple[Slot, int] | None:
    match = re.fullmatch(r"([a-z]+)(0|[1-9][0-9]{0,2})", key)
    slot = _SLOT_NAMES.get(match[1]) if match else None
    if match is None or slot is None or int(match[2]) >= slot.count:
        return None
    return slot, int(match[2])


def part_of(key: str) -> type[PropertyString] | None:
    """The kind of property string ``key`` holds; ``None`` when its value is plain."""
    found = slot_of(key)
    return found[0].part if found else PARTS.get(key)


def known(key: str) -> bool:
    """Whether a configuration may hold ``key`` at all."""
    return key in OPTIONS or slot_of(key) is not None


def is_drive(key: str) -> bool:
    """Whether ``key`` is a disk or CD drive slot."""
    found = slot_of(key)
    return found is not None and found[0].name in DRIVE_SLOTS
