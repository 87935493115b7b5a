"""Where a drive is plugged in: four buses, their numbers, and the panel of whatever sits on one."""

from __future__ import annotations

from vms.forms.editing import Editing, Texts
from vms.forms.fields import Choices
from vms.forms.hardware import compose, decompose
from vms.forms.panel import Fields, Panel
from vms.hardware import SLOTS, part_of
from vms.schema.option import option_table

BUSES = {"ide": "IDE", "sata": "SATA", "virtio": "VirtIO Block", "scsi": "SCSI"}
BUS_SIZE = {slot.name: slot.count for slot in SLOTS if slot.name in BUSES}


def split_slot(slot: str) -> tuple[str, str]:
    """``scsi3`` → ``("scsi", "3")``"""
    bus = slot.rstrip("0123456789")
    return bus, slot[len(bus) :]


def taken(draft: Editing) -> set[str]:
    """The slots nothing more can be plugged into."""
    return set(draft.mapping) | draft.reserved


def free_index(draft: Editing, bus: str) -> int | None:
    """The lowest free number on ``bus``; None when it is full. A q35 board has no second disk on an IDE
    port that every system sees (rule R22)."""
    used = taken(draft)
    odd = bus == "ide" and "q35" in draft.mapping.get("machine", "")
    places = range(0, BUS_SIZE[bus], 2 if odd else 1)
    return next((n for n in places if f"{bus}{n}" not in used), None)


def free_slot(draft: Editing, *buses: str) -> str:
    """The lowest free slot of the first bus that has one; "" when all are full."""
    for bus in buses:
        index = free_index(draft, bus)
        if index is not None:
            return f"{bus}{index}"
    return ""


class Plugged(Panel):
    """A drive whose place is chosen with the fields ``bus`` and ``index``."""

    buses: tuple[str, ...] = tuple(BUSES)

    def slots(self) -> list[str]:
        return [key for key in self.mapping if split_slot(key)[0] in BUSES]

    def place_values(self, slot: str) -> Texts:
        """The two fields' texts."""
        bus, index = split_slot(slot)
        return {"bus": bus, "index": index}

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        return [(bus, label) for bus, label in BUSES.items() if bus in self.buses] if name == "bus" else None

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        fields["index"].note = f"0 to {BUS_SIZE.get(values.get('bus', ''), 31) - 1}"

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        bus, index = values.get("bus", ""), values.get("index", "")
        if bus not in BUS_SIZE or not index.isdigit():
            return {}
        if int(index) >= BUS_SIZE[bus]:
            last = BUS_SIZE[bus] - 1
            return {"index": f"{BUSES[bus]} has the places 0 to {last}; {index} is not one of them."}
        wanted = f"{bus}{int(index)}"
        if wanted != slot and wanted in taken(self.draft):
            free = free_index(self.draft, bus)
            hint = f" {bus}{free} is free." if free is not None else ""
            return {"index": f"This device is already in use: {wanted}.{hint}"}
        return {}

    def place(self, good: Texts, values: Texts, slot: str) -> str:
        """Follow a change of bus or number. A new bus takes its next free number unless one was given."""
        if not {"bus", "index"} & set(good):
            return slot
        bus, index = values["bus"], values["index"]
        if self.draft.typed.get(slot, {}).get("bus"):
            return slot
        if "bus" in good and "index" not in good:
            free = free_index(self.draft, bus)
            index = "" if free is None else str(free)
        if not index:
            self.draft.blame(slot, "bus", f"Every {BUSES[bus]} place is taken; choose another bus.", bus)
            return slot
        if f"{bus}{int(index)}" == slot:
            return slot
        return self.move(slot, f"{bus}{int(index)}")

    def move(self, old: str, new: str) -> str:
        """Take what is in ``old`` to the free slot ``new``."""
        return replug(self.draft, old, new)


def replug(draft: Editing, old: str, new: str) -> str:
    """Move the drive in ``old`` to the free slot ``new``; options the new bus lacks are dropped."""
    parts = decompose(old, draft.mapping[old])
    known = option_table(part_of(new) or object)
    draft.rename(old, new)
    draft.mapping[new] = compose(new, {name: text for name, text in parts.items() if name in known})
    return new
