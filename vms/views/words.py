"""A configuration in human words: key/value rows in the order and with the names Proxmox users expect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vms.config.vmconfig import parse_value
from vms.errors import ConfigError
from vms.hardware import DRIVE_SLOTS, OPTIONS, slot_of
from vms.models.configuration import size_bytes
from vms.schema.option import Option, options_of
from vms.schema.propstring import PropertyString
from vms.templatetags.ui import mib, size

OPTION_KEYS = (
    "name", "onboot", "startup", "ostype", "boot", "tablet", "hotplug", "acpi", "kvm", "freeze", "localtime",
    "startdate", "smbios1", "agent", "protection", "spice_enhancements", "vmstatestorage", "vmgenid",
    "reboot", "keyboard", "args", "tags", "description",
)  # fmt: skip
OPTION_LABELS = {
    "vga": "Display",
    "ostype": "OS type",
    "smbios1": "SMBIOS settings (type 1)",
    "agent": "QEMU guest agent",
    "boot": "Boot order",
    "kvm": "KVM hardware virtualisation",
    "spice_enhancements": "Spice enhancements",
    "vmstatestorage": "VM state storage",
    "vmgenid": "VM generation ID",
}


def label_of(key: str) -> str:
    """What a key is called."""
    return OPTION_LABELS.get(key, OPTIONS[key].label)


def said(key: str, config: Mapping[str, str]) -> str:
    """A key's value in words, or what its absence means."""
    return words(key, config[key]) if key in config else default_words(OPTIONS[key])


def default_words(option: Option) -> str:
    """What an absent option means."""
    if option.default in (None, ""):
        return "Default"
    return f"Default ({value_words(option, option.default)})"


def words(key: str, text: str) -> str:
    """A value in words; the raw text when it cannot be read."""
    try:
        value = parse_value(key, text)
    except ConfigError:
        return text
    if key == "boot" and getattr(value, "order", None):
        return str(value.order).replace(";", ", ")
    if isinstance(value, PropertyString):
        return part_words(value)
    return value_words(OPTIONS[key], value) if key in OPTIONS else text


def part_words(part: PropertyString) -> str:
    """A property string: its main value first, then each given part with its name."""
    found = []
    for option in sorted(options_of(type(part)), key=lambda option: not option.short):
        value = getattr(part, option.attr)
        if value is None or option.name == "media":
            continue
        text = value_words(option, value)
        if option.kind == "bool" and not option.short:
            found.append(option.label if value else f"no {option.label}")
        elif option.short or option.name == "size":
            found.append(text)
        else:
            found.append(f"{option.label} {text}")
    return ", ".join(found) or "Default"


def value_words(option: Option, value: Any) -> str:
    """One value: a choice by its label, a size with its unit, yes and no."""
    if option.kind == "bool":
        return "Yes" if value in (True, "1") else "No"
    text = str(value)
    if option.kind == "enum":
        return dict(option.choices).get(text, text)
    if option.unit == "MiB":
        return mib(text)
    if option.name == "size":
        try:
            return size(size_bytes(text))
        except ValueError:
            return text
    return f"{text} {option.unit}".strip()


def memory_words(config: Mapping[str, str]) -> str:
    """``2 GiB``, with the balloon's range when there is one."""
    memory = config.get("memory", "512").removeprefix("current=")
    balloon = config.get("balloon")
    if balloon == "0":
        return f"{mib(memory)}, balloon off"
    if balloon and balloon != memory:
        return f"{mib(balloon)} to {mib(memory)} (balloon)"
    return mib(memory)


def processor_words(config: Mapping[str, str]) -> str:
    """``4 (1 socket, 4 cores) [x86-64-v2-AES]``, as Proxmox writes it."""
    sockets, cores = int(config.get("sockets", "1")), int(config.get("cores", "1"))
    kind = config.get("cpu", "kvm64").split(",")[0].removeprefix("cputype=")
    many = "s" if sockets != 1 else ""
    return f"{sockets * cores} ({sockets} socket{many}, {cores} core{'s' if cores != 1 else ''}) [{kind}]"


def drive_summary(config: Mapping[str, str]) -> list[dict[str, str]]:
    """The disks with their size, for the Summary page."""
    found = []
    for key, text in config.items():
        slot = slot_of(key)
        if slot and slot[0].name in DRIVE_SLOTS and "media=cdrom" not in text.split(","):
            rest = dict(pair.split("=", 1) for pair in text.split(",")[1:] if "=" in pair)
            shown = rest.get("size") or (f"{text.split(',')[0].partition(':')[2]}G")
            found.append({"key": key, "volume": text.split(",")[0], "size": _size(shown)})
    return found


def _size(text: str) -> str:
    try:
        return size(size_bytes(text))
    except ValueError:
        return "size unknown"
