"""Pointer, USB, ports, agent, sound, random numbers, watchdog and other small devices."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from vms.errors import ConfigError
from vms.hardware.agent import Agent
from vms.hardware.extras import Audio, Ivshmem, Rng, VirtioFs, Watchdog
from vms.hardware.parts import Chardev, Device, Flag, Mebibytes, Object, Part
from vms.hardware.pci import usb_companions
from vms.hardware.plan import Plan
from vms.hardware.usb import Usb


def usb_controllers(plan: Plan) -> Iterator[Part]:
    """The USB controllers a machine needs; q35 has its own."""
    devices = [part for _, _, part in plan.config.slots("usb")]
    modern = uses_xhci(plan)
    if not plan.q35:
        yield Device("tablet", "piix3-usb-uhci", {"id": "uhci", "bus": "pci.0", "addr": "0x1.0x2"})
        if not modern and any(not part.usb3 for part in devices):
            yield from usb_companions("ehci", 1, "pci.0", 0x1D)
    if not devices:
        return
    if modern:
        ports = {"p2": 15, "p3": 15}
        yield Device("usb0", "qemu-xhci", {"id": "xhci", **ports, **plan.pci("xhci")})
    elif any(part.usb3 for part in devices):
        yield Device("usb0", "nec-usb-xhci", {"id": "xhci", **plan.pci("xhci")})


def uses_xhci(plan: Plan) -> bool:
    """Whether USB devices go to one modern controller, as new machines of known systems do."""
    return plan.machine_at_least(7, 1) and (plan.ostype == "l26" or plan.windows > 7)


def tablet(plan: Plan) -> Iterator[Part]:
    """A pointer that says where it is. Not needed with SPICE, useless with a serial terminal."""
    wanted = plan.config.get("tablet")
    if wanted is None and not plan.template:
        wanted = not plan.display.startswith(("qxl", "serial"))
    if wanted is False:
        return
    bus = "ehci.0" if plan.q35 else "uhci.0"
    yield Device("tablet", "usb-tablet", {"id": "tablet", "bus": bus, "port": "1"})


def usb_devices(plan: Plan) -> Iterator[Part]:
    """USB devices of the node, or of whoever watches over SPICE."""
    for key, index, part in plan.config.slots("usb"):
        if index > 4 and not uses_xhci(plan):
            raise ConfigError(key, "more than five USB devices need machine 7.1 and a current guest system")
        yield from _usb_device(plan, key, index, part)


def _usb_device(plan: Plan, key: str, index: int, part: Usb) -> Iterator[Part]:
    modern = uses_xhci(plan)
    # A USB 2 device of the node names no bus: QEMU then takes the newest of the board's own controllers.
    place: dict[str, Any] = {"bus": "xhci.0"} if modern or part.usb3 else {}
    if modern:
        place["port"] = str(index + 1)
    host = part.host or plan.facts.usb_mappings.get(part.mapping or "", "")
    if not host:
        raise ConfigError(key, f"there is no USB mapping '{part.mapping}' on this node", part="mapping")
    if host.lower() == "spice":
        chardev = f"usbredirchardev{index}"
        if not place or not plan.machine_at_least(4, 0):
            place = {"bus": "ehci.0"}
        yield Chardev(key, "spicevmc", {"id": chardev, "name": "usbredir"})
        yield Device(key, "usb-redir", {"id": f"usbredirdev{index}", "chardev": chardev, **place})
        return
    options: dict[str, Any] = {"id": key, **place, **plan.booting(key)}
    numbers = re.fullmatch(r"(?:0x)?([0-9A-Fa-f]{4}):(?:0x)?([0-9A-Fa-f]{4})", host)
    if numbers:
        options |= {"vendorid": int(numbers[1], 16), "productid": int(numbers[2], 16)}
    else:
        bus, _, port = host.partition("-")
        options |= {"hostbus": int(bus), "hostport": port}
    yield Device(key, "usb-host", options)


def serial_ports(plan: Plan) -> Iterator[Part]:
    """Serial ports: a terminal in the browser that also keeps a log, or a port of the node."""
    for key, index, part in plan.config.slots("serial"):
        if part.port == "socket":
            yield Chardev(
                key,
                "socket",
                {
                    "id": key,
                    "path": plan.ctx.paths.serial(index),
                    "server": True,
                    "wait": False,
                    "logfile": plan.ctx.paths.serial_log(index),
                    "logappend": True,
                },
            )
        else:
            yield Chardev(key, "serial", {"id": key, "path": part.port})
        yield Device(key, "isa-serial", {"id": f"{key}-port", "chardev": key})
    for key, _, part in plan.config.slots("parallel"):
        backend = "serial" if part.port.startswith("/dev/usb/lp") else "parallel"
        yield Chardev(key, backend, {"id": key, "path": part.port})
        yield Device(key, "isa-parallel", {"id": f"{key}-port", "chardev": key})


def audio(plan: Plan) -> Iterator[Part]:
    """The sound card."""
    part: Audio | None = plan.config.get("audio0")
    if part is None:
        return
    spice = part.value("driver") == "spice" and plan.display.startswith(("qxl", "virtio"))
    backend = "spice-backend0" if spice else "none-backend0"
    yield Flag("audio0", "-audiodev", f"{'spice' if spice else 'none'},id={backend}")
    card: dict[str, Any] = {"id": "audiodev0", **plan.pci("audio0")}
    if part.device == "AC97":
        yield Device("audio0", "AC97", {**card, "audiodev": backend})
        return
    yield Device("audio0", part.device, card)
    for number, codec in enumerate(("hda-micro", "hda-duplex")):
        place = {"bus": "audiodev0.0", "cad": number, "audiodev": backend}
        yield Device("audio0", codec, {"id": f"audiodev0-codec{number}", **place})


def agent(plan: Plan) -> Iterator[Part]:
    """The channel to the guest agent."""
    part: Agent | None = plan.config.get("agent")
    if part is None or not part.value("enabled"):
        return
    socket = {"path": plan.ctx.paths.agent, "server": True, "wait": False, "id": "qga0"}
    yield Chardev("agent", "socket", socket)
    if part.value("type") == "isa":
        yield Device("agent", "isa-serial", {"id": "qga0-port", "chardev": "qga0"})
        return
    yield Device("agent", "virtio-serial", {"id": "qga0", **plan.pci("qga0")})
    port = {"id": "qga0-port", "bus": "qga0.0", "chardev": "qga0", "name": "org.qemu.guest_agent.0"}
    yield Device("agent", "virtserialport", port)


def rng(plan: Plan) -> Iterator[Part]:
    """The source of random numbers."""
    part: Rng | None = plan.config.get("rng0")
    if part is None:
        return
    yield Object("rng0", "rng-random", {"id": "rng0", "filename": part.source or "/dev/urandom"})
    options: dict[str, Any] = {"id": "rng0-device", "rng": "rng0", **plan.pci("rng0")}
    if part.value("max_bytes"):
        options |= {"max-bytes": part.value("max_bytes"), "period": part.value("period")}
    yield Device("rng0", "virtio-rng-pci", options)


def watchdog(plan: Plan) -> Iterator[Part]:
    """The timer that acts when the guest stops feeding it."""
    part: Watchdog | None = plan.config.get("watchdog")
    if part is None:
        return
    model = part.value("model")
    place = plan.pci("watchdog") if model == "i6300esb" else {}
    yield Device("watchdog", model, {"id": "watchdog0", **place})
    if part.action:
        yield Flag("watchdog", "-watchdog-action", part.action)


def shared_memory(plan: Plan) -> Iterator[Part]:
    """Memory shared with a program on the node."""
    part: Ivshmem | None = plan.config.get("ivshmem")
    if part is None:
        return
    path = f"/dev/shm/pve-shm-{part.name or plan.ctx.vmid}"  # noqa: S108 - the place the peer shares memory at
    memory = {"id": "ivshmem", "share": True, "mem-path": path, "size": Mebibytes(part.size)}
    yield Device("ivshmem", "ivshmem-plain", {"memdev": "ivshmem", **plan.pci("ivshmem")})
    yield Object("ivshmem", "memory-backend-file", memory)


def shared_folders(plan: Plan) -> Iterator[Part]:
    """Folders of the node inside the guest, served by a helper each."""
    for key, index, part in plan.config.slots("virtiofs"):
        folder: VirtioFs = part
        yield Chardev(key, "socket", {"id": key, "path": plan.ctx.paths.virtiofs(index)})
        options = {"queue-size": 1024, "chardev": key, "tag": folder.dirid}
        yield Device(key, "vhost-user-fs-pci", {"id": f"{key}-device", **options})
