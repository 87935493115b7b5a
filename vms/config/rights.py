"""Which privilege a change of an option needs, as in Proxmox VE. Pure; doors and operations ask.

What stands in no line here is an operator's alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vms.config.pending import name_of
from vms.config.privileged import operators_only
from vms.config.seeds import named
from vms.config.upkeep import is_unused, is_wish, owner_of, volume_of
from vms.config.vmconfig import VMConfig, parse_value
from vms.hardware import is_drive
from vms.hardware.drive import Drive
from vms.hardware.net import Net


@dataclass(frozen=True)
class Right:
    """One of ``privileges``, at ``path`` (empty: on the VM itself). No privilege at all: operators only."""

    privileges: tuple[str, ...] = ()
    path: str = ""


OPERATOR = Right()
SNIPPETS = ("Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Allocate")
"""Of these one reads the texts on a storage that a VM may be given (``cicustom``)."""

_ON_VM: dict[tuple[str, ...], str] = {
    ("VM.Config.CPU",): "cores cpu cpulimit cpuunits numa smp sockets vcpus runningcpu",
    ("VM.Config.Memory",): "memory balloon shares allow-ksm",
    (
        "VM.Config.HWType",
    ): "acpi hotplug kvm machine runningmachine scsihw smbios1 tablet vga watchdog audio0 "
    "rng0 serial usb hostpci",
    ("VM.Config.Options",): "agent autostart bios description keyboard localtime migrate_downtime "
    "migrate_speed name onboot ostype protection reboot startdate startup tdf template tags",
    ("VM.PowerMgmt",): "freeze",
    ("VM.Config.Disk",): "boot bootdisk vmstatestorage efidisk0 tpmstate0 unused virtiofs",
    ("VM.Config.Network",): "net",
    ("VM.Config.Cloudinit", "VM.Config.Network"): "ciuser cipassword citype ciupgrade cicustom sshkeys "
    "searchdomain nameserver ipconfig",
}
ON_VM: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: privileges for privileges, names in _ON_VM.items() for name in names.split()}
)
"""Option or slot name → the privileges of which one is needed on the VM. Drives are looked into."""


def rights(key: str, old: str | None, new: str | None) -> list[Right]:
    """What changing ``key`` from ``old`` to ``new`` needs (``None``: is not there). All of them."""
    name = name_of(key)
    if any(text is not None and operators_only(key, text) for text in (old, new)):
        return [OPERATOR]
    if is_drive(key):
        return _drive_rights(key, old, new)
    if name == "vmstate":
        return [Right(("VM.Config.Disk",)), Right(("VM.PowerMgmt",))]
    if name not in ON_VM:
        return [OPERATOR]
    found = [Right(ON_VM[name])]
    if name == "startup":
        found.append(Right(("Sys.Modify",), "/"))
    if new is not None:
        found += _uses(key, name, old, new)
    return found


def _uses(key: str, name: str, old: str | None, new: str) -> list[Right]:
    """What is needed besides the VM: a bridge, a storage, a mapped device, texts for cloud-init."""
    if name == "net":
        card: Net = parse_value(key, new)
        before: Net | None = parse_value(key, old) if old is not None else None
        if card.bridge and (before is None or (before.bridge, before.tag) != (card.bridge, card.tag)):
            path = f"/sdn/zones/localnetwork/{card.bridge}"
            return [Right(("SDN.Use",), f"{path}/{card.tag}" if card.tag else path)]
    if name == "cicustom":
        storages = dict.fromkeys(
            text.partition(":")[0] for text in named(VMConfig.parse({key: new})).values()
        )
        return [Right(SNIPPETS, f"/storage/{storage}") for storage in storages]
    if name in ("efidisk0", "tpmstate0"):
        return _volume_rights(volume_of(new), is_wish(new))
    if name == "virtiofs":
        return [Right(("Mapping.Use",), f"/mapping/dir/{parse_value(key, new).dirid}")]
    if name in ("usb", "hostpci"):
        mapping = parse_value(key, new).mapping
        kind = "usb" if name == "usb" else "pci"
        return [Right(("Mapping.Use",), f"/mapping/{kind}/{mapping}")] if mapping else []
    return []


def _drive_rights(key: str, old: str | None, new: str | None) -> list[Right]:
    found: list[Right] = []
    for text in (old, new):
        if text is None:
            continue
        drive: Drive = parse_value(key, text)
        if drive.is_cloudinit or text.partition(",")[0].endswith(":cloudinit"):
            found += [Right(("VM.Config.CDROM",)), Right(("VM.Config.Cloudinit",))]
        elif drive.is_cdrom:
            found.append(Right(("VM.Config.CDROM",)))
            found += [Right(("Sys.Console",), "/")] if drive.file == "cdrom" else []
        else:
            found.append(Right(("VM.Config.Disk",)))
    if new is not None and (old is None or volume_of(old) != volume_of(new)):
        found += _volume_rights(volume_of(new), is_wish(new))
    return list(dict.fromkeys(found))


def _volume_rights(volume: str, wish: bool) -> list[Right]:
    storage, colon, _ = volume.partition(":")
    if not colon:
        return []
    path = f"/storage/{storage}"
    if wish:
        return [Right(("Datastore.AllocateSpace",), path)]
    if owner_of(volume) is not None:
        return []  # a disk of its own, detached before; another VM's is refused whoever asks
    return [Right(("Datastore.AllocateSpace", "Datastore.Audit"), path)]


__all__ = ["ON_VM", "OPERATOR", "Right", "is_unused", "rights"]
