"""What the guest draws on and how somebody gets to see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vms.hardware.display import SpiceEnhancements, Vga
from vms.hardware.parts import Chardev, Device, Flag, Part
from vms.hardware.plan import Plan
from vms.hardware.serial import display_of

_DRIVERS = {
    "std": "VGA",
    "cirrus": "cirrus-vga",
    "vmware": "vmware-svga",
    "virtio": "virtio-vga",
    "virtio-gl": "virtio-vga-gl",
}
CARDS = ("qxl", "virtio")
"""Displays that SPICE shows: what they are called begins so."""
MIB = 1 << 20


def heads(plan: Plan) -> int:
    """How many monitors a SPICE display has; 0 for other displays."""
    return int(plan.display[3:] or 1) if plan.display.startswith("qxl") else 0


def spice_wanted(plan: Plan) -> bool:
    """Whether the display is one that SPICE viewers can watch."""
    return plan.facts.spice and plan.display.startswith(CARDS)


def no_spice(display: str, *, built: bool) -> str:
    """Why a machine with that display has no SPICE screen; "" when it has. ``built``: its QEMU can do it."""
    if not built:
        return "QEMU on this node was built without SPICE. Debian's has it; restart pvelite after a change."
    if display.startswith(CARDS):
        return ""
    return "Its display is none that SPICE can show. Choose SPICE (qxl) or VirtIO-GPU in Hardware, Display."


def shares_clipboard(options: Mapping[str, object]) -> bool:
    """Whether a configuration's display shares its clipboard with viewers."""
    return "clipboard=vnc" in str(options.get("vga", "")).split(",")


def has_agent_channel(options: Mapping[str, object]) -> bool:
    """Whether a configuration's display comes with the channel of the guest's SPICE agent."""
    return shares_clipboard(options) or display_of(options).startswith(CARDS)


def console(plan: Plan) -> Iterator[Part]:
    """How the screen reaches us: a VNC socket, or nothing for a machine without graphics."""
    if plan.display == "none":
        yield Flag("vga", "-vga", "none")
    if plan.display.startswith(("serial", "none")):
        yield Flag("vga", "-nographic")
        return
    if plan.display == "virtio-gl":
        yield Flag("vga", "-display", "egl-headless,gl=core")
    yield Flag("vga", "-vnc", f"unix:{plan.ctx.paths.vnc}")


def graphics(plan: Plan) -> Iterator[Part]:
    """The first graphics card."""
    if plan.display.startswith(("serial", "none")):
        return
    yield Device("vga", *_card(plan, "vga", heads(plan)))


def _card(plan: Plan, name: str, monitors: int) -> tuple[str, dict[str, Any]]:
    vga: Vga = plan.config.part("vga", Vga)
    options: dict[str, Any] = {"id": name, **plan.pci(name)}
    driver = _DRIVERS.get(plan.display, "qxl-vga" if name == "vga" else "qxl")
    if monitors and plan.windows == 0 and plan.ostype != "solaris" and plan.machine_at_least(4, 1):
        options["max_outputs"] = 4
    if driver == "VGA" and plan.windows and not plan.ovmf:
        options["edid"] = False
    if vga.memory is not None:
        options |= _memory(vga.memory, plan.display)
    elif monitors and name != "vga":
        options |= {"ram_size": 64 * MIB, "vram_size": 32 * MIB}
    return driver, options


def _memory(amount: int, display: str) -> dict[str, int]:
    if display.startswith("virtio"):
        return {"max_hostmem": amount * MIB}
    if display.startswith("qxl"):
        return {"vgamem_mb": amount, "ram_size_mb": 4 * amount, "vram_size_mb": 2 * amount}
    return {"vgamem_mb": amount}


def display_globals(plan: Plan) -> Iterator[Part]:
    """Several monitors on one card need more memory for it."""
    count = heads(plan)
    if count < 2 or plan.windows:
        return
    vga: Vga = plan.config.part("vga", Vga)
    ram = count * 4 * vga.memory * MIB if vga.memory else 128 * MIB
    vram = count * 2 * vga.memory * MIB if vga.memory else 64 * MIB
    yield Flag("vga", "-global", f"qxl-vga.ram_size={ram}")
    yield Flag("vga", "-global", f"qxl-vga.vram_size={vram}")


def spice(plan: Plan) -> Iterator[Part]:
    """Further monitors, the SPICE server and its channel into the guest."""
    vga: Vga = plan.config.part("vga", Vga)
    wanted = spice_wanted(plan)
    if plan.display.startswith(("serial", "none")) or not (wanted or vga.clipboard):
        return
    if plan.windows:
        for number in range(1, heads(plan)):
            yield Device("vga", *_card(plan, f"vga{number}", heads(plan)))
    yield Device("vga", "virtio-serial", {"id": "spice", **plan.pci("spice")})
    if vga.clipboard:
        yield Chardev("vga", "qemu-vdagent", {"id": "vdagent", "name": "vdagent", "clipboard": True})
    else:
        yield Chardev("vga", "spicevmc", {"id": "vdagent", "name": "vdagent"})
    port = {"bus": "spice.0", "chardev": "vdagent", "name": "com.redhat.spice.0"}
    yield Device("vga", "virtserialport", {"id": "vdagent-port", **port})
    extras: SpiceEnhancements = plan.config.part("spice_enhancements", SpiceEnhancements)
    if not wanted:
        return
    if extras.foldersharing:
        yield Chardev(
            "spice_enhancements", "spiceport", {"id": "foldershare", "name": "org.spice-space.webdav.0"}
        )
        port = {"bus": "spice.0", "chardev": "foldershare", "name": "org.spice-space.webdav.0"}
        yield Device("spice_enhancements", "virtserialport", {"id": "foldershare-port", **port})
    words = f"unix=on,addr={plan.ctx.paths.spice},disable-ticketing=on,seamless-migration=on"
    if extras.videostreaming:
        words += f",streaming-video={extras.videostreaming}"
    yield Flag("vga", "-spice", words)
