"""What each guest system likes best: the defaults a wizard fills in when a system is chosen."""

from __future__ import annotations

from dataclasses import dataclass

OS_TYPES: dict[str, list[tuple[str, str]]] = {
    "Linux": [("l26", "7.x - 2.6 Kernel"), ("l24", "2.4 Kernel")],
    "Microsoft Windows": [
        ("win11", "11/2022/2025"),
        ("win10", "10/2016/2019"),
        ("win8", "8.x/2012/2012r2"),
        ("win7", "7/2008r2"),
        ("w2k8", "Vista/2008"),
        ("wxp", "XP/2003"),
        ("w2k", "2000"),
    ],
    "Solaris Kernel": [("solaris", "-")],
    "Other": [("other", "-")],
}
"""Group → (value, label) in the order the wizard offers them."""


@dataclass(frozen=True)
class OSDefaults:
    """Defaults of one guest system. Empty text means: leave the option out. ``memory`` is in MiB."""

    bus: str = "ide"
    nic: str = "e1000"
    scsihw: str = "virtio-scsi-single"
    bus_priority: tuple[str, ...] = ("ide", "sata", "scsi", "virtio")
    machine: str = ""
    bios: str = ""
    tpm: bool = False
    memory: int = 2048


_Q35 = OSDefaults(machine="q35")
_LINUX = OSDefaults(bus="scsi", nic="virtio", bus_priority=("scsi", "virtio", "sata", "ide"), machine="q35")
_OLD_WINDOWS = OSDefaults(nic="rtl8139", scsihw="")
_BY_TYPE = {
    "l26": _LINUX,
    # Systems since about 2012 know PCI Express and AHCI; older ones find their disk on i440fx only.
    "win8": _Q35,
    "win10": _Q35,
    "win11": OSDefaults(machine="q35", bios="ovmf", tpm=True, memory=4096),
    "wxp": _OLD_WINDOWS,
    "w2k": _OLD_WINDOWS,
    "w2k3": _OLD_WINDOWS,
}


def os_defaults(ostype: str) -> OSDefaults:
    """The defaults of ``ostype``; those of ``other`` for a system nobody knows."""
    return _BY_TYPE.get(ostype, OSDefaults())


def os_group(ostype: str) -> str:
    """The group (``Linux``, ``Microsoft Windows`` …) a type is offered in."""
    for group, entries in OS_TYPES.items():
        if any(value == ostype for value, _ in entries):
            return group
    return "Microsoft Windows" if ostype.startswith("w") else "Other"
