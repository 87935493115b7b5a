"""The display: graphics card, SPICE, clipboard, keyboard and pointer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vms.errors import ConfigError
from vms.schema.option import opt
from vms.schema.propstring import PropertyString

KEYBOARD = Literal[
    "de",
    "de-ch",
    "da",
    "en-gb",
    "en-us",
    "es",
    "fi",
    "fr",
    "fr-be",
    "fr-ca",
    "fr-ch",
    "hu",
    "is",
    "it",
    "ja",
    "lt",
    "mk",
    "nl",
    "no",
    "pl",
    "pt",
    "pt-br",
    "sl",
    "sv",
    "tr",
]
VGA = Literal[
    "std",
    "cirrus",
    "vmware",
    "qxl",
    "qxl2",
    "qxl3",
    "qxl4",
    "serial0",
    "serial1",
    "serial2",
    "serial3",
    "virtio",
    "virtio-gl",
    "none",
]


@dataclass(frozen=True, kw_only=True)
class Vga(PropertyString):
    """The graphics card."""

    type: VGA | None = opt(
        "Graphic card",
        short=True,
        default="std",
        labels={
            "std": "Standard VGA",
            "cirrus": "Cirrus",
            "vmware": "VMware compatible",
            "qxl": "SPICE",
            "qxl2": "SPICE dual monitor",
            "qxl3": "SPICE three monitors",
            "qxl4": "SPICE four monitors",
            "serial0": "Serial terminal 0",
            "serial1": "Serial terminal 1",
            "serial2": "Serial terminal 2",
            "serial3": "Serial terminal 3",
            "virtio": "VirtIO-GPU",
            "virtio-gl": "VirGL GPU",
            "none": "none",
        },
        help="What the guest draws on, and with it which console you get.",
        otherwise="A serial terminal shows text only; with 'none' there is no console at all.",
        why="Standard VGA: every system has a driver for it.",
    )
    memory: int | None = opt(
        "Video memory",
        minimum=4,
        maximum=512,
        unit="MiB",
        advanced=True,
        help="How much memory the card has; more allows larger screens.",
        otherwise="Too little limits the resolution.",
        why="QEMU's own amount by default, 16 MiB for most cards.",
    )
    clipboard: Literal["vnc"] | None = opt(
        "Clipboard",
        advanced=True,
        help="Share the clipboard with the browser console; the guest needs the SPICE agent.",
        otherwise="Without it text is typed into the guest key by key.",
        why="Off by default, because it needs an agent in the guest.",
    )

    def check_parts(self, key: str) -> None:
        if self.clipboard and (self.type or "std").startswith(("serial", "none")):
            raise ConfigError(key, "a machine without a graphics card has no clipboard", part="clipboard")


@dataclass(frozen=True, kw_only=True)
class SpiceEnhancements(PropertyString):
    """Extras of a SPICE display."""

    foldersharing: bool | None = opt(
        "Folder sharing",
        default=False,
        help="Let the SPICE client share a folder of its computer with the guest.",
        otherwise="Off, no folder can be shared.",
        why="Off by default.",
    )
    videostreaming: Literal["off", "all", "filter"] | None = opt(
        "Video streaming",
        default="off",
        help="Send moving parts of the screen as compressed video.",
        otherwise="Off, videos need a lot of bandwidth but look sharp.",
        why="Off by default.",
    )


@dataclass(frozen=True, kw_only=True)
class DisplayOptions:
    """The plain display options."""

    vga: str | None = opt(
        "Graphic card",
        default="std",
        help="What the guest draws on, and with it which console you get.",
        otherwise="A serial terminal shows text only; with 'none' there is no console at all.",
        why="Standard VGA: every system has a driver for it.",
    )
    spice_enhancements: str | None = opt(
        "Spice Enhancements",
        help="Folder sharing and video compression for a SPICE display.",
        otherwise="They mean nothing without a SPICE display.",
        why="All off by default.",
    )
    keyboard: KEYBOARD | None = opt(
        "Keyboard layout",
        help="The keyboard layout of viewers that do not send key positions.",
        otherwise="The wrong one swaps letters in such viewers; our console does not need it.",
        why="Empty by default.",
    )
    tablet: bool | None = opt(
        "Use tablet for pointer",
        default=True,
        help="Give the guest a pointer that says where it is, so that both pointers stay together.",
        otherwise="Off, the pointer drifts away; an idle guest uses a little less CPU time.",
        why="On by default, because a drifting pointer is hard to use.",
    )
