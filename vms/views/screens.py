"""The ways to look at a VM, as a menu offers them."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from vms.hardware.screens import no_spice
from vms.hardware.serial import display_of, terminals
from vms.models import VM

NO_SCREEN = "The VM has no screen: its display is none or a serial terminal."
NO_SERIAL = "The VM has no serial port. Add one, as a terminal, in Hardware."


def screens(vm: VM, refused: str) -> list[dict[str, Any]]:
    """The lines of the menu: the screen, then the serial ports. ``refused`` says why none can be opened."""
    built = bool(vm.node.facts.get("spice", True))
    spice = no_spice(display_of(vm.options), built=built)
    no_screen = NO_SCREEN if display_of(vm.options).startswith(("none", "serial")) else ""
    ports = terminals(vm.options)
    lines = [
        {
            "label": f"Serial terminal {port}" if len(ports) > 1 else "Serial terminal",
            "href": reverse("console:terminal", args=[vm.vmid, port]),
            "reason": refused,
        }
        for port in ports
    ]
    return [
        {
            "label": "noVNC",
            "href": reverse("console:vm_console", args=[vm.vmid]),
            "reason": refused or no_screen,
        },
        {"label": "SPICE", "href": reverse("console:spice", args=[vm.vmid]), "reason": refused or spice},
        *(lines or [{"label": "Serial terminal", "href": "", "reason": refused or NO_SERIAL}]),
    ]
