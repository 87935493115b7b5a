"""The four buses a drive can sit on, and what each adds to a drive; the SCSI controller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from vms.errors import ConfigError
from vms.hardware.drive import Drive
from vms.schema.option import opt
from vms.schema.types import url_encoded

_SSD_HELP = "Tell the guest that the disk has no turning plates."
_SSD_OTHERWISE = "Off, a guest may order its writes as for a turning disk, and Windows may defragment it."
_WWN = r"0x[0-9a-fA-F]{16}"


def _ssd() -> bool | None:
    found: bool | None = opt(
        "SSD emulation",
        default=False,
        advanced=True,
        help=_SSD_HELP,
        otherwise=_SSD_OTHERWISE,
        why="Off by default; it changes only what the guest believes.",
    )
    return found


def _wwn() -> str | None:
    found: str | None = opt(
        "World wide name",
        pattern=_WWN,
        pattern_text="0x and 16 hexadecimal digits",
        advanced=True,
        help="A number that names this disk uniquely, as storage networks use.",
        otherwise="Without it the guest tells disks apart by serial number or place.",
        why="Empty by default.",
    )
    return found


def _iothread() -> bool | None:
    found: bool | None = opt(
        "IO thread",
        default=False,
        help="Give this disk a thread of its own, so that a busy disk does not slow the others.",
        otherwise="Off, all disks share QEMU's main thread.",
        why="On in the wizard for VirtIO Block and for SCSI with one controller per disk.",
    )
    return found


def _readonly() -> bool | None:
    found: bool | None = opt(
        "Read-only",
        key="ro",
        default=False,
        advanced=True,
        help="The guest may read this disk but not write to it.",
        otherwise="Off, the guest may write.",
        why="Off by default.",
    )
    return found


@dataclass(frozen=True, kw_only=True)
class IdeDrive(Drive):
    """A drive on the IDE bus."""

    bus: ClassVar[str] = "ide"

    ssd: bool | None = _ssd()
    wwn: str | None = _wwn()
    model: str | None = opt(
        "Model",
        check=url_encoded(40),
        max_length=120,
        advanced=True,
        help="The model name the guest reads from the disk.",
        otherwise="Some software looks for a certain model.",
        why="Empty by default: QEMU's own name.",
    )


@dataclass(frozen=True, kw_only=True)
class SataDrive(Drive):
    """A drive on the SATA bus."""

    bus: ClassVar[str] = "sata"

    ssd: bool | None = _ssd()
    wwn: str | None = _wwn()


@dataclass(frozen=True, kw_only=True)
class VirtioDrive(Drive):
    """A VirtIO block device."""

    bus: ClassVar[str] = "virtio"

    iothread: bool | None = _iothread()
    read_only: bool | None = _readonly()

    def check_parts(self, key: str) -> None:
        super().check_parts(key)
        if self.is_cdrom:
            raise ConfigError(key, "VirtIO Block has no CD drives; use IDE, SATA or SCSI", part="media")


@dataclass(frozen=True, kw_only=True)
class ScsiDrive(Drive):
    """A drive on a SCSI controller."""

    bus: ClassVar[str] = "scsi"

    ssd: bool | None = _ssd()
    wwn: str | None = _wwn()
    iothread: bool | None = _iothread()
    read_only: bool | None = _readonly()
    vendor: str | None = opt(
        "Vendor",
        pattern=r"[A-Za-z0-9_ -]{1,8}",
        pattern_text="1 to 8 letters, digits, blanks, _ or -",
        advanced=True,
        help="The maker's name the guest reads from the disk.",
        otherwise="Some software looks for a certain maker.",
        why="Empty by default: QEMU.",
    )
    product: str | None = opt(
        "Product",
        pattern=r"[A-Za-z0-9_ -]{1,16}",
        pattern_text="1 to 16 letters, digits, blanks, _ or -",
        advanced=True,
        help="The product name the guest reads from the disk.",
        otherwise="Some software looks for a certain product.",
        why="Empty by default: QEMU HARDDISK.",
    )
    queues: int | None = opt(
        "Queues",
        minimum=2,
        maximum=1021,
        advanced=True,
        help="How many request queues the disk's controller has.",
        otherwise="More queues than guest CPUs bring nothing.",
        why="QEMU's own number by default, one per guest CPU.",
    )
    scsiblock: bool | None = opt(
        "SCSI pass-through",
        default=False,
        advanced=True,
        help="Hand the guest's SCSI commands to a real disk as they are.",
        otherwise="Off, QEMU answers them itself. On, a faulty guest can disturb the node's disk.",
        why="Off by default; it needs a whole disk of the node.",
    )


DRIVES: dict[str, type[Drive]] = {
    "ide": IdeDrive,
    "sata": SataDrive,
    "scsi": ScsiDrive,
    "virtio": VirtioDrive,
}
"""Bus → its kind of drive."""

BUS_LABELS = {"ide": "IDE", "sata": "SATA", "virtio": "VirtIO Block", "scsi": "SCSI"}
"""Buses in the order the wizard offers them."""

SCSIHW = Literal["lsi", "lsi53c810", "virtio-scsi-pci", "virtio-scsi-single", "megasas", "pvscsi"]


@dataclass(frozen=True, kw_only=True)
class ControllerOptions:
    """The kind of SCSI controller."""

    scsihw: SCSIHW | None = opt(
        "SCSI controller",
        default="lsi",
        labels={
            "lsi": "LSI 53C895A",
            "lsi53c810": "LSI 53C810",
            "megasas": "MegaRAID SAS 8708EM2",
            "virtio-scsi-pci": "VirtIO SCSI",
            "virtio-scsi-single": "VirtIO SCSI single",
            "pvscsi": "VMware PVSCSI",
        },
        help="The card that SCSI disks hang on.",
        otherwise="Windows needs a driver for the VirtIO kinds; the LSI kinds are much slower.",
        why="VirtIO SCSI single: the fastest, and each disk can have a thread of its own.",
    )
