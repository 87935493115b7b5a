"""A configuration while somebody edits it: a draft of the wizard, or a VM in a dialog of its Hardware page.

Panels read and change it; whoever made it decides when, and whether, the outcome is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vms.forms.offers import Offers
from vms.models import VM

Texts = dict[str, str]


class Editing:
    """``mapping`` is the configuration as it would be. ``typed`` holds, by scope, texts that are no legal
    value, ``errors`` why values cannot stand; ``touched`` names what a person set on purpose, ``stash`` keeps
    choices no configuration can hold."""

    def __init__(self, vm: VM, user: Any, mapping: Mapping[str, str]) -> None:
        self.vm = vm
        self.user = user
        self.mapping: Texts = dict(mapping)
        self.touched: set[str] = set()
        self.typed: dict[str, Texts] = {}
        self.errors: dict[str, Texts] = {}
        self.stash: Texts = {}
        self.offers = Offers(vm.node, user, vm)

    @property
    def facts(self) -> Any:
        return self.offers.facts

    @property
    def reserved(self) -> set[str]:
        """Slots that are kept free although nothing is in them yet."""
        return set()

    def touch(self, names: set[str]) -> None:
        """Remember that a person set these on purpose: no default replaces them any more."""
        self.touched |= names

    def keep(self, scope: str, typed: Mapping[str, str]) -> None:
        """Remember texts of a panel (or one of its slots) that are no legal value yet."""
        if typed:
            self.typed[scope] = dict(typed)
        else:
            self.typed.pop(scope, None)

    def blame(self, scope: str, name: str, text: str, typed: str | None = None) -> None:
        """Note an error found while storing; it stays until that field is sent again."""
        self.errors.setdefault(scope, {})[name] = text
        if typed is not None:
            self.typed.setdefault(scope, {})[name] = typed

    def forgive(self, scope: str) -> None:
        """Drop what was noted against a panel or slot: its fields were sent anew."""
        self.errors.pop(scope, None)

    def rename(self, old: str, new: str) -> None:
        """Move everything known about slot ``old`` to slot ``new``."""
        self.mapping[new] = self.mapping.pop(old)
        for notes in (self.typed, self.errors):
            if old in notes:
                notes[new] = notes.pop(old)
        moved = {name for name in self.touched if name.startswith(f"{old}.")}
        self.touched = (self.touched - moved) | {f"{new}.{name.partition('.')[2]}" for name in moved}

    def drop(self, slot: str) -> None:
        """Remove a drive or network card and all notes about it."""
        self.mapping.pop(slot, None)
        self.typed.pop(slot, None)
        self.errors.pop(slot, None)
        self.touched = {name for name in self.touched if not name.startswith(f"{slot}.")}
