"""What all parts of one start need to know, worked out once: machine version, accelerator, guest family."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from vms.errors import ConfigError
from vms.hardware.boot import boot_indexes
from vms.hardware.context import ConfigView, LaunchContext, NodeFacts
from vms.hardware.guest import is_linux, windows_version
from vms.hardware.machine import Machine, hotplug_words
from vms.hardware.pci import PciPlan

_NEWEST_REVISION = 99
_KNOWN_REVISION = 2
"""The highest revision (``+pveN``) the peer ever gave to a machine version."""
_TEMPLATE_KEYS = re.compile(r"(name|scsihw|bios|machine|arch|template|efidisk0|(ide|sata|scsi|virtio)\d+)")


def machine_version(text: str) -> tuple[int, int, int] | None:
    """Version and Proxmox revision in a machine type; ``None`` when it names no version."""
    match = re.search(r"-(\d+)\.(\d+)(?:\.\d+)*(?:\+pve(\d+))?", text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


class Plan:
    """One start: configuration, node, and what follows from both."""

    def __init__(self, config: ConfigView, ctx: LaunchContext) -> None:
        self.template: bool = bool(config.value("template"))
        self.config: ConfigView = config.restricted(_is_template_key) if self.template else config
        self.ctx: LaunchContext = ctx
        self.facts: NodeFacts = ctx.facts
        if ctx.facts.version < (6, 0):
            raise ConfigError(
                "machine", f"QEMU {ctx.facts.qemu_version} is too old, 6.0 is the oldest usable"
            )
        wanted = config.get("arch")
        if wanted and wanted != "x86_64":
            raise ConfigError("arch", f"this node runs x86_64 guests, not {wanted}")
        for key in ("amd-sev", "intel-tdx"):
            if config.get(key) is not None:
                raise ConfigError(key, "this node's processor cannot encrypt the memory of guests")

    @cached_property
    def ostype(self) -> str:
        return str(self.config.value("ostype"))

    @cached_property
    def windows(self) -> int:
        """The Windows generation, 0 for other systems."""
        return windows_version(self.ostype)

    @cached_property
    def linux(self) -> bool:
        return is_linux(self.ostype)

    @cached_property
    def kvm(self) -> bool:
        """Whether the guest's instructions run on the node's CPU."""
        return self.facts.kvm and not self.template and self.config.value("kvm") is not False

    @cached_property
    def board(self) -> Machine:
        found: Machine = self.config.part("machine", Machine)
        return found

    @cached_property
    def _machine(self) -> tuple[str, tuple[int, int, int]]:
        forced = machine_version(self.ctx.machine)
        if forced is None:
            return self._configured()
        if forced[:2] > self.facts.version:
            why = f"QEMU {self.facts.qemu_version} of this node is too old for {self.ctx.machine}"
            raise ConfigError("machine", f"{why}, which the saved memory needs", part="type")
        # A type without a version was the newest revision when it ran.
        said = machine_version(self.board.type or "")
        return self.ctx.machine, (*forced[:2], said[2] if said else _NEWEST_REVISION)

    def _configured(self) -> tuple[str, tuple[int, int, int]]:
        text = self.board.type or "pc"
        base = re.sub(r"(\+pve\d+)?(\.pxe)?$", "", text)
        found = machine_version(text)
        if found is None and self.windows and base in ("pc", "q35"):
            # Windows takes a new board for a new computer, so it never follows the newest one.
            version = self._windows_version()
            base = f"{'pc-q35' if base == 'q35' else 'pc-i440fx'}-{version[0]}.{version[1]}"
            found = (*version, 0)
        if found and (found[:2] > self.facts.version or found[2] > _KNOWN_REVISION):
            why = f"QEMU {self.facts.qemu_version} of this node is too old for {text}"
            raise ConfigError("machine", f"{why}; choose an older version", part="type")
        return base, found or (*self.facts.version, _NEWEST_REVISION)

    def _windows_version(self) -> tuple[int, int]:
        meta = self.config.get("meta")
        made = [int(n) for n in (meta.creation_qemu or "0.0").split(".")[:2]] if meta else [0, 0]
        # Made on a newer node: the newest board of this one comes closest.
        return min((made[0], made[1]) if tuple(made) >= (9, 1) else (5, 1), self.facts.version)

    @property
    def machine_type(self) -> str:
        """The machine type QEMU gets; without Proxmox's revision, which only its own QEMU knows."""
        return self._machine[0]

    @property
    def pinned(self) -> bool:
        """Whether the configuration names a machine version."""
        return machine_version(self.board.type or "") is not None

    def machine_at_least(self, major: int, minor: int, revision: int = 0) -> bool:
        """Whether the machine version is at least this one."""
        return self._machine[1] >= (major, minor, revision)

    def qemu_at_least(self, major: int, minor: int) -> bool:
        """Whether the node's QEMU is at least this version."""
        return self.facts.version >= (major, minor)

    @cached_property
    def old_rom_files(self) -> bool:
        """Whether the machine insists on the network boot ROMs of long ago (``.pxe``)."""
        return (self.board.type or "").endswith(".pxe")

    @cached_property
    def q35(self) -> bool:
        return "q35" in self.machine_type

    @cached_property
    def ovmf(self) -> bool:
        return bool(self.config.value("bios") == "ovmf")

    @cached_property
    def node_graphs(self) -> bool:
        """Whether drives are given as block node graphs rather than ``-drive``."""
        return self.facts.blockdev or self.machine_at_least(10, 0)

    @cached_property
    def display(self) -> str:
        """The graphics card's type, its default filled in."""
        if self.template:
            return "none"
        vga = self.config.get("vga")
        if vga is not None and vga.type:
            return str(vga.type)
        if vga is None and any(part.x_vga for _, _, part in self.config.slots("hostpci")):
            return "none"
        return "cirrus" if 0 < self.windows < 6 else "std"

    def plugs(self, kind: str) -> bool:
        """Whether parts of this kind (a word of ``hotplug``) may be plugged in while the guest runs."""
        return kind in hotplug_words(self.config.value("hotplug"))

    @cached_property
    def boot_index(self) -> dict[str, int]:
        return boot_indexes(self.config)

    def booting(self, key: str) -> dict[str, int]:
        """The boot index of ``key`` as a device option, or nothing."""
        return {"bootindex": self.boot_index[key]} if key in self.boot_index else {}

    @cached_property
    def pci_plan(self) -> PciPlan:
        return PciPlan(self.q35, single=self.config.value("scsihw") == "virtio-scsi-single")

    def pci(self, name: str) -> dict[str, Any]:
        """The bus and address of a device by its name in the PCI plan."""
        return self.pci_plan.place(name)


def _is_template_key(key: str) -> bool:
    return _TEMPLATE_KEYS.fullmatch(key) is not None
