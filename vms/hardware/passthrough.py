"""PCI devices of the node in the guest, and the IOMMU the guest sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vms.errors import ConfigError
from vms.hardware.context import NodeFacts
from vms.hardware.hostpci import HostPci
from vms.hardware.parts import Device, Part
from vms.hardware.plan import Plan

_IDENTITY = {
    "vendor_id": "x-pci-vendor-id",
    "device_id": "x-pci-device-id",
    "sub_vendor_id": "x-pci-sub-vendor-id",
    "sub_device_id": "x-pci-sub-device-id",
}


def iommu_intel(plan: Plan) -> Iterator[Part]:
    """An Intel IOMMU; it has to be the first device."""
    if plan.board.viommu == "intel":
        options: dict[str, Any] = {"id": "viommu", "intremap": "on", "caching-mode": True}
        yield Device("machine", "intel-iommu", {**options, **_width(plan)})


def iommu_virtio(plan: Plan) -> Iterator[Part]:
    """A VirtIO IOMMU."""
    if plan.board.viommu == "virtio":
        yield Device("machine", "virtio-iommu-pci", {"id": "viommu", **_width(plan)})


def _width(plan: Plan) -> dict[str, int]:
    return {"aw-bits": int(plan.board.aw_bits)} if plan.board.aw_bits is not None else {}


def host_devices(plan: Plan) -> Iterator[Part]:
    """Every passed-through device; several functions of one chip stay together."""
    for key, index, part in plan.config.slots("hostpci"):
        if part.pcie and not plan.q35:
            raise ConfigError(key, "PCI Express needs a q35 machine", part="pcie")
        yield from _host_device(plan, key, index, part)


def _place(plan: Plan, key: str, index: int, part: HostPci) -> dict[str, Any]:
    if part.pcie:
        return {"bus": f"ich9-pcie-port-{index + 1}", "addr": "0x0"}
    if not part.legacy_igd:
        return plan.pci(key)
    if plan.q35 or plan.display != "none":
        raise ConfigError(key, "needs an i440fx board without another graphics card", part="legacy-igd")
    return {"bus": "pci.0", "addr": "0x2"}


def _host_device(plan: Plan, key: str, index: int, part: HostPci) -> Iterator[Part]:
    if part.mdev:
        raise ConfigError(key, "this node cannot cut slices out of its cards", part="mdev")
    if part.pcie and index > 3:
        yield _root_port(key, index)
    addresses = functions(part, plan.facts)
    if not addresses:
        raise ConfigError(key, f"there is no PCI mapping '{part.mapping}' on this node", part="mapping")
    several = len(addresses) > 1
    for function, address in enumerate(addresses):
        options: dict[str, Any] = {"host": address, "id": f"{key}.{function}" if several else key}
        place = _place(plan, key, index, part)
        if several:
            place = {**place, "addr": f"{place['addr']}.{function:x}"}
        options |= place
        if function == 0:
            options |= {"multifunction": True} if several else {}
            options |= _first(plan, key, part)
        yield Device(key, "vfio-pci", options)


def _first(plan: Plan, key: str, part: HostPci) -> dict[str, Any]:
    found: dict[str, Any] = dict(plan.booting(key))
    if part.rombar is False:
        found["rombar"] = 0
    if part.romfile:
        found["romfile"] = f"/usr/share/kvm/{part.romfile}"
    # UEFI needs no help to draw on a card; only the BIOS has to be routed to it.
    if part.x_vga and not plan.ovmf:
        found["x-vga"] = True
    for attr, name in _IDENTITY.items():
        text = getattr(part, attr)
        if text:
            found[name] = int(text, 16)
    return found


def functions(part: HostPci, facts: NodeFacts) -> list[str]:
    """The full addresses of what is passed through; empty for a mapping this node does not have.

    An address without a function means all the functions the device has.
    """
    text = part.host or facts.pci_mappings.get(part.mapping or "", "")
    found: list[str] = []
    for address in filter(None, text.split(";")):
        full = address if address.count(":") == 2 else f"0000:{address}"
        whole = sorted(name for name in facts.pci_devices if name.startswith(f"{full}."))
        found += [full] if "." in full else whole or [f"{full}.0"]
    return found


def _root_port(key: str, index: int) -> Device:
    port = index + 1
    options = {
        "id": f"ich9-pcie-port-{port}",
        "addr": f"{0x10 + (index - 4) // 8:x}.{(index - 4) % 8}",
        "x-speed": "16",
        "x-width": "32",
        "multifunction": True,
        "bus": "pcie.0",
        "port": port,
        "chassis": port,
    }
    return Device(key, "pcie-root-port", options)
