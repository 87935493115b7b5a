"""The boot order while a machine is being described.

Nobody chooses it in the wizard: creation works it out. It has to be said only when the second CD drive holds
drivers, because the lowest CD drive would come first then and its disc does not boot; and a copied machine
brings an order of its own, which must not name what is no longer there.
"""

from __future__ import annotations

from vms.forms.disks import disk_slots
from vms.forms.hardware import decompose
from vms.forms.network import nic_slots
from vms.wizard.drafts import Draft

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


def settle_network(draft: Draft) -> None:
    """What an installation over the network needs, said last of all: the card first, a random source."""
    if boots_from_network(draft) and "boot" not in draft.mapping:
        order = [*nic_slots(draft)[:1], *first_disk(draft)]
        draft.mapping["boot"] = draft.stash["boot"] = f"order={';'.join(order)}"
    settle_random(draft)


def boots_from_network(draft: Draft) -> bool:
    """Whether the machine is to be installed over the network: no medium, no image, but a card."""
    without = draft.stash.get("medium") == "none" and draft.mapping.get("ide2", "").startswith("none")
    images = any("import-from=" in draft.mapping[slot] for slot in disk_slots(draft))
    return without and not images and bool(nic_slots(draft))


def settle_random(draft: Draft) -> None:
    """UEFI boots from the network only in a machine with a source of random numbers (rule R7)."""
    needed = boots_from_network(draft) and draft.mapping.get("bios") == "ovmf"
    if needed and "rng0" not in draft.mapping:
        draft.mapping["rng0"] = draft.stash["rng0"] = "/dev/urandom"
    elif not needed and draft.mapping.get("rng0") == draft.stash.pop("rng0", ""):
        draft.mapping.pop("rng0", None)


def first_disk(draft: Draft) -> list[str]:
    """The disk Proxmox would look for first, if there is one."""
    found = sorted(
        disk_slots(draft), key=lambda slot: (BUS_ORDER.index(slot.rstrip("0123456789")), len(slot), slot)
    )
    return found[:1]


def with_drivers(draft: Draft) -> list[str]:
    """First disk, installation disc, driver disc, network."""
    return [*first_disk(draft), "ide2", "ide0", *nic_slots(draft)[:1]]
