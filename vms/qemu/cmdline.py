"""From a configuration to QEMU's command line. Pure: nothing is opened, asked or started.

The parts come in an order in which everything is defined before it is used.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator

from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError
from vms.hardware import cards, cpumodel, devices, disks, passthrough, platform, ram, screens
from vms.hardware.context import LaunchContext
from vms.hardware.parts import Chardev, Device, Flag, Part, escaped
from vms.hardware.pci import q35_topology
from vms.hardware.plan import Plan

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

Step = Callable[[Plan], Iterable[Part]]


def parts(config: VMConfig, ctx: LaunchContext) -> list[Part]:
    """Every part of one start, in QEMU's order. Raises :class:`ConfigError` on the key at fault."""
    plan = Plan(config, ctx)
    found: list[Part] = []
    for step in (_process, platform.identity, platform.firmware, platform.fixups, cpumodel.topology, _boot):
        found.extend(step(plan))
    for step in (screens.console, platform.timer_flags, cpumodel.model, ram.memory, _start, disks.objects):
        found.extend(step(plan))
    found.extend(screens.display_globals(plan))
    found.extend(platform.power_states(plan))
    found.extend(_devices(plan))
    for step in (platform.clock, platform.machine, _last):
        found.extend(step(plan))
    return found


def command(config: VMConfig, ctx: LaunchContext) -> list[str]:
    """The argument list of one start; the first word is the node's QEMU.

    A CPU affinity is not in it: whoever launches applies it (``config.get("affinity")``).
    """
    return [ctx.facts.qemu_binary, *(word for part in parts(config, ctx) for word in part.argv())]


def _process(plan: Plan) -> Iterator[Part]:
    paths, name = plan.ctx.paths, plan.config.get("name") or f"vm{plan.ctx.vmid}"
    yield Flag("", "-no-user-config")
    yield Flag("name", "-name", f"guest={escaped(name)},debug-threads=on")
    yield Flag("", "-no-shutdown")
    for label, path in (("qmp", paths.qmp), ("qmp-ops", paths.qmp_ops)):
        yield Chardev("", "socket", {"id": label, "path": path, "server": True, "wait": False})
        yield Flag("", "-mon", f"chardev={label},mode=control")
    yield Flag("", "-pidfile", paths.pidfile)
    yield Flag("", "-sandbox", SANDBOX)
    yield Flag("", "-msg", "timestamp=on")


def _boot(plan: Plan) -> Iterator[Part]:
    yield Flag("", "-nodefaults")
    splash = f",splash={escaped(plan.facts.bootsplash)}" if plan.facts.bootsplash else ""
    yield Flag("boot", "-boot", f"menu=on,strict=on,reboot-timeout=1000{splash}")
    if plan.config.value("reboot") is False:
        yield Flag("reboot", "-no-reboot")


def _start(plan: Plan) -> Iterator[Part]:
    if plan.config.value("freeze"):
        yield Flag("freeze", "-S")
    if plan.config.get("keyboard"):
        yield Flag("keyboard", "-k", plan.config.get("keyboard"))


def _devices(plan: Plan) -> Iterator[Part]:
    """The device block. What the steps ask of the PCI plan decides which bridges come before them."""
    steps: tuple[Step, ...] = (
        platform.generation_id,
        devices.usb_controllers,
        devices.tablet,
        passthrough.host_devices,
        devices.usb_devices,
        devices.serial_ports,
        devices.audio,
        platform.tpm,
        screens.graphics,
        devices.agent,
        devices.rng,
        screens.spice,
        ram.balloon,
        devices.watchdog,
        disks.drives,
        cards.cards,
        devices.shared_memory,
        passthrough.iommu_virtio,
        devices.shared_folders,
    )
    found = [part for step in steps for part in step(plan)]
    yield from passthrough.iommu_intel(plan)
    if plan.q35:
        yield from q35_topology(modern=plan.machine_at_least(4, 0))
    yield from plan.pci_plan.bridges()
    # Objects and streams that a device names must be there before it.
    yield from (part for part in found if not isinstance(part, (Device, Flag)))
    yield from (part for part in found if isinstance(part, (Device, Flag)))


def _last(plan: Plan) -> Iterator[Part]:
    if plan.template:
        yield Flag("template", "-snapshot")
    extra = plan.config.get("args")
    if not extra:
        return
    try:
        words = shlex.split(extra)
    except ValueError as error:
        raise ConfigError("args", f"cannot be split into words: {error}") from None
    for word in words:
        yield Flag("args", word)
