"""The board: chipset, machine version, clock, identity."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from vms.errors import ConfigError
from vms.schema.option import opt, shown
from vms.schema.propstring import PropertyString
from vms.schema.types import uuid as uuid_text

HOTPLUG_WORDS = ("network", "disk", "cpu", "memory", "usb", "cloudinit")
HOTPLUG_DEFAULT = ("network", "disk", "usb")


def hotplug_words(text: str) -> list[str]:
    """The kinds of part a ``hotplug`` value lists; ``1`` is the usual set, ``0`` none."""
    given = {"1": ",".join(HOTPLUG_DEFAULT), "0": ""}.get(text, text)
    return [word for word in re.split(r"[,; ]+", given) if word]


def hotplug(text: str) -> str:
    """``0``, ``1`` or a list of what may be plugged while running."""
    words = hotplug_words(text)
    if text not in ("0", "1") and (not words or any(word not in HOTPLUG_WORDS for word in words)):
        raise ValueError(f"'{shown(text)}' is not 0, 1 or a list of {', '.join(HOTPLUG_WORDS)}")
    return text


def vmgenid(text: str) -> str:
    """A UUID, ``1`` to make one, ``0`` for none."""
    return text if text in ("0", "1") else uuid_text(text)


def start_date(text: str) -> str:
    """``now``, a date or a date with a time."""
    if text != "now" and not re.fullmatch(r"\d{4}-\d{1,2}-\d{1,2}(T\d{1,2}:\d{1,2}:\d{1,2})?", text):
        raise ValueError(f"'{shown(text)}' is not 'now', a date 2006-06-17 or 2006-06-17T16:01:21")
    return text


@dataclass(frozen=True, kw_only=True)
class Machine(PropertyString):
    """The board the guest sees."""

    type: str | None = opt(
        "Machine",
        short=True,
        default="pc",
        max_length=40,
        pattern=(
            r"pc|pc(-i440fx)?-\d+(\.\d+)+(\+pve\d+)?(\.pxe)?"
            r"|q35|pc-q35-\d+(\.\d+)+(\+pve\d+)?(\.pxe)?|virt(-\d+(\.\d+)+)?(\+pve\d+)?"
        ),
        pattern_text="a machine type such as pc, q35 or pc-q35-9.2",
        help="The board: i440fx is the classic PC, q35 a newer one with PCI Express.",
        otherwise="Changing it later moves every device, so Windows may ask to be activated again.",
        why="q35 for new machines, except for systems older than it. The version is pinned at creation.",
    )
    viommu: Literal["intel", "virtio"] | None = opt(
        "vIOMMU",
        advanced=True,
        help="Give the guest an IOMMU of its own, which it needs to pass devices on to its own guests.",
        otherwise="Without it nested pass-through does not work.",
        why="None by default, because it slows every device a little.",
    )
    aw_bits: float | None = opt(
        "vIOMMU address width",
        key="aw-bits",
        minimum=32,
        maximum=64,
        advanced=True,
        help="How wide the addresses are that the vIOMMU translates.",
        otherwise="An Intel vIOMMU takes 39 or 48 only.",
        why="Empty by default: QEMU chooses.",
    )
    enable_s3: bool | None = opt(
        "Suspend to RAM (S3)",
        key="enable-s3",
        advanced=True,
        help="Let the guest put itself to sleep.",
        otherwise="On, a guest may fall asleep and look as if it had crashed.",
        why="Off for new machine versions, because a sleeping server is hard to wake.",
    )
    enable_s4: bool | None = opt(
        "Suspend to disk (S4)",
        key="enable-s4",
        advanced=True,
        help="Let the guest hibernate by itself.",
        otherwise="On, a guest may save itself and power off, which looks like a crash.",
        why="Off for new machine versions, for the same reason.",
    )

    def check_parts(self, key: str) -> None:
        if self.viommu == "intel" and "q35" not in (self.type or ""):
            raise ConfigError(key, "an Intel vIOMMU needs a q35 machine", part="viommu")
        if self.aw_bits is not None and self.viommu is None:
            raise ConfigError(key, "means nothing without viommu", part="aw-bits")
        if self.viommu == "intel" and self.aw_bits not in (None, 39, 48):
            raise ConfigError(key, "an Intel vIOMMU takes 39 or 48", part="aw-bits")


_TEXT = r"[A-Za-z0-9+/]+={0,2}"
_TEXT_WORDS = "letters, digits, + and / (or base64)"


@dataclass(frozen=True, kw_only=True)
class Smbios1(PropertyString):
    """The identity the guest reads from its firmware."""

    uuid: str | None = opt(
        "UUID",
        check=uuid_text,
        help="The machine's unique number, which systems and licences recognise it by.",
        otherwise="A changed number looks like other hardware; Windows may ask to be activated again.",
        why="A random one is made at creation.",
    )
    manufacturer: str | None = opt(
        "Manufacturer",
        pattern=_TEXT,
        pattern_text=_TEXT_WORDS,
        help="Who the guest thinks built the machine.",
        otherwise="Some software looks for a certain maker.",
        why="Empty by default: QEMU.",
    )
    product: str | None = opt(
        "Product",
        pattern=_TEXT,
        pattern_text=_TEXT_WORDS,
        help="The model name the guest reads.",
        otherwise="Some software looks for a certain model.",
        why="Empty by default: QEMU's machine name.",
    )
    version: str | None = opt(
        "Version",
        pattern=_TEXT,
        pattern_text=_TEXT_WORDS,
        help="The model's version the guest reads.",
        otherwise="Hardly any software looks at it.",
        why="Empty by default.",
    )
    serial: str | None = opt(
        "Serial",
        pattern=_TEXT,
        pattern_text=_TEXT_WORDS,
        help="The serial number the guest reads; cloud-init takes settings from it.",
        otherwise="Inventory tools may take two machines without one for the same.",
        why="Empty by default.",
    )
    sku: str | None = opt(
        "SKU",
        pattern=_TEXT,
        pattern_text=_TEXT_WORDS,
        help="The order number the guest reads.",
        otherwise="Hardly any software looks at it.",
        why="Empty by default.",
    )
    family: str | None = opt(
        "Family",
        pattern=_TEXT,
        pattern_text=_TEXT_WORDS,
        help="The product family the guest reads.",
        otherwise="Hardly any software looks at it.",
        why="Empty by default.",
    )
    base64: bool | None = opt(
        "Base64",
        default=False,
        hidden=True,
        help="The texts are stored in base64, so that they may hold any character.",
        otherwise="Off, they are taken as they stand.",
        why="Set by the form when a text needs it.",
    )


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """The plain options of board, power and clock."""

    machine: str | None = opt(
        "Machine",
        default="pc",
        help="The board: i440fx is the classic PC, q35 a newer one with PCI Express.",
        otherwise="Changing it later moves every device, so Windows may ask to be activated again.",
        why="q35 for new machines, except for systems older than it. The version is pinned at creation.",
    )
    arch: Literal["x86_64", "aarch64"] | None = opt(
        "vCPU Architecture",
        advanced=True,
        labels={"x86_64": "x86 (64-bit)", "aarch64": "ARM (64-bit)"},
        help="The processor family of the guest.",
        otherwise="A family other than the node's is translated and very slow.",
        why="The node's own family by default.",
    )
    acpi: bool | None = opt(
        "ACPI support",
        default=True,
        help="Let the guest manage power the usual way, with a power button.",
        otherwise="Off, 'Shutdown' does not reach the guest and newer systems do not boot.",
        why="On by default; only very old systems dislike it.",
    )
    reboot: bool | None = opt(
        "Allow reboot",
        default=True,
        hidden=True,
        help="A reboot inside the guest restarts it.",
        otherwise="Off, a reboot inside the guest switches it off.",
        why="On by default, as on a real machine.",
    )
    freeze: bool | None = opt(
        "Freeze CPU at startup",
        default=False,
        help="Start with the CPU halted until somebody presses Resume.",
        otherwise="On, the guest does nothing by itself after Start.",
        why="Off by default; it helps to watch the very first boot messages.",
    )
    hotplug: str | None = opt(
        "Hotplug",
        default=",".join(HOTPLUG_DEFAULT),
        check=hotplug,
        max_length=64,
        help="Which kinds of device may be added or removed while the guest runs.",
        otherwise="What is not listed waits for the next start.",
        why="Network, disk and USB by default: guests of all kinds cope with these.",
    )
    localtime: bool | None = opt(
        "Use local time for RTC",
        help="The clock on the board shows local time instead of UTC.",
        otherwise="The wrong choice shows in the guest as a clock that is some hours off.",
        why="Follows the system: Windows expects local time, the others UTC.",
    )
    startdate: str | None = opt(
        "RTC start date",
        default="now",
        check=start_date,
        help="What the clock on the board says at start: 'now' or a date.",
        otherwise="A date in the past breaks encrypted connections in the guest.",
        why="'now' by default.",
    )
    tdf: bool | None = opt(
        "Time drift fix",
        default=False,
        hidden=True,
        help="Catch up lost clock ticks instead of dropping them.",
        otherwise="Off, an old system's clock may fall behind under load.",
        why="Off by default; Windows gets it by itself.",
    )
    smbios1: str | None = opt(
        "SMBIOS settings (type1)",
        max_length=512,
        help="The identity the guest reads from its firmware: UUID, maker, model, serial number.",
        otherwise="A changed identity looks like other hardware to the guest.",
        why="A random UUID is made at creation, the rest is empty.",
    )
    vmgenid: str | None = opt(
        "VM generation ID",
        check=vmgenid,
        hidden=True,
        help="A number that changes when the machine was copied or rolled back, so that the guest notices.",
        otherwise="Without it a cloned domain controller may confuse its partners.",
        why="A random one is made at creation.",
    )
