"""Serial and parallel ports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vms.schema.option import opt
from vms.schema.propstring import PropertyString


@dataclass(frozen=True, kw_only=True)
class Serial(PropertyString):
    """One serial port."""

    port: str = opt(
        "Port",
        required=True,
        short=True,
        pattern=r"socket|/dev/(?!.*\.\.)[A-Za-z0-9._/+-]{1,200}",
        pattern_text="'socket' or a device like /dev/ttyS0",
        help="'socket' for a terminal in the browser, or a serial device of the node.",
        otherwise="Without a port there is no text console when the graphics fail.",
        why="'socket', which needs no hardware.",
    )


@dataclass(frozen=True, kw_only=True)
class Parallel(PropertyString):
    """One parallel port."""

    port: str = opt(
        "Port",
        required=True,
        short=True,
        pattern=r"/dev/(parport\d+|usb/lp\d+)",
        pattern_text="a device like /dev/parport0 or /dev/usb/lp0",
        help="The node's parallel port or USB printer the guest may use.",
        otherwise="Without it the guest has no parallel port.",
        why="None by default; only an operator may set it.",
    )


PORTS = 4


def terminals(options: Mapping[str, object]) -> list[int]:
    """The numbers of the serial ports of a configuration that are terminals in the browser (``socket``)."""
    return [number for number in range(PORTS) if options.get(f"serial{number}") == "socket"]


def display_of(options: Mapping[str, object]) -> str:
    """The kind of graphic card a configuration names (``serial0``, ``none``, ``std``…) or ""."""
    for part in str(options.get("vga", "")).split(","):
        key, given, value = part.partition("=")
        if not given or key == "type":
            return value if given else key
    return ""
