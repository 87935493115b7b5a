"""The Confirm tab: every choice in the wizard's order and in words, and what the machine costs its node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from django.db.models import Sum

from vms import access
from vms.forms.disks import disk_slots
from vms.forms.fields import OptionField, OptionFlag, flat
from vms.forms.hardware import decompose
from vms.forms.offers import GIB, gib
from vms.forms.panel import Panel
from vms.models import VM
from vms.wizard.drafts import Draft
from vms.wizard.panels import Panels
from vms.wizard.tabs import BY_SLUG, SLUGS

HIDDEN = frozenset({"iso_storage", "index", "controller", "total", "node"})
"""Said by another row already."""


@dataclass(frozen=True)
class Row:
    """One choice. ``default`` ones were left alone; ``why`` then says why they are as they are."""

    label: str
    value: str
    default: bool
    why: str


@dataclass(frozen=True)
class Group:
    """The rows of one tab, or of one drive or card on it."""

    slug: str
    label: str
    slot: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Cost:
    """What the node gives away: in words, and whether it has it."""

    label: str
    text: str
    short: bool


def groups(panels: Panels) -> list[Group]:
    """Everything chosen, tab by tab."""
    found = []
    for slug in SLUGS[:-1]:
        panel = panels.panels[slug]
        tab = BY_SLUG[slug]
        for slot in panel.slots():
            found.append(
                Group(slug, f"{tab.label} · {slot}" if slot else tab.label, slot, _rows(panel, slot))
            )
        if not panel.slots():
            empty = Row(tab.label, f"No {tab.lists}", False, "")
            found.append(Group(slug, tab.label, "", (empty,)))
    return found


def _rows(panel: Panel, slot: str) -> tuple[Row, ...]:
    rows = []
    for bound in panel.form(slot):
        field = cast("OptionField | OptionFlag", bound.field)
        if bound.name in HIDDEN or field.why_not:
            continue
        default = panel.full(bound.name, slot) not in panel.draft.touched
        value = _value(field, bound.data, default)
        if value:
            rows.append(Row(str(bound.label), value, default, field.why))
    return tuple(rows)


def _value(field: OptionField | OptionFlag, data: Any, default: bool) -> str:
    """A choice in words; "" for what nobody needs to read (an advanced option left alone)."""
    if isinstance(field, OptionFlag):
        return "" if default and field.advanced and not data else ("Yes" if data else "No")
    choices, text = dict(flat(field.offered or ())), str(data or "")
    if not text:
        return choices.get("", "Default") if choices and not field.advanced else ""
    value = choices.get(text, text)
    return f"{value} {field.unit}" if field.unit and not value.endswith(field.unit) else value


def costs(draft: Draft) -> list[Cost]:
    """Memory and disk space this machine asks for, against what its node has."""
    facts, vm = draft.facts, draft.vm
    memory = (vm.memory or 512) << 20
    promised = VM.objects.filter(node=vm.node).exclude(status=VM.Status.STOPPED).aggregate(sum=Sum("memory"))
    running = (promised["sum"] or 0) << 20
    free = max(0, facts.memory - running)
    text = f"{gib(memory)} of {gib(facts.memory)}; running machines are promised {gib(running)}"
    found = [Cost("Memory", text, memory > free)]
    wanted: dict[str, int] = {}
    for slot in disk_slots(draft):
        parts = decompose(slot, draft.mapping[slot])
        name, _, gibs = parts.get("file", "").partition(":")
        image = draft.offers.image(parts["import-from"]) if "import-from" in parts else None
        size = image.size if image else round(float(gibs) * GIB) if gibs.replace(".", "", 1).isdigit() else 0
        wanted[name] = wanted.get(name, 0) + size
    for name, size in sorted(wanted.items()):
        place = draft.offers.place(name)
        room = f"; {gib(place.available)} free now" if place and place.total else ""
        found.append(
            Cost(
                f"Disk on {name}", f"{gib(size)} promised, taken up as the guest writes{room}",
                bool(place and place.total and size > place.available),
            )
        )  # fmt: skip
    return found


def may_start(draft: Draft) -> str:
    """Why *Start after created* is not offered; "" when it is."""
    vm = draft.vm
    if access.may(draft.user, "VM.PowerMgmt", vm.path, pool=vm.pool.name if vm.pool else ""):
        return ""
    return f"Starting needs VM.PowerMgmt on {vm.path}."
