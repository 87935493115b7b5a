"""What creation adds to a configuration: boot order, identity, MAC addresses, a pinned machine version."""

from __future__ import annotations

import dataclasses
import re
import secrets
import time
import uuid as uuids
from collections.abc import Callable, Mapping

from vms.config.vmconfig import VMConfig
from vms.hardware.context import NodeFacts
from vms.hardware.machine import Machine, Smbios1
from vms.hardware.plan import machine_version

MAC_PREFIX = "BC:24:11"


def new_uuid() -> str:
    """A random UUID."""
    return str(uuids.uuid4())


def new_mac() -> str:
    """A random address with our prefix."""
    return ":".join([MAC_PREFIX, *(f"{byte:02X}" for byte in secrets.token_bytes(3))])


def complete(
    mapping: Mapping[str, str],
    facts: NodeFacts,
    *,
    uuid: Callable[[], str] = new_uuid,
    macs: Callable[[], str] = new_mac,
    now: int | None = None,
) -> dict[str, str]:
    """``mapping`` with everything creation adds; what is already there is never changed.

    ``uuid`` and ``macs`` make one value a call, ``now`` is the time in seconds since 1970. Given all three,
    the function is pure. Raises :class:`ConfigErrors` when the mapping does not parse.
    """
    config = VMConfig.parse(mapping)
    found = dict(config.mapping)
    if "boot" not in found and "bootdisk" not in found:
        found["boot"] = default_boot_order(config)
    if _boots_from_network(found) and config.value("bios") == "ovmf":
        # UEFI's network stack wants random numbers (rule R7).
        found.setdefault("rng0", "source=/dev/urandom")
    smbios = config.part("smbios1", Smbios1)
    if smbios.uuid is None:
        found["smbios1"] = dataclasses.replace(smbios, uuid=uuid()).format()
    if found.get("vmgenid", "1") == "1":
        found["vmgenid"] = uuid()
    made = now if now is not None else int(time.time())
    version = re.match(r"\d+\.\d+(\.\d+)?", facts.qemu_version)
    if version:
        found.setdefault("meta", f"creation-qemu={version[0]},ctime={made}")
    taken = {net.macaddr.upper() for _, _, net in config.slots("net") if net.macaddr}
    for key, _, net in config.slots("net"):
        if net.macaddr is None:
            address = next(mac for mac in iter(macs, "") if mac.upper() not in taken)
            taken.add(address.upper())
            found[key] = dataclasses.replace(net, macaddr=address).format()
    machine = pinned_machine(config.part("machine", Machine), facts)
    if machine is not None:
        found["machine"] = machine
    return found


def _boots_from_network(mapping: Mapping[str, str]) -> bool:
    """Whether a network card is the first thing the firmware tries."""
    return mapping.get("boot", "").removeprefix("order=").startswith("net")


def default_boot_order(config: VMConfig) -> str:
    """The first disk (ide, scsi, virtio, sata), the first CD drive, the first network card."""
    disks = [key for key, _, drive in config.drives() if not drive.is_cdrom]
    discs = [key for key, _, drive in config.drives() if drive.is_cdrom and not drive.is_cloudinit]
    cards = [key for key, _, _ in config.slots("net")]
    return "order=" + ";".join([*disks[:1], *discs[:1], *cards[:1]])


def pinned_machine(machine: Machine, facts: NodeFacts) -> str | None:
    """The board with the newest version this node's QEMU has; ``None`` when nothing is to be pinned."""
    kind = machine.type or "pc"
    if facts.arch != "x86_64" or kind not in ("pc", "q35"):
        return None
    family = "pc-q35" if kind == "q35" else "pc-i440fx"
    known = [name for name in facts.machines if re.fullmatch(rf"{family}-\d+\.\d+", name)]
    newest = max(known, key=lambda name: machine_version(name) or (0, 0, 0), default="")
    if not newest:
        major, minor = facts.version
        newest = f"{family}-{major}.{minor}"
    return dataclasses.replace(machine, type=newest).format()
