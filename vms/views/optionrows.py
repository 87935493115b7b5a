"""The rows of the Options page: what is no hardware, what waits, what can be done about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.urls import reverse

from vms.config.secrets import masked
from vms.errors import ConfigError
from vms.forms.bootorder import entries_of, ordered
from vms.forms.options import OWN, smbios_texts
from vms.hardware.guest import Startup
from vms.hardware.machine import HOTPLUG_WORDS, Smbios1, hotplug_words
from vms.models import VM
from vms.models.waiting import Waiting
from vms.operations.protection import protected, said_of
from vms.schema.option import option_table
from vms.views import words
from vms.views.devices import Action, Gate

FIRST_LINE = 100
"""Characters of a note's first line that its row shows."""


@dataclass(frozen=True)
class Line:
    """A row. ``more`` stands below the value, muted; ``waits`` is the value after the next cold start in
    words, "" when none waits; ``page``: it is edited on a page of its own, in no dialog."""

    key: str
    label: str
    value: str
    edit: Action
    revert: Action
    more: str = ""
    default: bool = False
    waits: str = ""
    page: bool = False


def lines_of(vm: VM, waiting: Waiting, gate: Gate) -> list[Line]:
    """Every row, in Proxmox's order, then ours. What only an operator may set is shown where it is set."""
    hidden = () if gate.user.is_superuser or "args" in waiting.config else ("args",)
    shown = [key for key in words.OPTION_KEYS if key not in hidden]
    return [line_of(key, vm, waiting, gate) for key in shown]


def line_of(key: str, vm: VM, waiting: Waiting, gate: Gate) -> Line:
    """The row of one key."""
    config = masked(waiting.config)
    after = masked({**config, **{name: text for name, text in waiting.changes.items() if text is not None}})
    after = {name: text for name, text in after.items() if waiting.changes.get(name, "") is not None}
    note = key == "description"
    dialog = reverse("vms:option_edit", args=[vm.vmid, key])
    href = reverse("vms:vm_notes", args=[vm.vmid]) if note else dialog
    return Line(
        key, words.label_of(key), told(key, config),
        Action("edit", "Edit", "edit", href, reason=gate.reason(key, waiting.config.get(key), None)),
        Action(
            "revert", "Revert", "reset", post=reverse("vms:option_revert", args=[vm.vmid, key]),
            reason=gate.reason(key, waiting.config.get(key), None)
            if key in waiting.changes
            else "Nothing waits here.",
        ),
        more=said_of(vm) if key == "protection" and protected(vm) else "",
        default=key not in config, waits=told(key, after) if key in waiting.changes else "", page=note,
    )  # fmt: skip


def told(key: str, config: Mapping[str, str]) -> str:
    """A value in words; what nobody set says what its absence means."""
    text = config.get(key)
    if key == "boot":
        order = ", ".join(ordered(entries_of(config))) or "nothing"
        return order if text is not None else f"Default ({order})"
    if text is None:
        return ABSENT[key] if key in ABSENT else words.said(key, config)
    if key in SPECIAL:
        try:
            return SPECIAL[key](text)
        except ConfigError:
            return text
    return words.words(key, text)


def _startup(text: str) -> str:
    said = Startup.parse(text, "startup")
    found = [
        f"Order {said.order}" if said.order is not None else "Any order",
        *([f"next one after {said.up} s"] if said.up is not None else []),
        *([f"{said.down} s to shut down"] if said.down is not None else []),
    ]
    return ", ".join(found)


def _hotplug(text: str) -> str:
    allowed = hotplug_words(text)
    return ", ".join(OWN[word].label for word in HOTPLUG_WORDS if word in allowed) or "Nothing"


def _smbios(text: str) -> str:
    labels = option_table(Smbios1)
    given = {name: text for name, text in smbios_texts(text).items() if text}
    return ", ".join(f"{labels[name].label} {text}" for name, text in given.items()) or "Default"


def _note(text: str) -> str:
    first = next((line.strip("# ") for line in text.splitlines() if line.strip("# ")), "")
    return first if len(first) <= FIRST_LINE else f"{first[:FIRST_LINE]}…"


def _tags(text: str) -> str:
    return text.replace(";", ", ")


def _generation(text: str) -> str:
    return "None" if text == "0" else text


ABSENT = {
    "name": "None", "tags": "None", "description": "None", "args": "None", "vmgenid": "None",
    "startup": "Default (any order)", "agent": "Default (No)", "vmstatestorage": "Automatic",
    "hotplug": f"Default ({_hotplug('1')})", "localtime": "Default (local time for Windows, else UTC)",
}  # fmt: skip
"""What the absence of a key means, where its declaration does not say it well."""
SPECIAL: Mapping[str, Callable[[str], str]] = {
    "startup": _startup, "hotplug": _hotplug, "smbios1": _smbios, "description": _note,
    "tags": _tags, "vmgenid": _generation,
}  # fmt: skip
"""How keys are told that the general way would not tell well."""
