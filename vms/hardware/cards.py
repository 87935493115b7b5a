"""Network cards as QEMU gets them: the host's end and the guest's end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vms.errors import ConfigError
from vms.hardware.net import Net
from vms.hardware.parts import Device, Netdev, Part
from vms.hardware.plan import Plan

_ROMS = {
    "virtio-net-pci": "pxe-virtio.rom",
    "e1000": "pxe-e1000.rom",
    "rtl8139": "pxe-rtl8139.rom",
    "ne2k_pci": "pxe-ne2k_pci.rom",
    "pcnet": "pxe-pcnet.rom",
}


def cards(plan: Plan) -> Iterator[Part]:
    """Every network card."""
    for key, index, net in plan.config.slots("net"):
        yield back_end(plan, key, index, net)
        yield front_end(plan, key, net)


def back_end(plan: Plan, key: str, index: int, net: Net) -> Netdev:
    """A tap where there is a bridge, else user-mode networking, which needs no rights."""
    virtio = net.model == "virtio"
    vhost = {"vhost": True} if virtio and plan.facts.vhost_net else {}
    queues = net.queues if virtio else None
    tap = plan.ctx.taps.get(key)
    if tap is not None:
        numbers = (tap,) if isinstance(tap, int) else tap
        if len(numbers) > 1:
            return Netdev(key, "tap", {"id": key, "fds": ":".join(map(str, numbers)), **vhost})
        return Netdev(key, "tap", {"id": key, "fd": str(numbers[0]), **vhost})
    if net.bridge:
        options: dict[str, Any] = {"id": key, "ifname": f"tap{plan.ctx.vmid}i{index}"}
        options |= {"script": "no", "downscript": "no", **vhost}
        return Netdev(key, "tap", {**options, **({"queues": queues} if queues else {})})
    name = plan.config.get("name") or f"vm{plan.ctx.vmid}"
    boot = plan.facts.netboot
    files = {"tftp": boot["folder"], "bootfile": boot["file"]} if boot else {}
    return Netdev(key, "user", {"id": key, "hostname": name, **files})


def front_end(plan: Plan, key: str, net: Net) -> Device:
    """The card in the guest."""
    driver = "virtio-net-pci" if net.model == "virtio" else net.model
    options: dict[str, Any] = {"id": key, "netdev": key}
    if net.macaddr:
        options["mac"] = net.macaddr
    if net.model != "ne2k_isa":
        options |= plan.pci(key)
    options |= plan.booting(key)
    if net.model == "virtio":
        options |= _virtio(plan, key, net)
    if plan.old_rom_files and driver in _ROMS:
        options["romfile"] = _ROMS[driver]
    return Device(key, driver, options)


def _virtio(plan: Plan, key: str, net: Net) -> dict[str, Any]:
    found: dict[str, Any] = {}
    modern = plan.machine_at_least(7, 1)
    if net.queues and net.queues > 1:
        found |= {"vectors": 2 * net.queues + 2, "mq": True}
        found |= {"packed": True} if modern else {}
    if modern:
        found |= {"rx_queue_size": 1024, "tx_queue_size": 256}
    mtu = card_mtu(plan, key, net)
    if mtu is not None and (mtu != 1500 or plan.machine_at_least(10, 0, 1)):
        found["host_mtu"] = mtu
    if plan.machine_at_least(11, 0, 1) and plan.qemu_at_least(11, 0) and not net.host_tunnel:
        found["host_tunnel"] = False
    return found


def card_mtu(plan: Plan, key: str, net: Net) -> int | None:
    """The packet size a VirtIO card tells its guest; ``None`` when there is no bridge to follow.

    Raises :class:`ConfigError` when the card's is larger than its bridge's.
    """
    if not net.bridge:
        return net.mtu if net.mtu and net.mtu > 1 else None
    bridge = plan.facts.bridge(net.bridge)
    own = int(bridge["mtu"]) if bridge and bridge.get("mtu") else 1500
    if net.mtu is None or net.mtu == 1:
        return own
    if net.mtu > own:
        raise ConfigError(key, f"{net.mtu} is bigger than the bridge's MTU {own}", part="mtu")
    return net.mtu
