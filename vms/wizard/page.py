"""What a tab's template gets to see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse

from vms.forms import disks, network
from vms.forms.hardware import OptionForm, decompose
from vms.forms.panel import blocks
from vms.wizard import follow, life, preview, review
from vms.wizard.panels import Panels, neighbour
from vms.wizard.tabs import BY_SLUG

COOKIE = "pvelite-advanced"
YEAR = 365 * 86400


@dataclass(frozen=True)
class Entry:
    """A drive or card in the list on the left."""

    slot: str
    text: str
    current: bool
    wrong: bool


def page(request: HttpRequest, panels: Panels, slot: str) -> dict[str, Any]:
    """The context of ``wizard/tab.html`` and of its inner part."""
    draft, slug = panels.draft, panels.current
    panel, tab = panels.panels[slug], BY_SLUG[slug]
    slots = panel.slots()
    slot = slot if slot in slots else (slots[0] if slots else "")
    lenient = panel.scope(slot) not in draft.pressed
    form = panel.form(slot, lenient=lenient) if slots else None
    advice = preview.advice(draft)
    context = {
        "draft": draft, "vm": draft.vm, "tab": tab, "slot": slot, "form": form, "steps": panels.steps(),
        "blocks": blocks(form, tab.sections, panel.names) if form else (),
        "advanced": _advanced(request, form), "has_advanced": any(part.advanced for part in tab.sections),
        "first": neighbour(slug, -1) == slug, "last": slug == "confirm",
        "chip": follow.chip(draft), "advice": advice, "command": preview.command(panels),
        "entries": _entries(panels, slot) if tab.lists else (), "failure": life.failures(draft).get("", ""),
    }  # fmt: skip
    if slug == "network":
        context["no_net"] = not slots
    if slug == "os":
        context["iso_places"] = draft.offers.iso_places
    if slug == "confirm":
        context |= _confirm(panels, advice)
    if tab.lists:
        context["full"] = not disks.next_slot(draft) if slug == "disks" else len(slots) >= network.NIC_COUNT
        context["no_images"] = slug == "disks" and not draft.offers.images
        context["no_place"] = slug == "disks" and not draft.offers.disk_places
    return context


def _confirm(panels: Panels, advice: list[preview.Advice]) -> dict[str, Any]:
    draft = panels.draft
    return {
        "groups": review.groups(panels), "costs": review.costs(draft),
        "start_reason": review.may_start(draft),
        "blocked": any(item.severity == "block" for item in advice),
        "start": draft.stash.get("start") == "1",
    }  # fmt: skip


def _advanced(request: HttpRequest, form: OptionForm | None) -> bool:
    """Whether the advanced part is open: as it was left, and always when something in it is wrong."""
    if form is not None and any(name in form.fields and _is_advanced(form, name) for name in form.errors):
        return True
    if request.method == "POST" and request.POST.get("go", "").startswith("advanced:"):
        return request.POST["go"] == "advanced:1"
    return request.COOKIES.get(COOKIE) == "1"


def _is_advanced(form: OptionForm, name: str) -> bool:
    return bool(getattr(form.fields[name], "advanced", False))


def advanced_cookie(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Remember the Advanced toggle in this browser."""
    go, _, state = request.POST.get("go", "").partition(":")
    if go == "advanced":
        response.set_cookie(COOKIE, "1" if state == "1" else "0", max_age=YEAR, samesite="Lax", httponly=True)
    return response


def _entries(panels: Panels, current: str) -> list[Entry]:
    panel = panels.panels[panels.current]
    found = []
    for slot in panel.slots():
        parts = decompose(slot, panel.mapping[slot])
        if panels.current == "disks":
            image = parts.get("import-from", "").rpartition("/")[2]
            text = image or f"{parts.get('file', '').partition(':')[2]} GiB"
        else:
            text = parts.get("bridge") or "NAT"
        wrong = bool(panel.form(slot, lenient=panel.scope(slot) not in panels.draft.pressed).errors)
        found.append(Entry(slot, text, slot == current, wrong))
    return found
