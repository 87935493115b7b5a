"""The PCI plan: every device has its fixed place, so that adding one never moves another.

The places are the peer's, so a guest moved here sees the same hardware. On q35 the conventional buses
``pci.0`` … ``pci.3`` hang below a PCI bridge of a fixed tree of chipset devices.
"""

from __future__ import annotations

from typing import Any

from vms.hardware.parts import Device

BRIDGE_KEY = "machine"


def _places() -> dict[str, tuple[int, int]]:
    """Device name → (bus number, slot)."""
    found = {"vga": (0, 2), "balloon0": (0, 3), "watchdog": (0, 4), "pci.3": (0, 5), "ahci0": (0, 7)}
    found |= {"scsihw0": (0, 5), "scsihw1": (0, 6), "qga0": (0, 8), "spice": (0, 9)}
    found |= {f"virtio{n}": (0, 10 + n) for n in range(6)}
    found |= {f"virtio{n}": (2, n - 5) for n in range(6, 16)}
    found |= {"hostpci0": (0, 16), "hostpci1": (0, 17), "hostpci2": (0, 27), "hostpci3": (0, 28)}
    found |= {f"hostpci{n}": (2, 9 + n) for n in range(4, 16)}
    found |= {f"net{n}": (0, 18 + n) for n in range(6)}
    found |= {f"net{n}": (1, n - 5) for n in range(6, 32)}
    found |= {"vga1": (0, 24), "vga2": (0, 25), "vga3": (0, 26), "pci.1": (0, 30), "pci.2": (0, 31)}
    found |= {"xhci": (1, 27), "pci.4": (1, 28), "rng0": (1, 29), "ivshmem": (2, 11), "audio0": (2, 12)}
    found |= {f"virtioscsi{n}": (3, n + 1) for n in range(31)}
    found |= {f"scsihw{n}": (4, n - 1) for n in range(2, 5)}
    return found


PLACES = _places()


class PciPlan:
    """The places of one machine, and which bridges they need."""

    def __init__(self, q35: bool, *, single: bool) -> None:
        self.q35 = q35
        self._bridges = {1, 2, 3} if single else {1, 2}

    def place(self, name: str) -> dict[str, Any]:
        """``bus`` and ``addr`` of a device."""
        if name == "vga" and self.q35:
            return {"bus": "pcie.0", "addr": "0x1"}
        bus, slot = PLACES[name]
        if bus:
            self._bridges.add(bus)
        return {"bus": f"pci.{bus}", "addr": f"{slot:#x}"}

    def bridges(self) -> list[Device]:
        """The bridges of the buses in use, in ascending order. q35 brings the first three along."""
        wanted = sorted(n for n in self._bridges if not self.q35 or n > 3)
        return [
            Device(
                BRIDGE_KEY,
                "pci-bridge",
                {"id": f"pci.{n}", "chassis_nr": n, **self.place(f"pci.{n}")},
            )
            for n in wanted
        ]


def q35_topology(modern: bool) -> list[Device]:
    """The fixed devices of a q35 board: USB, sound controller, root ports, conventional buses.

    ``modern`` machines (4.0 and newer) have QEMU's own root ports with a fast link, older ones Intel's.
    """

    def device(driver: str, name: str, **options: Any) -> Device:
        return Device(BRIDGE_KEY, driver, {"id": name, "bus": "pcie.0", **options})

    found = [
        *usb_companions("ehci", 1, "pcie.0", 0x1D),
        *usb_companions("ehci-2", 2, "pcie.0", 0x1A),
        device("ich9-intel-hda", "audio0", addr="1b.0"),
    ]
    speed = {"x-speed": "16", "x-width": "32"} if modern else {}
    driver = "pcie-root-port" if modern else "ioh3420"
    for port in range(1, 5):
        found.append(
            device(
                driver,
                f"ich9-pcie-port-{port}",
                **speed,
                multifunction=True,
                addr=f"1c.{port - 1}",
                port=port,
                chassis=port,
            )
        )
    found.append(device("i82801b11-bridge", "pcidmi", addr="1e.0"))
    for number in range(4):
        options = {"id": f"pci.{number}", "bus": "pcidmi", "addr": f"{number + 1}.0"}
        found.append(Device(BRIDGE_KEY, "pci-bridge", {**options, "chassis_nr": number + 1}))
    return found


def usb_companions(name: str, number: int, bus: str, slot: int) -> list[Device]:
    """A USB 2 controller with its three USB 1 companions, as one chip with four functions."""
    chip = {"multifunction": True, "bus": bus}
    found = [Device(BRIDGE_KEY, f"ich9-usb-ehci{number}", {"id": name, **chip, "addr": f"{slot:x}.7"})]
    for index in range(3):
        port = 3 * (number - 1) + index + 1
        found.append(
            Device(
                BRIDGE_KEY,
                f"ich9-usb-uhci{port}",
                {
                    "id": f"uhci-{port}",
                    **chip,
                    "addr": f"{slot:x}.{index}",
                    "masterbus": f"{name}.0",
                    "firstport": 2 * index,
                },
            )
        )
    return found
