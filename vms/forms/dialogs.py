"""What can be added to a machine and what of it can be edited: each with its panel.

A dialog works on an :class:`~vms.forms.editing.Editing` of the whole configuration. What it changed there is
what is asked for afterwards; a dialog that adds something first puts its defaults there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vms.config.seeds import seed_slot
from vms.errors import ConfigError
from vms.forms import devices, drives, network, system
from vms.forms.disks import Disks, add_disk, next_slot
from vms.forms.editing import Editing
from vms.forms.hardware import compose
from vms.forms.memory import Memory
from vms.forms.panel import Panel, Section
from vms.forms.places import free_slot
from vms.forms.processors import Cpu
from vms.hardware import SLOTS, slot_of
from vms.hardware.drive import Drive

Begin = Callable[[Editing], str]
"""Puts the defaults of a new device into the configuration and answers its key; "" when there is no room."""
Open = Callable[[Editing, str], Panel]
Kind = tuple[Begin, Open, Callable[[Editing], str]]
"""How a kind of device begins, what edits it, and why there can be no further one."""
NO_STORAGE = "No storage takes disks of yours."
NO_VIRTIOFSD = "This node has no virtiofsd, the program that shares folders."
NO_FOLDER = "No folder of this node has a name yet; an operator gives it one in mappings.conf."


class NetworkCard(network.Network):
    """A network card; beside the wizard's fields the VLANs the guest may use itself."""

    sections = (
        network.SECTIONS[0],
        Section((*network.SECTIONS[1].names, "trunks"), advanced=True),
    )


@dataclass(frozen=True)
class Addition:
    """A line of the Add menu. ``why_not`` says in a sentence why it cannot be chosen; ``key`` and ``sample``
    are a key and a value of the kind that would be added, by which rights are asked."""

    kind: str
    label: str
    icon: str
    key: str
    sample: str
    begin: Begin
    open: Open
    why_not: Callable[[Editing], str]


def plain(panel: type[Panel]) -> Open:
    """A panel that knows its slot only by being told."""
    return lambda draft, key: panel(draft)


def free_key(draft: Editing, name: str) -> str:
    """The lowest unused key of a numbered kind; "" when all are taken."""
    keys = next(slot.keys() for slot in SLOTS if slot.name == name)
    return next((key for key in keys if key not in draft.mapping), "")


def numbered(name: str, panel: type[devices.PartPanel]) -> Kind:
    """A device that takes the next number of its kind."""

    def begin(draft: Editing) -> str:
        key = free_key(draft, name)
        if key and panel.fresh:
            draft.mapping[key] = panel.fresh
        return key

    return begin, panel, lambda draft: "" if free_key(draft, name) else "Every place is taken."


def single(key: str, panel: type[devices.PartPanel]) -> Kind:
    """A device there can be one of."""

    def begin(draft: Editing) -> str:
        if key in draft.mapping:
            return ""
        if panel.fresh:
            draft.mapping[key] = panel.fresh
        return key

    def why_not(draft: Editing) -> str:
        return "There is one already; a machine has one at most." if key in draft.mapping else ""

    return begin, panel, why_not


def small(key: str, panel: type[drives.SmallDisk], parts: Mapping[str, str]) -> Kind:
    """The EFI or TPM disk."""

    def begin(draft: Editing) -> str:
        places = draft.offers.disk_places
        if key in draft.mapping or not places:
            return ""
        draft.mapping[key] = compose(key, {"file": f"{places[0].name}:1", **parts})
        return key

    def why_not(draft: Editing) -> str:
        if key in draft.mapping:
            return "There is one already; a machine has one at most."
        return "" if draft.offers.disk_places else NO_STORAGE

    return begin, panel, why_not


def add_cd(draft: Editing) -> str:
    """An empty CD drive, where PVE puts the first one if that is free."""
    slot = "ide2" if "ide2" not in draft.mapping else free_slot(draft, *drives.CD_BUSES)
    if slot:
        draft.mapping[slot] = "none,media=cdrom"
        draft.stash["medium"] = "iso"
    return slot


def add_seed(draft: Editing) -> str:
    """The cloud-init drive, where the guest's kernel finds it."""
    places, slot = draft.offers.disk_places, seed_place(draft)
    if slot and places and not seed_of(draft):
        draft.mapping[slot] = f"{places[0].name}:cloudinit,media=cdrom"
        return slot
    return ""


def seed_place(draft: Editing) -> str:
    """A free slot for the cloud-init drive, the best one if that is free; "" when all are taken."""
    try:
        best = seed_slot(draft.mapping)
    except ConfigError:
        return ""
    return best if best not in draft.mapping else free_slot(draft, *drives.CD_BUSES)


def seed_of(draft: Editing) -> str:
    """The slot of the cloud-init drive; "" without one."""
    return next((key for key, text in draft.mapping.items() if is_seed(key, text)), "")


def is_seed(key: str, text: str) -> bool:
    """Whether a drive carries cloud-init's settings."""
    found = slot_of(key)
    kind = found[0].part if found else None
    if kind is None or not issubclass(kind, Drive) or "media=cdrom" not in text.split(","):
        return False
    return kind.parse(text, key).is_cloudinit


def _no_disk(draft: Editing) -> str:
    if not draft.offers.disk_places:
        return NO_STORAGE
    return "" if next_slot(draft) else "Every place is taken."


def _no_seed(draft: Editing) -> str:
    if seed_of(draft):
        return "There is one already; a machine has one at most."
    if not draft.offers.disk_places:
        return NO_STORAGE
    return "" if seed_place(draft) else "Every place is taken."


