"""What stands on which tab, in Proxmox's order.

A name is an option of the schema (``cores``, ``cpu.cputype``) or a choice only the wizard makes
(:mod:`vms.forms.extras`). On the two tabs that hold lists, a name without a dot is a part of the drive or
network card being edited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vms.config.seeds import ROLES
from vms.forms import disks, memory, network, processors
from vms.forms.panel import Section
from vms.forms.places import BUSES


@dataclass(frozen=True)
class Tab:
    """One step. ``lists``: what it holds several of; ``keys``: the configuration keys that are its own."""

    slug: str
    label: str
    sections: tuple[Section, ...] = ()
    lists: str = ""
    keys: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for section in self.sections for name in section.names)


TABS: tuple[Tab, ...] = (
    Tab(
        "general",
        "General",
        (
            Section(("node", "vmid", "name", "pool")),
            Section(("onboot", "startup.order", "startup.up", "startup.down", "arch", "tags"), advanced=True),
        ),
        keys=("name", "onboot", "startup", "arch", "tags"),
    ),
    Tab(
        "os",
        "OS",
        (
            Section(("medium", "iso_storage", "iso", "cloud_image"), "Installation medium"),
            Section(
                (
                    *("ciuser", "cipassword", "sshkeys", "ipconfig0.ip", "ipconfig0.gw"),
                    *("ipconfig0.ip6", "ipconfig0.gw6", "nameserver", "searchdomain", "ciupgrade"),
                ),
                "Cloud-init",
            ),
            Section(tuple(f"cicustom.{role}" for role in ROLES), "Custom cloud-init files", folded=True),
            Section(("ostype_group", "ostype", "drivers", "drivers_iso"), "Guest OS"),
        ),
        keys=(
            *("ostype", "ide0", "ide2", "ipconfig0", "ciuser", "cipassword", "sshkeys"),
            *("nameserver", "searchdomain", "ciupgrade", "cicustom"),
        ),
    ),
    Tab(
        "system",
        "System",
        (
            Section(("vga.type", "machine.type")),
            Section(("bios", "efi", "efi_storage", "efi_format", "efidisk0.pre-enrolled-keys"), "Firmware"),
            Section(("scsihw", "agent.enabled"), "Controller and agent"),
            Section(("tpm", "tpm_storage", "tpmstate0.version"), "TPM"),
            Section(("machine_version",), advanced=True),
        ),
        keys=("vga", "machine", "bios", "efidisk0", "scsihw", "agent", "tpmstate0"),
    ),
    Tab("disks", "Disks", disks.SECTIONS, lists="disk"),
    Tab("cpu", "CPU", processors.SECTIONS, keys=processors.KEYS),
    Tab("memory", "Memory", memory.SECTIONS, keys=memory.KEYS),
    Tab("network", "Network", network.SECTIONS, lists="network device"),
    Tab("confirm", "Confirm"),
)

SLUGS = tuple(tab.slug for tab in TABS)
BY_SLUG = {tab.slug: tab for tab in TABS}


def tab_of(key: str, mapping: Mapping[str, str] | None = None) -> str:
    """The slug of the tab that holds configuration key ``key``; "" when none does.

    A drive's tab depends on what is in it, in ``mapping``: CD drives are the OS tab's.
    """
    kind = key.rstrip("0123456789")
    if kind in BUSES:
        known = (mapping or {}).get(key)
        cdrom = key in BY_SLUG["os"].keys if known is None else "media=cdrom" in known
        return "os" if cdrom else "disks"
    for tab in TABS:
        if key in tab.keys:
            return tab.slug
    return "network" if kind == "net" else "general" if key in ("vmid", "node", "pool") else ""
