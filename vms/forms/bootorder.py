"""The boot order: which devices the firmware tries, in which order. Only devices that exist can be in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.http import QueryDict

from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError
from vms.forms.editing import Editing
from vms.forms.hardware import OptionForm
from vms.forms.panel import Panel
from vms.hardware import DRIVE_SLOTS, SLOTS
from vms.hardware.boot import boot_indexes

KINDS = (*DRIVE_SLOTS, "net", "usb", "hostpci")
"""Kinds of devices a firmware can boot from, in the order in which new ones are listed."""


@dataclass(frozen=True)
class Entry:
    """A device in the list. ``on``: the firmware tries it."""

    key: str
    on: bool


class BootOrder(Panel):
    """The list in a person's hands. A sent form holds ``device`` in the order shown and ``on`` for the ticked
    ones; ``go`` of ``up:scsi0`` or ``down:scsi0`` moves one and changes nothing yet."""

    slug = "boot"

    def __init__(self, draft: Editing) -> None:
        super().__init__(draft)
        self.entries = entries_of(draft.mapping)

    def form(self, slot: str = "", *, lenient: bool = False) -> OptionForm:
        """No field; only what an operation found wrong with the list as a whole."""
        return self._form(slot)

    def submit(self, data: QueryDict, slot: str = "") -> str:
        known = {entry.key for entry in self.entries}
        sent = [key for key in dict.fromkeys(data.getlist("device")) if key in known]
        ticked = set(data.getlist("on"))
        before = ordered(self.entries)
        left = [entry.key for entry in self.entries if entry.key not in sent]
        self.entries = [Entry(key, key in ticked) for key in (*sent, *left)]
        verb, _, key = data.get("go", "").partition(":")
        if verb in ("up", "down") and key in known:
            self.entries = moved(self.entries, key, -1 if verb == "up" else 1)
        elif ordered(self.entries) != before:
            self.mapping["boot"] = f"order={';'.join(ordered(self.entries))}"
        return slot


def entries_of(mapping: Mapping[str, str]) -> list[Entry]:
    """Every device one could boot from: first those in the order, then the others, not ticked.

    A machine without a list of its own boots by PVE's letters; they are shown as the list they amount to.
    """
    try:
        config = VMConfig.parse(mapping)
    except ConfigError:
        return []
    places = boot_indexes(config)
    seeds = {key for key, _, drive in config.drives() if drive.is_cloudinit}
    there = [key for slot in in_order() for key in slot if key in mapping and key not in seeds]
    on = sorted((key for key in there if key in places), key=lambda key: places[key])
    return [Entry(key, key in on) for key in (*on, *(key for key in there if key not in on))]


def in_order() -> list[list[str]]:
    """The keys of each kind, in the order in which new devices are listed."""
    by_name = {slot.name: slot.keys() for slot in SLOTS}
    return [by_name[name] for name in KINDS]


def ordered(entries: list[Entry]) -> list[str]:
    """The devices that are tried, in order."""
    return [entry.key for entry in entries if entry.on]


def moved(entries: list[Entry], key: str, step: int) -> list[Entry]:
    """The list with ``key`` one place up (-1) or down (1), as far as there is one."""
    found = list(entries)
    at = next(place for place, entry in enumerate(found) if entry.key == key)
    to = min(max(at + step, 0), len(found) - 1)
    found.insert(to, found.pop(at))
    return found
