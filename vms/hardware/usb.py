"""USB devices of the node or of a SPICE client."""

from __future__ import annotations

from dataclasses import dataclass

from vms.errors import ConfigError
from vms.schema.option import opt
from vms.schema.propstring import PropertyString


@dataclass(frozen=True, kw_only=True)
class Usb(PropertyString):
    """One USB device."""

    host: str | None = opt(
        "Device",
        short=True,
        pattern=r"(0x)?[0-9A-Fa-f]{4}:(0x)?[0-9A-Fa-f]{4}|\d{1,3}-\d{1,3}(\.\d{1,3})*|spice",
        pattern_text="a device vvvv:pppp, a port 1-2.3, or 'spice'",
        help="The node's USB device, by its numbers or by the port it is plugged into; or 'spice'.",
        otherwise="By port, whatever is plugged in there belongs to the guest.",
        why="No default.",
    )
    mapping: str | None = opt(
        "Mapped device",
        pattern=r"[A-Za-z][A-Za-z0-9_-]+",
        pattern_text="a mapping's name",
        help="A name the administrator gave to a device, valid on several nodes.",
        otherwise="Without it the device is named by its numbers.",
        why="No default.",
    )
    usb3: bool | None = opt(
        "USB 3",
        default=False,
        help="Connect the device to a USB 3 controller, on older machine versions.",
        otherwise="Off, the device runs at USB 2 speed there.",
        why="Off by default; newer machine versions always use USB 3.",
    )

    def check_parts(self, key: str) -> None:
        if (self.host is None) == (self.mapping is None):
            raise ConfigError(key, "needs either 'host' or 'mapping'")
