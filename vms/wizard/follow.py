"""What the guest system proposes: applied to everything nobody set on purpose, said in a chip, undone on
request."""

from __future__ import annotations

from dataclasses import dataclass

from vms.forms import disks, network
from vms.forms.boards import board_of
from vms.forms.editing import Texts
from vms.forms.hardware import read, write
from vms.forms.places import BUSES, free_index, split_slot
from vms.hardware.osdefaults import OS_TYPES, os_defaults, os_group
from vms.wizard import system
from vms.wizard.drafts import Draft

LABELS = {
    "scsihw": "SCSI controller", "machine.type": "Machine", "bios": "BIOS", "tpm": "TPM",
    "memory.current": "Memory",
}  # fmt: skip


@dataclass(frozen=True)
class Chip:
    """The line "3 values follow Linux": which they are, and whether a change can be taken back."""

    system: str
    lines: tuple[str, ...]
    undo: bool


def desired(draft: Draft) -> Texts:
    """The proposal for the chosen system: name → text."""
    wish = os_defaults(draft.mapping.get("ostype", "other"))
    drivers = draft.stash.get("drivers") == "1"
    found = {
        "scsihw": wish.scsihw, "machine.type": wish.machine, "bios": wish.bios,
        "tpm": "1" if wish.tpm else "0", "memory.current": str(wish.memory),
    }  # fmt: skip
    slots = disks.disk_slots(draft)
    if len(slots) == 1:
        found[f"{slots[0]}.bus"] = "scsi" if drivers else wish.bus
    for slot in network.nic_slots(draft):
        found[f"{slot}.model"] = "virtio" if drivers else wish.nic
    return found


def current(draft: Draft, name: str) -> str:
    """The present text of ``name``."""
    if name == "tpm":
        return system.System(draft).values("")["tpm"]
    if name.endswith(".bus"):
        return split_slot(name.partition(".")[0])[0]
    text = read(draft.mapping, name)
    return board_of(text) if name == "machine.type" else text


def put(draft: Draft, name: str, text: str) -> str:
    """Set ``name``; answers its name afterwards (a disk's slot changes with its bus)."""
    if name == "tpm":
        draft.stash["tpm"] = text
    elif name.endswith(".bus"):
        old = name.partition(".")[0]
        free = free_index(draft, text)
        if free is not None:
            return f"{disks.move(draft, old, f'{text}{free}')}.bus"
    else:
        write(draft.mapping, name, text)
    return name


def apply(draft: Draft) -> None:
    """Bring everything untouched in line with the chosen system, and remember what it was before."""
    before: dict[str, str | None] = {}
    for name, text in desired(draft).items():
        was = current(draft, name)
        if name not in draft.touched and was != text:
            before[put(draft, name, text)] = was
    system.settle(draft)
    disks.tune(draft)
    draft.before = before
    draft.followed = draft.mapping.get("ostype", "other")


def undo(draft: Draft) -> None:
    """Put back what the last change of system changed; from now on those values are somebody's choice."""
    for name, was in list(draft.before.items()):
        after = put(draft, name, was or "")
        draft.touch({after})
    system.settle(draft)
    disks.tune(draft)
    draft.before = {}


def chip(draft: Draft) -> Chip:
    """What follows the system now."""
    ostype = draft.mapping.get("ostype", "other")
    lines = []
    for name, text in desired(draft).items():
        if name not in draft.touched and text not in ("", "0") and current(draft, name) == text:
            if name == "memory.current" and text == "2048":
                continue
            lines.append(f"{_label(name)}: {_word(name, text)}")
    return Chip(system_name(ostype), tuple(lines), bool(draft.before))


def system_name(ostype: str) -> str:
    """``Linux``, ``Windows 11/2022/2025``"""
    group = os_group(ostype)
    if group != "Microsoft Windows":
        return group
    return f"Windows {dict(OS_TYPES[group]).get(ostype, ostype)}"


def _label(name: str) -> str:
    slot, _, part = name.partition(".")
    if part in ("bus", "model"):
        return f"{slot} {part}"
    return LABELS[name]


def _word(name: str, text: str) -> str:
    if name == "tpm":
        return "2.0"
    if name.endswith(".bus"):
        return BUSES[text]
    return f"{text} MiB" if name == "memory.current" else text
