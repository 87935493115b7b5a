"""Why a configuration cannot run on this box: found by looking at the box, never by a list of names.

A configuration without an obstacle must start; one with an obstacle must not. So a wrong obstacle shows.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from guestkit.wires import TUN
from vms.config.vmconfig import VMConfig
from vms.hardware.context import NodeFacts
from vms.host.command import run
from vms.qemu import capabilities
from vms.schema.types import CpuSet


@dataclass(frozen=True)
class QemuKnows:
    """What this QEMU can make: machine types with their aliases, devices with theirs, CPU models."""

    machines: frozenset[str]
    devices: frozenset[str]
    cpus: frozenset[str]
    cpu_properties: frozenset[str]

    @classmethod
    async def ask(cls, binary: str) -> QemuKnows:
        """Read QEMU's own help."""

        async def words(option: str) -> str:
            return (await run([binary, option, "help"])).text

        properties = ("device-list-properties", {"typename": "max-x86_64-cpu"})
        (answer,) = await capabilities.ask(binary, "tcg", [properties])
        return cls(
            machines=frozenset(re.findall(r"^(\S+) ", await words("-machine"), re.MULTILINE)),
            devices=frozenset(re.findall(r'(?:name|alias) "([^"]+)"', await words("-device"))),
            cpus=frozenset(re.findall(r"^\s*(?:x86 )?([\w.-]+)", await words("-cpu"), re.MULTILINE)),
            cpu_properties=frozenset(found["name"].replace("_", "-") for found in answer["return"]),
        )


def missing_for_config(config: VMConfig, facts: NodeFacts, qemu: QemuKnows) -> list[str]:
    """Obstacles that are seen before there is a command line."""
    found: list[str] = []
    holders: dict[str, str] = {}
    for key, _index, drive in config.drives():
        found += _volume(key, drive.file, facts)
        if not drive.is_cdrom and holders.setdefault(drive.file, key) != key:
            found.append(
                f"{key}: {drive.file} is {holders[drive.file]} as well, and QEMU locks what it writes"
            )
    if not os.access(TUN, os.R_OK | os.W_OK):
        found += [f"{key}: no {TUN} here" for key, _, net in config.slots("net") if net.bridge]
    for key in ("efidisk0", "tpmstate0"):
        if part := config.get(key):
            found += _volume(key, part.file, facts)
    for key, _index, _device in config.slots("hostpci"):
        if not list(Path("/dev").glob("vfio/vfio")):
            found.append(f"{key}: this box has no /dev/vfio/vfio")
    arch = config.get("arch")
    if arch and arch != facts.arch:
        found.append(f"arch: this box runs {facts.arch}, not {arch}")
    cpu = config.get("cpu")
    if cpu and (cpu.cputype or "").startswith("custom-"):
        found += [] if cpu.cputype[7:] in facts.custom_cpus else [f"cpu: nobody made {cpu.cputype} here"]
    for key, _index, device in config.slots("usb"):
        if device.mapping and device.mapping not in facts.usb_mappings:
            found.append(f"{key}: nobody mapped {device.mapping} here")
    nodes = {path.name.removeprefix("node") for path in Path("/sys/devices/system/node").glob("node[0-9]*")}
    for key, _index, numa in config.slots("numa"):
        wanted = CpuSet.parse(numa.hostnodes, ";").numbers() if numa.hostnodes else []
        found += [f"{key}: this box has no NUMA node {one}" for one in wanted if str(one) not in nodes]
    machine = config.get("machine")
    if machine and machine.type and not _known_machine(machine.type, qemu):
        found.append(f"machine: this QEMU has no {machine.type}")
    return found


def _known_machine(name: str, qemu: QemuKnows) -> bool:
    return re.sub(r"\+pve\d+|\.pxe", "", name) in qemu.machines


def _volume(key: str, volume: str, facts: NodeFacts) -> list[str]:
    storage, colon, _name = volume.partition(":")
    if volume in ("none", "cdrom") or not colon:
        absent = volume.startswith("/") and not Path(volume).exists()
        return [f"{key}: {volume} is not on this box"] if absent else []
    if storage not in facts.storages:
        return [f"{key}: this box has no storage {storage}"]
    return []


def missing_for_argv(argv: Sequence[str], qemu: QemuKnows) -> list[str]:
    """Obstacles that the finished command line shows."""
    found = []
    for option, text in pairwise(argv):
        values = _values(text)
        first = str(values.get("driver") or values.get("type") or values.get("") or "")
        if option == "-device" and first not in qemu.devices:
            found.append(f"this QEMU has no device {first}")
        elif option == "-machine" and not _known_machine(first, qemu):
            found.append(f"this QEMU has no machine {first}")
        elif option == "-cpu" and text.split(",")[0] not in qemu.cpus:
            found.append(f"this QEMU has no CPU {text.split(',')[0]}")
        elif option == "-cpu":
            words = (word.lstrip("+-").partition("=")[0].replace("_", "-") for word in text.split(",")[1:])
            found += [f"this QEMU's CPUs have no {w}" for w in words if w not in qemu.cpu_properties]
        elif option == "-object":
            # QEMU makes the file itself where the folder is there.
            path = values.get("mem-path")
            found += _absent(Path(str(path)).parent) if path else []
        elif option == "-chardev" and "server" not in values:
            found += _absent(values.get("path"))
    return found


def _absent(path: object) -> list[str]:
    return [f"this box has no {path}"] if path and not Path(str(path)).exists() else []


def _values(text: str) -> Mapping[str, object]:
    """One QEMU option as a mapping; the first bare word stands under an empty key."""
    if text.startswith("{"):
        loaded: dict[str, object] = json.loads(text)
        return loaded
    pairs = [piece.partition("=") for piece in re.split(r"(?<!,),(?!,)", text)]
    return {(name if equals else ""): (value if equals else name) for name, equals, value in reversed(pairs)}
