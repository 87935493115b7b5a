"""The boot order while a machine is being described.

Nobody chooses it in the wizard: creation works it out. It has to be said only when the second CD drive holds
drivers, because the lowest CD drive would come first then and its disc does not boot; and a copied machine
brings an order of its own, which must not name what is no longer there.
"""

from __future__ import annotations

from vms.forms.hardware import decompose
from vms.wizard.disks import disk_slots
from vms.wizard.drafts import Draft
from vms.wizard.network import nic_slots

BUS_ORDER = ("ide", "scsi", "virtio", "sata")
"""The order in which Proxmox looks for the first disk."""


def settle_boot(draft: Draft) -> None:
    """Bring the key ``boot`` in line with the drives and cards of the draft."""
    mapping, stash = draft.mapping, draft.stash
    if "media=cdrom" in mapping.get("ide0", "") and "media=cdrom" in mapping.get("ide2", ""):
        mapping["boot"] = stash["boot"] = f"order={';'.join(with_drivers(draft))}"
    elif stash.pop("boot", None) == mapping.get("boot", ""):
        mapping.pop("boot", None)
    elif "boot" in mapping:
        named = decompose("boot", mapping["boot"]).get("order", "").split(";")
        left = [slot for slot in named if slot in mapping]
        if left != named:
            mapping["boot"] = f"order={';'.join(left)}" if left else ""
    if not mapping.get("boot"):
        mapping.pop("boot", None)


def with_drivers(draft: Draft) -> list[str]:
    """First disk, installation disc, driver disc, network."""
    found = sorted(
        disk_slots(draft), key=lambda slot: (BUS_ORDER.index(slot.rstrip("0123456789")), len(slot), slot)
    )
    return [*found[:1], "ide2", "ide0", *nic_slots(draft)[:1]]
