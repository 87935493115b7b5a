"""Warm templates: which can keep their guest's memory, and whether that memory still fits. Pure.

A clone of a warm template does not boot: it goes on from the moment at which the template's guest was saved.
So its machine must be the saved one in every part a guest has seen, except for what is plugged in afterwards
(network cards) and what the guest is told anew (its name, its keys, its random numbers).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vms.config.pending import CLASSES, Class, name_of
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError
from vms.hardware.context import NodeFacts
from vms.hardware.guest import is_linux

_LATER = frozenset(
    {"template", "meta", "boot", "bootdisk", "smbios1", "vmgenid", "localtime", "startdate", "tdf", "reboot"}
)
"""Keys a guest that runs has no use for, or hears of only at its next boot."""
_STUCK = ("hostpci", "virtiofs", "parallel", "amd-sev", "intel-tdx", "ivshmem")
"""Parts that live in the node's hardware or in another process: no file holds them, no two guests can."""


def lean(mapping: Mapping[str, str]) -> dict[str, str]:
    """The machine that is saved: a template's without its network cards, and no template any more."""
    found = {key: text for key, text in mapping.items() if key != "template" and name_of(key) != "net"}
    boot = VMConfig.parse({"boot": mapping["boot"]}).get("boot") if "boot" in mapping else None
    if boot is not None and boot.devices:
        kept = [device for device in boot.devices if name_of(device) != "net"]
        found["boot"] = f"order={';'.join(kept)}"
        if not kept:
            del found["boot"]
    return found


def shape(mapping: Mapping[str, str]) -> dict[str, str]:
    """What of a configuration the saved memory depends on."""
    kept = (Class.COLD, Class.DISK, Class.USB, Class.CPU, Class.MEMORY)
    return {
        key: text
        for key, text in mapping.items()
        if key not in _LATER and CLASSES.get(name_of(key), Class.COLD) in kept and name_of(key) != "unused"
    }


def node_words(facts: NodeFacts) -> dict[str, str]:
    """What of a node the saved memory depends on."""
    return {"qemu": facts.qemu_version, "cpu": facts.cpu_model, "accelerator": "kvm" if facts.kvm else "tcg"}


def misfits(saved: Mapping[str, Any], mapping: Mapping[str, str], facts: NodeFacts) -> list[str]:
    """Why the memory a template keeps no longer fits it, as sentences; none when it does."""
    then, now = dict(saved.get("shape", {})), shape(mapping)
    changed = sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))
    found = [f"{', '.join(changed)} changed since it was saved"] if changed else []
    was, here = dict(saved.get("node", {})), node_words(facts)
    if was.get("accelerator") != here["accelerator"]:
        found.append(
            f"it was saved under {was.get('accelerator')}, guests here run under {here['accelerator']}"
        )
    model = str(saved.get("runningcpu", "")).partition(",")[0]
    if model in ("host", "max") and (was.get("cpu"), was.get("qemu")) != (here["cpu"], here["qemu"]):
        found.append(f"its processor is the node's own ({model}), and that is another one now")
    return found


def refusals(mapping: Mapping[str, str]) -> list[ConfigError]:
    """Why this template's guest cannot be kept warm safely, each on the key that is in the way."""
    return list(_refusals(VMConfig.parse(mapping)))


def _refusals(config: VMConfig) -> Iterator[ConfigError]:
    if not is_linux(str(config.value("ostype"))):
        yield ConfigError(
            "ostype", "only a Linux guest takes a new identity from its agent while it runs; "
            "Windows has to be generalised (sysprep) and boot",
        )  # fmt: skip
    agent = config.get("agent")
    if agent is None or not agent.enabled:
        yield ConfigError("agent", "is off: without an agent a clone could not be told who it is")
    if config.mapping.get("vmgenid", "0") == "0":
        yield ConfigError(
            "vmgenid", "is off: clones would go on with the same random numbers, and so with the same keys"
        )
    if "tpmstate0" in config:
        yield ConfigError("tpmstate0", "a TPM vouches for one machine; its state cannot be that of several")
    if config.get("args"):
        yield ConfigError("args", "adds devices nobody here knows")
    if config.value("freeze"):
        yield ConfigError("freeze", "the guest would never come up")
    for key in config.mapping:
        if name_of(key) in _STUCK:
            yield ConfigError(key, "lives outside of the guest's memory and cannot be saved with it")
    for key, _, usb in config.slots("usb"):
        if usb.host != "spice":
            yield ConfigError(key, "is a device of the node, which only one guest can have")
    for key, _, serial in config.slots("serial"):
        if serial.port != "socket":
            yield ConfigError(key, "is a port of the node, which only one guest can have")
    for key, _, net in config.slots("net"):
        if net.model == "ne2k_isa":
            yield ConfigError(key, "an ISA card cannot be plugged into a clone that runs")
