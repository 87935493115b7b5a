"""What of a configuration a clone takes over, and what it gets anew. Pure.

Drives are not looked at here beyond which of them a clone has at all: where their volumes come from is the
work of the task that makes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from vms.config.creation import new_mac, new_uuid
from vms.config.vmconfig import VMConfig
from vms.hardware import slot_of
from vms.hardware.machine import Smbios1

DROPPED = frozenset(
    {"template", "parent", "snaptime", "snapstate", "vmstate", "lock", "runningmachine", "runningcpu"}
    | {"running-nets-host-mtu"}
)
"""Keys that say what the source did or is, and nothing of what a machine is made of."""

NAME_LIMIT = 253


def copy_name(name: str, vmid: int) -> str:
    """What a clone is called when nobody says otherwise (PVE)."""
    return f"Copy-of-VM-{name or vmid}"[:NAME_LIMIT].rstrip(".-")


def cloned(
    mapping: Mapping[str, str],
    *,
    uuid: Callable[[], str] = new_uuid,
    macs: Callable[[], str] = new_mac,
) -> dict[str, str]:
    """``mapping`` as a clone has it: new MAC addresses, a new UUID, a new generation ID where there is one.

    Detached disks stay with the source. Everything else is taken over unchanged.
    Raises :class:`ConfigErrors` when the mapping does not parse.
    """
    config = VMConfig.parse({key: text for key, text in mapping.items() if kept(key)})
    found = dict(config.mapping)
    for key, _, net in config.slots("net"):
        found[key] = dataclasses.replace(net, macaddr=macs()).format()
    smbios = config.part("smbios1", Smbios1)
    found["smbios1"] = dataclasses.replace(smbios, uuid=uuid()).format()
    if found.get("vmgenid", "0") != "0":
        found["vmgenid"] = uuid()
    return found


def kept(key: str) -> bool:
    """Whether a clone has this key at all."""
    slot = slot_of(key)
    return key not in DROPPED and not (slot is not None and slot[0].name == "unused")
