"""What a rule says, and what it may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vms.config.vmconfig import VMConfig
from vms.hardware.context import NodeFacts
from vms.hardware.drive import Drive
from vms.hardware.plan import machine_version
from vms.schema.types import VolumeId

Severity = Literal["block", "warn", "info"]
GIB = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One thing to say. ``keys`` are the configuration keys it is about; ``fix`` is the change that ends it:
    key → new text, ``None`` to remove the key; ``commands`` are lines to type in the guest."""

    rule: str
    severity: Severity
    keys: tuple[str, ...]
    text: str
    fix: Mapping[str, str | None] | None = None
    commands: str = ""


@dataclass(frozen=True)
class Case:
    """One configuration on one node. ``vmid`` is the number it is to get, while that is not settled."""

    config: VMConfig
    facts: NodeFacts
    vmid: int | None = None

    @property
    def kvm(self) -> bool:
        """Whether the guest's instructions would run on the node's processor."""
        return self.facts.kvm and bool(self.config.value("kvm"))

    @property
    def board(self) -> str:
        """The machine type as configured."""
        found = self.config.get("machine")
        return str(found.type or "pc") if found else "pc"

    @property
    def q35(self) -> bool:
        return "q35" in self.board

    @property
    def board_version(self) -> tuple[int, int]:
        """The version of the board; without a pinned one that of the node's QEMU."""
        found = machine_version(self.board)
        return found[:2] if found else self.facts.version

    def discs(self) -> list[tuple[str, Drive]]:
        """The CD drives with an image in them, cloud-init's own left out."""
        found = [(key, drive) for key, _, drive in self.config.drives() if drive.is_cdrom]
        return [(key, drive) for key, drive in found if not drive.is_empty and not drive.is_cloudinit]

    def first_storage(self) -> str:
        """The storage of the machine's first disk; ``local`` when it has none."""
        for _, _, drive in self.config.drives():
            if not drive.is_cdrom:
                try:
                    return VolumeId.parse(drive.file).storage
                except ValueError:
                    continue
        return "local"


def is_new(drive: Drive) -> bool:
    """Whether the volume is still to be made (``storage:32``)."""
    name = drive.file.partition(":")[2]
    return not drive.file.startswith("/") and name.replace(".", "", 1).isdigit()


def is_driver_disc(drive: Drive) -> bool:
    """Whether a disc brings the VirtIO drivers for Windows, told by its name."""
    return "virtio" in drive.file.rpartition("/")[2].lower()
