"""Rules between the options of one configuration that hold on every node.

They need nothing but the configuration; what depends on the node is in ``vms.config.rules``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError, ConfigErrors
from vms.hardware import known
from vms.hardware.cpu import Cpu
from vms.hardware.cpumodel import is_32bit
from vms.hardware.machine import hotplug_words
from vms.schema.option import shown

LARGEST_DISK = 131072
"""GiB; what the wizard's size field takes, and more than any image format here holds."""


def check_config(mapping: Mapping[str, str]) -> None:
    """Syntax of every value and the rules between them. Raises :class:`ConfigErrors`."""
    errors = relation_errors(VMConfig.parse(mapping))
    if errors:
        raise ConfigErrors(errors)


def relation_errors(config: VMConfig) -> list[ConfigError]:
    """Every broken rule, each on the key that should change."""
    return [
        *_processor(config),
        *_memory(config),
        *_boot(config),
        *_cards(config),
        *_display(config),
        *_drives(config),
        *_new_disks(config),
        *_firmware(config),
    ]


def _processor(config: VMConfig) -> Iterator[ConfigError]:
    total = config.value("sockets") * config.value("cores")
    vcpus = config.get("vcpus")
    if vcpus is not None and vcpus > total:
        yield ConfigError("vcpus", f"{vcpus} is more than sockets × cores ({total})")


def _memory(config: VMConfig) -> Iterator[ConfigError]:
    memory = config.value("memory").value("current")
    balloon = config.get("balloon")
    if balloon is not None and balloon > memory:
        yield ConfigError("balloon", f"{balloon} MiB is more than the memory ({memory} MiB)")
    nodes = [part.memory for _, _, part in config.slots("numa") if part.memory is not None]
    if config.value("numa") and nodes and sum(nodes) != memory:
        yield ConfigError("numa0", f"the NUMA nodes have {sum(nodes)} MiB together, the machine {memory} MiB")
    if config.get("hugepages") and not config.value("numa"):
        yield ConfigError("hugepages", "huge pages need NUMA, set numa to 1")
    if "memory" in hotplug_words(config.value("hotplug")):
        if not config.value("numa"):
            yield ConfigError("hotplug", "memory can only be plugged in with NUMA, set numa to 1")
        elif memory < 1024:
            yield ConfigError("memory", "memory hotplug needs at least 1024 MiB")


def _boot(config: VMConfig) -> Iterator[ConfigError]:
    boot = config.get("boot")
    for device in boot.devices if boot else ():
        if not known(device):
            yield ConfigError("boot", f"there can be no device {device}", part="order")
        elif device not in config:
            yield ConfigError("boot", f"{device} is in the list but not in the machine", part="order")


def _cards(config: VMConfig) -> Iterator[ConfigError]:
    seen = Counter(part.macaddr.upper() for _, _, part in config.slots("net") if part.macaddr)
    for key, _, part in config.slots("net"):
        if part.macaddr and seen[part.macaddr.upper()] > 1:
            yield ConfigError(key, f"{part.macaddr} is used by two cards of this machine", part="macaddr")


def _display(config: VMConfig) -> Iterator[ConfigError]:
    vga = config.get("vga")
    if vga and (vga.type or "").startswith("serial") and vga.type not in config:
        yield ConfigError("vga", f"{vga.type} is no port of this machine, add '{vga.type}: socket'")


def _drives(config: VMConfig) -> Iterator[ConfigError]:
    places: dict[str, str] = {}
    for key, _, drive in config.drives():
        # 'storage:32' makes a new volume each time, and a disc may be read by several drives.
        new = drive.file.partition(":")[2].replace(".", "", 1).isdigit()
        if drive.is_cdrom or drive.is_empty or new or getattr(drive, "read_only", None):
            continue
        if drive.file in places:
            yield ConfigError(key, f"{drive.file} is already plugged in as {places[drive.file]}")
        places.setdefault(drive.file, key)


def _new_disks(config: VMConfig) -> Iterator[ConfigError]:
    """``storage:32`` asks for a new disk of so many GiB; it has to be one that can be made."""
    for key, _, drive in (*config.drives(), *config.slots("unused")):
        size = drive.file.partition(":")[2]
        if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", size):
            continue
        if key.startswith("unused"):
            text = "holds a disk that is there already; plug a new one into a bus"
            yield ConfigError(key, text, part="file")
        elif drive.is_cdrom:
            text = "a CD drive holds an ISO image or 'none', it cannot be a new disk"
            yield ConfigError(key, text, part="file")
        elif float(size) > LARGEST_DISK:
            text = f"{shown(size)} GiB is above the largest disk, {LARGEST_DISK} GiB"
            yield ConfigError(key, text, part="size")
        elif float(size) <= 0 and not drive.import_from:
            yield ConfigError(key, f"a disk of {size} GiB cannot be made; write at least 1", part="size")


def _firmware(config: VMConfig) -> Iterator[ConfigError]:
    if config.value("bios") == "ovmf":
        model = config.part("cpu", Cpu).cputype or ""
        if is_32bit(model):
            yield ConfigError("bios", f"UEFI needs a 64-bit processor, {model} is a 32-bit one")
