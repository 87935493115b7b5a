"""Boot order: the list of today, and the letters of old."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from vms.hardware.context import ConfigView
from vms.schema.option import opt, shown
from vms.schema.propstring import PropertyString

_DEVICE = r"(?:ide|sata|scsi|virtio|net|usb|hostpci)\d{1,2}"


def device_list(text: str) -> str:
    """Boot devices separated by semicolons; may be empty."""
    seen: set[str] = set()
    for device in filter(None, text.split(";")):
        if not re.fullmatch(_DEVICE, device):
            raise ValueError(f"'{shown(device)}' is not a boot device; write keys like scsi0;ide2;net0")
        if device in seen:
            raise ValueError(f"{device} is listed twice")
        seen.add(device)
    return text


def boot_disk(text: str) -> str:
    """The key of a drive."""
    if not re.fullmatch(r"(ide|sata|scsi|virtio)\d{1,2}", text):
        raise ValueError(f"'{shown(text)}' is not a drive; write a key like scsi0")
    return text


@dataclass(frozen=True, kw_only=True)
class Boot(PropertyString):
    """Which devices the firmware tries, in which order."""

    legacy: str | None = opt(
        "Boot order (letters)",
        short=True,
        pattern=r"[acdn]{1,4}",
        pattern_text="one to four of the letters a, c, d, n",
        hidden=True,
        help="The old form: c is the boot disk, d the CD drives, n the network.",
        otherwise="Letters cannot tell two disks apart; use the list instead.",
        why="Kept so that old files can be read.",
    )
    order: str | None = opt(
        "Boot Order",
        check=device_list,
        max_length=1024,
        help="The devices the firmware tries, first to last, like scsi0;ide2;net0.",
        otherwise="A device that is not listed is never booted from.",
        why="The first disk, the CD drive, then the network: an installed system boots at once.",
    )

    @classmethod
    def parse(cls, text: str, key: str) -> Self:
        """Read a boot order. A value of blanks means: nothing is booted."""
        if not text.strip():
            return cls(order="")
        return super().parse(text, key)

    @property
    def devices(self) -> list[str]:
        """The listed devices, in order."""
        return [device for device in (self.order or "").split(";") if device]


@dataclass(frozen=True, kw_only=True)
class BootOptions:
    """The plain boot options."""

    boot: str | None = opt(
        "Boot Order",
        help="The devices the firmware tries, first to last.",
        otherwise="A device that is not listed is never booted from.",
        why="The first disk, the CD drive, then the network: an installed system boots at once.",
    )
    bootdisk: str | None = opt(
        "Boot disk (old)",
        check=boot_disk,
        max_length=10,
        hidden=True,
        help="The disk that the letter c of an old boot order means.",
        otherwise="Without it an old boot order boots from no disk.",
        why="Kept so that old files can be read.",
    )


def boot_indexes(config: ConfigView) -> dict[str, int]:
    """Device key → boot index. A listed device gets 100 and up; the letters of old a hundred each."""
    boot = config.get("boot")
    if boot is not None and boot.legacy is None:
        return {device: 100 + place for place, device in enumerate(boot.devices)}
    found: dict[str, int] = {}
    drives = list(config.drives())
    disks = [key for key, _, drive in drives if not drive.is_cdrom or drive.is_cloudinit]
    discs = [key for key, _, drive in drives if drive.is_cdrom and not drive.is_cloudinit]
    for place, letter in enumerate(boot.legacy if boot else "cdn"):
        start = 100 * (place + 1)
        if letter == "c" and config.get("bootdisk") in disks:
            disk = config.get("bootdisk")
            found[disk] = start + disks.index(disk)
        elif letter == "d":
            found.update({key: start + offset for offset, key in enumerate(discs)})
        elif letter == "n":
            cards = [key for key, _, _ in config.slots("net")]
            found.update({key: start + offset for offset, key in enumerate(cards)})
    return found
