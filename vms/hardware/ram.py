"""From the memory options to ``-m``, NUMA nodes, DIMMs and the balloon."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vms.errors import ConfigError
from vms.hardware.cpumodel import processor
from vms.hardware.memory import Numa
from vms.hardware.parts import Device, Flag, Mebibytes, Object, Part
from vms.hardware.plan import Plan
from vms.schema.types import CpuSet

STATIC_MEMORY = 1024
"""MiB a machine with memory hot-plug has from the start; the rest are DIMMs."""
_LADDER = 32
"""DIMMs of one size before the size doubles."""
_MAX_MAXMEM = 4 << 20


def wanted_memory(plan: Plan) -> int:
    """The machine's memory in MiB."""
    return 512 if plan.template else int(plan.config.value("memory").value("current"))


def _page(plan: Plan, size: int) -> int:
    """The size of the huge pages behind ``size`` MiB, 0 for ordinary pages."""
    wanted = plan.config.get("hugepages")
    if not wanted:
        return 0
    if wanted == "any":
        large = not plan.facts.huge_pages or "1024" in plan.facts.huge_pages
        return 1024 if large and size % 1024 == 0 else 2
    if size % int(wanted):
        raise ConfigError("hugepages", f"{size} MiB cannot be made of pages of {wanted} MiB")
    return int(wanted)


def memory(plan: Plan) -> Iterator[Part]:
    """Everything about main memory."""
    total, sockets = wanted_memory(plan), plan.config.value("sockets")
    key = "memory"
    static = total
    if plan.plugs("memory"):
        static = _static_memory(plan, total, sockets)
        yield Flag(key, "-m", f"size={static},slots=255,maxmem={_maxmem(plan)}M")
    else:
        yield Flag(key, "-m", str(total))
    if plan.config.get("hugepages") and not plan.config.value("numa"):
        raise ConfigError("hugepages", "huge pages need NUMA, set numa to 1")
    if plan.config.value("numa"):
        yield from _numa(plan, static, sockets)
    elif any(True for _ in plan.config.slots("virtiofs")):
        yield _backend(plan, "virtiofs-mem", total, key)
    if plan.plugs("memory"):
        yield from _dimms(plan, total - static, sockets)


def _static_memory(plan: Plan, total: int, sockets: int) -> int:
    if not plan.config.value("numa"):
        raise ConfigError("hotplug", "NUMA needs to be enabled for memory hotplug")
    if any(True for _ in plan.config.slots("numa")):
        raise ConfigError("hotplug", "memory cannot be plugged into NUMA nodes written by hand")
    static = STATIC_MEMORY * (sockets if plan.config.get("hugepages") == "1024" else 1)
    if total < static:
        raise ConfigError("memory", f"memory hotplug needs at least {static} MiB")
    return static


def _maxmem(plan: Plan) -> int:
    """The most memory that could ever be plugged in, from the CPU's address bits."""
    cpu, bits = processor(plan), plan.facts.phys_bits
    as_host = plan.kvm and (cpu.phys_bits == "host" or cpu.cputype in ("host", "max"))
    if cpu.phys_bits and cpu.phys_bits != "host":
        bits = int(cpu.phys_bits)
    elif not as_host:
        bits = min(bits, 40)
    return int(min(1 << max(bits - 21, 0), _MAX_MAXMEM))


def _numa(plan: Plan, static: int, sockets: int) -> Iterator[Part]:
    nodes = list(plan.config.slots("numa"))
    if nodes:
        yield from _custom_numa(plan, nodes, static)
        return
    cores = plan.config.value("cores")
    if static % sockets:
        raise ConfigError("memory", f"{static} MiB cannot be split evenly over {sockets} sockets")
    for node in range(sockets):
        name, first = f"ram-node{node}", node * cores
        cpus = str(first) if cores == 1 else f"{first}-{first + cores - 1}"
        yield _backend(plan, name, static // sockets, "numa")
        yield Flag("numa", "-numa", f"node,nodeid={node},cpus={cpus},memdev={name}")


def _custom_numa(plan: Plan, nodes: list[tuple[str, int, Numa]], static: int) -> Iterator[Part]:
    total = sum(node.memory or 0 for _, _, node in nodes)
    if total != static:
        raise ConfigError("numa0", f"the NUMA nodes have {total} MiB together, the machine {static} MiB")
    for key, index, node in nodes:
        if node.memory is None:
            raise ConfigError(key, "needs an amount of memory", part="memory")
        name = f"ram-node{index}"
        binding: dict[str, Any] = {}
        if node.hostnodes:
            if node.policy is None:
                raise ConfigError(
                    key, "host nodes need a policy: preferred, bind or interleave", part="policy"
                )
            binding = {"host-nodes": _host_nodes(node.hostnodes), "policy": node.policy}
        yield _backend(plan, name, node.memory, key, binding)
        cpus = ",".join(f"cpus={piece}" for piece in node.cpus.split(";"))
        yield Flag(key, "-numa", f"node,nodeid={index},{cpus},memdev={name}")


def _host_nodes(text: str) -> str | list[int]:
    """One range as QEMU's text form takes it, several as a list, which only its JSON form can carry."""
    return CpuSet.parse(text, ";").numbers() if ";" in text else text


def _backend(plan: Plan, name: str, size: int, key: str, more: dict[str, Any] | None = None) -> Object:
    page = _page(plan, size)
    listed = isinstance((more or {}).get("host-nodes"), list)
    options: dict[str, Any] = {"id": name, "size": (size << 20) if listed else Mebibytes(size)}
    if page:
        options["mem-path"] = f"/run/hugepages/kvm/{page * 1024}kB"
        options |= {"share": True, "prealloc": True}
        return Object(key, "memory-backend-file", {**options, **(more or {})})
    if any(True for _ in plan.config.slots("virtiofs")):
        return Object(key, "memory-backend-memfd", {**options, "share": True, **(more or {})})
    return Object(key, "memory-backend-ram", {**options, **(more or {})})


def dimm_ladder(size: int, sockets: int, first: int = 512) -> Iterator[tuple[int, int]]:
    """``(MiB, node)`` of every DIMM needed for ``size`` MiB. Raises :class:`ConfigError` if it cannot fit."""
    step, number, done = first, 0, 0
    while done < size:
        for _ in range(_LADDER):
            if done >= size:
                return
            if done + step > size:
                raise ConfigError("memory", f"must be aligned to {step} MiB for hotplugging")
            yield step, number % sockets
            done, number = done + step, number + 1
        step *= 2


def _dimms(plan: Plan, size: int, sockets: int) -> Iterator[Part]:
    first = 1024 if plan.config.get("hugepages") == "1024" else 512
    for number, (step, node) in enumerate(dimm_ladder(size, sockets, first)):
        yield _backend(plan, f"mem-dimm{number}", step, "memory")
        yield Device(
            "memory", "pc-dimm", {"id": f"dimm{number}", "memdev": f"mem-dimm{number}", "node": node}
        )


def balloon(plan: Plan) -> Iterator[Part]:
    """The device that gives memory back; absent when ``balloon`` is 0."""
    if plan.config.get("balloon") == 0:
        return
    options: dict[str, Any] = {"id": "balloon0", **plan.pci("balloon0")}
    if plan.machine_at_least(6, 2):
        options["free-page-reporting"] = True
    yield Device("balloon", "virtio-balloon-pci", options)