def lpt() -> Kind:
    """A parallel port."""
    return numbered("parallel", devices.LptPanel)


def folder() -> Kind:
    """A shared folder; only where one has a name and something serves it."""
    begin, panel, full = numbered("virtiofs", devices.FolderPanel)

    def why_not(draft: Editing) -> str:
        if not draft.facts.virtiofsd:
            return NO_VIRTIOFSD
        return full(draft) if draft.facts.folder_mappings else NO_FOLDER

    return begin, panel, why_not


def card() -> Kind:
    """A network card."""
    full = numbered("net", devices.PartPanel)[2]
    return network.add_nic, plain(NetworkCard), full


def seed() -> Kind:
    """The cloud-init drive."""
    return add_seed, plain(drives.SeedDrive), _no_seed


def _no_cd(draft: Editing) -> str:
    return "" if free_slot(draft, *drives.CD_BUSES) else "Every place is taken."


DISC, SEED = "none,media=cdrom", "any:cloudinit,media=cdrom"
PCI, PORT, LPT = "mapping=any", "socket", "/dev/parport0"
TPM = {"version": "v2.0"}
EFI = {"efitype": "4m", "format": "qcow2", "pre-enrolled-keys": "1"}
ADDITIONS: tuple[Addition, ...] = (
    Addition("disk", "Hard disk", "disk", "scsi0", "none", add_disk, plain(Disks), _no_disk),
    Addition("cdrom", "CD/DVD drive", "disc", "ide2", DISC, add_cd, plain(drives.NewCdDrive), _no_cd),
    Addition("net", "Network device", "network", "net0", "virtio", *card()),
    Addition("efidisk", "EFI disk", "disk", "efidisk0", "none", *small("efidisk0", drives.EfiPanel, EFI)),
    Addition("tpm", "TPM state", "lock", "tpmstate0", "none", *small("tpmstate0", drives.TpmPanel, TPM)),
    Addition("cloudinit", "Cloud-init drive", "disc", "ide2", SEED, *seed()),
    Addition("usb", "USB device", "usb", "usb0", "spice", *numbered("usb", devices.UsbPanel)),
    Addition("hostpci", "PCI device", "chip", "hostpci0", PCI, *numbered("hostpci", devices.PciPanel)),
    Addition("serial", "Serial port", "console", "serial0", PORT, *numbered("serial", devices.SerialPanel)),
    Addition("parallel", "Parallel port", "console", "parallel0", LPT, *lpt()),
    Addition("audio", "Audio device", "sound", "audio0", "", *single("audio0", devices.AudioPanel)),
    Addition("rng", "VirtIO RNG", "dice", "rng0", "", *single("rng0", devices.RngPanel)),
    Addition("watchdog", "Watchdog", "clock", "watchdog", "", *single("watchdog", devices.WatchdogPanel)),
    Addition("numa", "NUMA node", "cpu", "numa0", "", *numbered("numa", devices.NumaPanel)),
    Addition("virtiofs", "Shared folder", "folder", "virtiofs0", "", *folder()),
)  # fmt: skip
"""Everything the Add menu offers, in its order."""
BY_KIND = {addition.kind: addition for addition in ADDITIONS}

GROUPS: Mapping[str, tuple[str, Open]] = {
    "memory": ("Memory", plain(Memory)),
    "processors": ("Processors", plain(Cpu)),
    "bios": ("BIOS", plain(system.BiosPanel)),
    "vga": ("Display", system.DisplayPanel),
    "machine": ("Machine", system.MachinePanel),
    "scsihw": ("SCSI controller", plain(system.ControllerPanel)),
}
"""The rows that every machine has: their name, label and panel."""
_SLOT_PANELS: Mapping[str, Open] = {
    "net": plain(NetworkCard), "usb": devices.UsbPanel, "hostpci": devices.PciPanel,
    "serial": devices.SerialPanel, "numa": devices.NumaPanel, "audio": devices.AudioPanel,
    "rng": devices.RngPanel, "watchdog": devices.WatchdogPanel, "virtiofs": devices.FolderPanel,
    "parallel": devices.LptPanel,
}  # fmt: skip


def opened(draft: Editing, name: str) -> Panel | None:
    """The panel that edits row ``name``; None when it has nothing to edit."""
    if name in GROUPS:
        return GROUPS[name][1](draft, name)
    if name not in draft.mapping:
        return None
    kind = name.rstrip("0123456789")
    if kind in _SLOT_PANELS:
        return _SLOT_PANELS[kind](draft, name)
    found = slot_of(name)
    if found is None or not issubclass(found[0].part, Drive):
        return None
    if is_seed(name, draft.mapping[name]):
        return None
    cdrom = "media=cdrom" in draft.mapping[name].split(",")
    return drives.CdDrive(draft) if cdrom else drives.OldDisk(draft)


def open_row(draft: Editing, name: str) -> Panel:
    """The panel that edits row ``name``, which must have one."""
    panel = opened(draft, name)
    if panel is None:
        raise KeyError(f"{name} has nothing to edit")
    return panel


def slot_in(panel: Panel, name: str) -> str:
    """What a panel calls the row it edits: its slot, or nothing for those that hold no list."""
    return name if panel.slots() != [""] else ""


def begin_loose(draft: Editing, unused: str) -> str:
    """Plug a detached disk into the next free slot; answers it, "" when there is none."""
    slot = next_slot(draft)
    if slot:
        drives.plug_in(draft, slot, unused)
    return slot


def open_loose(draft: Editing, slot: str) -> Panel:
    """The panel of a detached disk on its way to a bus."""
    return drives.LooseDisk(draft)
