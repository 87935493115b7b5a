"""PCI devices of the node handed to the guest."""

from __future__ import annotations

from dataclasses import dataclass

from vms.errors import ConfigError
from vms.schema.option import opt
from vms.schema.propstring import PropertyString

_ADDRESS = r"([0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(\.[0-9a-fA-F])?"


def _identity(label: str, key: str) -> str | None:
    found: str | None = opt(
        label,
        key=key,
        pattern=r"0x[0-9a-fA-F]{1,4}",
        pattern_text="0x and up to four hexadecimal digits",
        hidden=True,
        help="A number the guest reads instead of the device's own.",
        otherwise="The wrong number makes the guest load the wrong driver.",
        why="The device's own by default.",
    )
    return found


@dataclass(frozen=True, kw_only=True)
class HostPci(PropertyString):
    """One PCI device."""

    host: str | None = opt(
        "Device",
        short=True,
        pattern=rf"{_ADDRESS}(;{_ADDRESS})*",
        pattern_text="a PCI address like 0000:01:00.0",
        help="The node's device by its address; several functions are separated by ';'.",
        otherwise="A device the node itself uses disappears from it.",
        why="No default.",
    )
    mapping: str | None = opt(
        "Mapped device",
        pattern=r"[A-Za-z][A-Za-z0-9_-]+",
        pattern_text="a mapping's name",
        help="A name the administrator gave to a device, valid on several nodes.",
        otherwise="Without it the device is named by its address.",
        why="No default.",
    )
    pcie: bool | None = opt(
        "PCI Express",
        default=False,
        help="Show the device as a PCI Express one; needs q35.",
        otherwise="Off, some graphics drivers do not find their card.",
        why="Off by default, because i440fx has no PCI Express.",
    )
    rombar: bool | None = opt(
        "ROM bar",
        default=True,
        help="Let the guest see the device's own firmware.",
        otherwise="Off, the guest cannot boot from the device.",
        why="On by default.",
    )
    romfile: str | None = opt(
        "ROM file",
        pattern=r"(?!.*\.\.)[A-Za-z0-9._/-]{1,200}",
        pattern_text="a file name",
        hidden=True,
        help="A file with the device's firmware, to use instead of its own.",
        otherwise="Some graphics cards do not start without it.",
        why="None by default.",
    )
    x_vga: bool | None = opt(
        "Primary GPU",
        key="x-vga",
        default=False,
        help="This graphics card is the guest's only display.",
        otherwise="Off, the virtual graphics card stays the first one.",
        why="Off by default, because it takes the browser console away.",
    )
    mdev: str | None = opt(
        "Mediated device",
        pattern=r"[A-Za-z0-9._-]{1,64}",
        pattern_text="a mediated device type",
        hidden=True,
        help="The kind of slice to cut out of a card that can be shared.",
        otherwise="Without it the whole card is handed over.",
        why="None by default.",
    )
    legacy_igd: bool | None = opt(
        "Legacy IGD",
        key="legacy-igd",
        default=False,
        hidden=True,
        help="Hand over an Intel graphics unit the old way.",
        otherwise="Off, the modern way is used.",
        why="Off by default.",
    )
    vendor_id: str | None = _identity("Vendor ID", "vendor-id")
    device_id: str | None = _identity("Device ID", "device-id")
    sub_vendor_id: str | None = _identity("Subsystem vendor ID", "sub-vendor-id")
    sub_device_id: str | None = _identity("Subsystem device ID", "sub-device-id")
    driver: str | None = opt(
        "Driver",
        pattern=r"vfio|keep",
        pattern_text="'vfio' or 'keep'",
        hidden=True,
        help="Whether the node's driver is replaced while the guest has the device.",
        otherwise="'keep' is for devices whose own driver can hand them over.",
        why="vfio by default.",
    )

    def check_parts(self, key: str) -> None:
        if (self.host is None) == (self.mapping is None):
            raise ConfigError(key, "needs either 'host' or 'mapping'")
