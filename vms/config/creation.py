"""What a machine gets at its creation and nobody typed.

The additions are PVE's: a default boot order, a random SMBIOS UUID, a generation id, MAC addresses and the
``meta`` line. One is ours: the machine type is always pinned to the newest version this node has, so that an
update of QEMU never changes the hardware under an installed system (PVE pins Windows guests only).
"""

from __future__ import annotations

import re
import secrets
import time
import uuid
from collections.abc import Callable, Mapping

from vms.config.vmconfig import VMConfig
from vms.hardware.context import NodeFacts

MAC_PREFIX = "BC:24:11"
"""The vendor prefix PVE generates under."""
BOOT_BUSES = ("ide", "scsi", "virtio", "sata")
"""Where the default boot order looks for the first disk, in this order."""


def random_mac() -> str:
    """A MAC address under :data:`MAC_PREFIX`."""
    tail = secrets.token_bytes(3)
    return ":".join([MAC_PREFIX, *(f"{byte:02X}" for byte in tail)])


def random_uuid() -> str:
    """A UUID of version 4."""
    return str(uuid.uuid4())


def default_boot(config: VMConfig) -> str:
    """``order=scsi0;ide2;net0``: the first disk, the first CD-ROM, the first network card."""
    disks: list[str] = []
    cds: list[str] = []
    for bus in BOOT_BUSES:
        for key, _, drive in config.slots(bus):
            (cds if drive.value("media") == "cdrom" else disks).append(key)
    nets = [key for key, _, _ in config.slots("net")]
    return "order=" + ";".join(keys[0] for keys in (disks, cds, nets) if keys)


def pinned_machine(wanted: str, facts: NodeFacts) -> str:
    """The newest versioned type of ``wanted``'s family (``pc``, ``q35``); ``wanted`` if none is known."""
    family = {"": "i440fx", "pc": "i440fx", "q35": "q35"}.get(wanted)
    if family is None:
        return wanted
    versions = []
    for name in facts.machines:
        match = re.fullmatch(rf"pc-{family}-([0-9]+)\.([0-9]+)", name)
        if match:
            versions.append(((int(match[1]), int(match[2])), name))
    return max(versions)[1] if versions else wanted


def complete(
    mapping: Mapping[str, str],
    facts: NodeFacts,
    *,
    new_mac: Callable[[], str] = random_mac,
    new_uuid: Callable[[], str] = random_uuid,
    now: Callable[[], float] = time.time,
) -> dict[str, str]:
    """``mapping`` with everything a new machine is given. What was set stays as it was set.

    Raises :class:`ConfigErrors` when ``mapping`` is wrong.
    """
    made = dict(mapping)
    config = VMConfig.parse(made)
    for key, _, nic in config.slots("net"):
        if not nic.macaddr:
            made[key] = with_mac(made[key], new_mac())
    if "boot" not in made and "bootdisk" not in made:
        made["boot"] = default_boot(config)
    smbios = made.get("smbios1", "")
    if "uuid=" not in smbios:
        made["smbios1"] = ",".join(filter(None, [f"uuid={new_uuid()}", smbios]))
    if made.get("vmgenid", "1") == "1":
        made["vmgenid"] = new_uuid()
    head, _, rest = made.get("machine", "").partition(",")
    pinned = pinned_machine(head.removeprefix("type="), facts)
    if pinned:
        made["machine"] = ",".join(filter(None, [pinned, rest]))
    made.setdefault("meta", f"creation-qemu={facts.qemu_version},ctime={int(now())}")
    return made


def with_mac(text: str, mac: str) -> str:
    """A network card's text with its MAC address filled in."""
    head, comma, rest = text.partition(",")
    return f"{head.removeprefix('model=')}={mac}{comma}{rest}"
