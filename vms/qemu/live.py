"""What a running machine is told without a device coming or going: limits, processors, memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from vms.hardware.drive import Drive
from vms.hardware.parts import Object, Part
from vms.hardware.throttle import limits
from vms.qemu.agent import Agent
from vms.qemu.hotplug import Difference, Unwilling, name_of, plug, present, unplug
from vms.qemu.monitor import Monitor

SEEN = 10.0
"""Seconds a guest gets to see a processor that was plugged in."""
_LOOK = 0.1
_LIMITS = [f"{unit}-{word}" for unit in ("bps", "iops") for word in ("total", "read", "write")]


async def throttle(monitor: Monitor, key: str, drive: Drive) -> None:
    """Make the limits of a drive those of ``drive``; what it does not limit is free.

    Raises :class:`ConfigError` for limits QEMU would refuse, :class:`MonitorError` when it does.
    """
    given = limits(key, drive)
    # What is left out keeps its old value, so everything is said.
    value: dict[str, int] = {}
    for name in _LIMITS:
        value |= {name: 0, f"{name}-max": 0, f"{name}-max-length": 1}
    path = f"/objects/throttle-drive-{key}"
    await monitor.execute("qom-set", {"path": path, "property": "limits", "value": value | given})


async def ensure_throttle(monitor: Monitor, parts: Sequence[Part]) -> None:
    """A drive that began empty has no throttle group yet; the node of a medium names one."""
    there = await present(monitor, "/objects")
    for part in parts:
        if isinstance(part, Object) and part.qom_type == "throttle-group" and name_of(part) not in there:
            await monitor.execute("object-add", part.qmp())


async def emulated(monitor: Monitor) -> bool:
    """Whether the machine runs without KVM."""
    return not (await monitor.execute("query-kvm"))["enabled"]


async def processors(monitor: Monitor, agent: Agent, change: Difference, wanted: int) -> bool:
    """Give the guest ``wanted`` CPUs; answers whether the machine has that many now.

    QEMU's software emulation cannot unplug a CPU (it leaves a dangling one and crashes later), so there the
    guest switches it off, asked by its agent, and the machine keeps it until its next start. A CPU that is
    plugged in is switched on by the agent, or by the guest itself. Raises :class:`Unwilling`.
    """
    await plug(monitor, change.added)
    if change.removed and await emulated(monitor):
        await switch(agent, wanted)
        return False
    for part in reversed(change.removed):
        await unplug(monitor, [part])
    if await agent.ping(timeout=3):
        await switch(agent, wanted)
    return True


async def switch(agent: Agent, wanted: int) -> None:
    """Let the guest switch its first ``wanted`` CPUs on and the others off. Raises :class:`Unwilling`."""
    if not await agent.ping(timeout=3):
        raise Unwilling(
            "without KVM a CPU is only switched on and off by the guest agent, which does not answer",
            hint="Install and enable the guest agent, or let the change wait for the next start.",
        )
    cpus = await _cpus(agent)
    for _ in range(int(SEEN / _LOOK)):
        if len(cpus) >= wanted:
            break
        await asyncio.sleep(_LOOK)
        cpus = await _cpus(agent)
    else:
        raise Unwilling(f"the guest sees {len(cpus)} CPUs, {wanted} are plugged in")
    orders = [
        {"logical-id": number, "online": place < wanted}
        for place, (number, online, fixed) in enumerate(cpus)
        if online != (place < wanted) and not fixed
    ]
    while orders:
        taken = int(await agent.execute("guest-set-vcpus", {"vcpus": orders}, timeout=20))
        if taken <= 0:
            raise Unwilling(f"the guest switched none of its CPUs {'on' if orders[0]['online'] else 'off'}")
        orders = orders[taken:]


async def _cpus(agent: Agent) -> list[tuple[int, bool, bool]]:
    """``(number, online, cannot be switched)`` of each CPU the guest has, lowest first."""
    answer = await agent.execute("guest-get-vcpus", timeout=10)
    found = [entry for entry in answer if isinstance(entry, dict) and "logical-id" in entry]
    return sorted(
        (int(entry["logical-id"]), bool(entry.get("online")), not entry.get("can-offline", True))
        for entry in found
    )


async def online_cpus(agent: Agent) -> int:
    """How many CPUs the guest uses, by its own word."""
    return sum(online for _, online, _ in await _cpus(agent))


async def memory(monitor: Monitor, change: Difference) -> None:
    """Plug memory modules in, or pull them out, the last one first.

    Raises :class:`MonitorError` or :class:`Unwilling` half way: :func:`plugged_memory` says how far it came.
    """
    for module in _modules(change.added):
        await plug(monitor, module)
    for module in reversed(_modules(change.removed)):
        await unplug(monitor, module)


def _modules(parts: Sequence[Part]) -> list[list[Part]]:
    """The parts of each memory module, in order: its back end, its device."""
    found: dict[int, list[Part]] = {}
    for part in parts:
        match = re.fullmatch(r"(?:mem-)?dimm([0-9]+)", name_of(part))
        if match:
            found.setdefault(int(match[1]), []).append(part)
    return [found[number] for number in sorted(found)]


async def plugged_memory(monitor: Monitor) -> int:
    """MiB of memory the machine has now: from the start, and plugged in."""
    found = await monitor.execute("query-memory-size-summary")
    return (int(found["base-memory"]) + int(found.get("plugged-memory", 0))) >> 20


async def balloon(monitor: Monitor, minimum: int, memory_mib: int, *, lower: bool) -> str:
    """Move the guest's balloon to ``minimum`` MiB (0: all of its memory); answers what was not done.

    Without ``lower`` the guest only gets more: taking memory back is left to the node's own balancing.
    """
    target = minimum or memory_mib
    now = await monitor.query_balloon()
    if now is None:
        return "the machine has no balloon"
    if target << 20 < now and not lower:
        return "the node takes memory back by itself when it runs short"
    await monitor.balloon(target << 20)
    return ""
