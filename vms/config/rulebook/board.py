"""The board and what is plugged into it: passed-through devices, displays, its version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vms.config.creation import pinned_machine
from vms.config.finding import Case, Finding
from vms.hardware.guest import windows_version
from vms.hardware.hostpci import HostPci
from vms.hardware.machine import Machine
from vms.hardware.passthrough import functions
from vms.hardware.plan import machine_version

_EXPRESS_ONLY = ("03", "0108")
"""PCI classes that want PCI Express: graphics cards and NVMe disks."""
_CLIPBOARD_MOVES = (10, 1)


def passed_through(case: Case) -> Iterator[Finding]:
    """A device of the node has to be there, and behind an IOMMU. Nothing is said when nobody looked."""
    known = case.facts.pci_devices
    for key, _, part in case.config.slots("hostpci"):
        found = functions(part, case.facts)
        if not found:
            text = f"{key}: this node has no PCI mapping '{part.mapping}'."
            yield Finding("hostpci", "block", (key,), text, {key: None})
        for address in found if known else ():
            device = known.get(address)
            if device is None:
                text = f"{key}: this node has no PCI device {address}."
                yield Finding("hostpci", "block", (key,), text, {key: None})
            elif device.get("iommu_group", 0) is None:
                text = f"{key}: the node's IOMMU is off, {address} cannot be handed to a guest."
                yield Finding("hostpci", "block", (key,), text, {key: None})
    for key, _, usb in case.config.slots("usb"):
        if usb.mapping and usb.mapping not in case.facts.usb_mappings:
            text = f"{key}: this node has no USB mapping '{usb.mapping}'."
            yield Finding("usb", "block", (key,), text, {key: None})


def shared_folders(case: Case) -> Iterator[Finding]:
    """A folder of the node has to have a name there, and a program that shares it."""
    for key, _, share in case.config.slots("virtiofs"):
        if share.dirid not in case.facts.folder_mappings:
            text = (
                f"{key}: this node shares no folder '{share.dirid}'; an operator names it in mappings.conf."
            )
            yield Finding("virtiofs", "block", (key,), text, {key: None})
        elif not case.facts.virtiofsd:
            text = f"{key}: this node has no virtiofsd, the program that shares folders."
            yield Finding("virtiofs", "block", (key,), text, {key: None})


def graphics_pass_through(case: Case) -> Iterator[Finding]:
    """R23: graphics cards and NVMe disks want PCI Express, which i440fx has not."""
    keys = [key for key, _, part in case.config.slots("hostpci") if _wants_express(case, part)]
    if not keys or case.q35:
        return
    board: Machine = case.config.part("machine", Machine)
    fix: dict[str, str | None] = {"machine": replace(board, type="q35").format()}
    fix |= {key: replace(case.config.get(key), pcie=True).format() for key in keys}
    text = f"{', '.join(keys)}: graphics cards and NVMe disks want PCI Express; i440fx has none, q35 has."
    yield Finding("R23", "warn", ("machine", *keys), text, fix)


def _wants_express(case: Case, part: HostPci) -> bool:
    if part.x_vga:
        return True
    kinds = [case.facts.pci_devices.get(address, {}).get("class") for address in functions(part, case.facts)]
    return any(str(kind).removeprefix("0x").startswith(_EXPRESS_ONLY) for kind in kinds if kind)


def clipboard(case: Case) -> Iterator[Finding]:
    """R31: QEMU cannot move a machine with a VNC clipboard while it runs, before board version 10.1."""
    vga = case.config.get("vga")
    if vga and vga.clipboard and case.board_version < _CLIPBOARD_MOVES:
        text = "A machine of this board version with a VNC clipboard cannot move while it runs."
        yield Finding("R31", "info", ("vga",), text, {"vga": replace(vga, clipboard=None).format() or None})


def terminal(case: Case) -> Iterator[Finding]:
    """R34: a serial display turns the console into a terminal."""
    vga = case.config.get("vga")
    if vga and (vga.type or "").startswith("serial"):
        text = "The console becomes a text terminal; installers with graphics show nothing."
        if vga.type in case.config:
            yield Finding("R34", "info", ("vga",), text)
        else:
            text = f"{text} It needs the port {vga.type}."
            yield Finding("R34", "block", ("vga",), text, {vga.type: "socket"})


def newer_version(case: Case) -> Iterator[Finding]:
    """R32: the board's version is pinned; a newer one is offered, never taken by itself."""
    own = machine_version(case.board)
    board: Machine = case.config.part("machine", Machine)
    if own is None or not case.facts.machines:
        return
    newest = pinned_machine(replace(board, type="q35" if case.q35 else "pc"), case.facts)
    found = machine_version(newest or "")
    if newest is None or found is None or found[:2] <= own[:2]:
        return
    text = f"This node's QEMU offers a newer board version, {newest.partition(',')[0]}."
    if windows_version(case.config.get("ostype")):
        text += " Windows may ask to be activated again."
    yield Finding("R32", "info", ("machine",), text, {"machine": newest})
