"""What a button of the wizard does. A form always saves its tab first; then it goes somewhere."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import QueryDict

from vms.errors import ConfigError, VMError
from vms.forms import disks, network
from vms.wizard import cloud, follow, life, preview, system
from vms.wizard.bootorder import settle_boot, settle_network
from vms.wizard.drafts import Draft, locate
from vms.wizard.panels import Panels, neighbour
from vms.wizard.tabs import BY_SLUG, SLUGS, tab_of

PAGES_KEPT = 4
"""Open pages of a draft whose order of saves is remembered."""


@dataclass
class Target:
    """Where the page goes next. ``done``: the machine is being made."""

    slug: str
    slot: str = ""
    done: bool = False
    gone: bool = False


def perform(draft: Draft, slug: str, data: QueryDict) -> Target:
    """Save the sent tab ``slug`` and follow the button that was pressed (``go``)."""
    go, _, what = data.get("go", "save").partition(":")
    if overtaken(draft, data):
        return Target(slug, data.get("slot", ""))
    if go == "discard":
        life.discard(draft.vm, draft.user)
        return Target(slug, gone=True)
    target = Target(slug, _submit(draft, slug, data))
    if go in LISTS:
        target.slot = LISTS[go](draft, slug, what, target.slot)
    elif go == "fix":
        preview.fix(draft, what)
        system.settle(draft)
    elif go == "undo":
        follow.undo(draft)
    draft.visited.add(slug)
    cloud.place_seed(draft)
    settle_boot(draft)
    draft.store(note=go == "create")
    if go == "create":
        return _create(draft, data)
    _walk(draft, target, go, what)
    draft.rest["at"] = target.slug
    draft.remember()
    return target


def overtaken(draft: Draft, data: QueryDict) -> bool:
    """Whether a later request of the same page was served already: its saved values are the newer ones.

    A browser does not wait for a running save when Enter is pressed; the two may arrive in either order.
    """
    page, number = data.get("page", "")[:40], data.get("seq", "")
    if not page or not number.isascii() or not number.isdigit():
        return False
    seen: dict[str, int] = dict(draft.rest.get("seen", {}))
    if int(number[:9]) <= seen.pop(page, 0):
        return True
    draft.rest["seen"] = dict([*list(seen.items())[-PAGES_KEPT:], (page, int(number[:9]))])
    return False


def _submit(draft: Draft, slug: str, data: QueryDict) -> str:
    """Save the fields that were sent; answers the slot that is being edited, by its name now."""
    panel = Panels.one(draft, slug)
    if slug == "confirm":
        # No part of the configuration, yet a choice: the page that answers must not untick it.
        draft.stash["start"] = "1" if "start" in data else "0"
        return ""
    if slug == "network" and "none_shown" in data:
        without = "no_net" in draft.stash
        if ("none" in data) != without:
            (network.plug_again if without else network.unplug_all)(draft)
            return ""
    slot = data.get("slot", "")
    if slot in panel.slots():
        return panel.submit(data, slot)
    return ""


def _walk(draft: Draft, target: Target, go: str, what: str) -> None:
    """Back, Next, or a tab of the row, as far as what stands allows."""
    here = target.slug
    if go == "next":
        draft.pressed |= {Panels.one(draft, here).scope(slot) for slot in Panels.one(draft, here).slots()}
        target.slug = neighbour(here, 1)
    elif go == "back":
        target.slug = neighbour(here, -1)
    elif go == "tab" and what in SLUGS:
        target.slug = what
    if target.slug == here:
        return
    target.slot = ""
    blocker = Panels(draft, here).blocking(target.slug)
    if blocker:
        target.slug, target.slot = blocker, _wrong_slot(draft, blocker)
        draft.pressed |= {Panels.one(draft, blocker).scope(target.slot)}


def _wrong_slot(draft: Draft, slug: str) -> str:
    """The first drive or card of a tab that has an error."""
    panel = Panels.one(draft, slug)
    return next((slot for slot in panel.slots() if slot and panel.form(slot).errors), "")


def _add(draft: Draft, slug: str, what: str, slot: str) -> str:
    made = disks.add_disk(draft) if slug == "disks" else network.add_nic(draft)
    if made and slug == "network":
        draft.stash.pop("no_net", None)
    return made or slot


def _import(draft: Draft, slug: str, what: str, slot: str) -> str:
    """A further disk made from the first image there is; which one, its fields say."""
    images = draft.offers.images
    return (disks.add_disk(draft, images[0].volid) if images and slug == "disks" else "") or slot


def _remove(draft: Draft, slug: str, what: str, slot: str) -> str:
    slots = Panels.one(draft, slug).slots()
    if what not in slots:
        return slot
    place = slots.index(what)
    draft.drop(what)
    left = Panels.one(draft, slug).slots()
    if what != slot:
        return slot
    return left[min(place, len(left) - 1)] if left else ""


def _select(draft: Draft, slug: str, what: str, slot: str) -> str:
    return what


LISTS = {"add": _add, "import": _import, "remove": _remove, "select": _select}


def _create(draft: Draft, data: QueryDict) -> Target:
    """Ask for the machine when everything stands; otherwise go where something does not."""
    blocker = Panels(draft, "confirm").blocking("confirm")
    if blocker:
        return Target(blocker, _wrong_slot(draft, blocker))
    if any(finding.severity == "block" for finding in preview.rule_findings(draft)):
        return Target("confirm")
    draft.rest.pop("error", None)
    settle_network(draft)
    draft.store()
    try:
        life.finish(draft, start="start" in data)
    except ConfigError as error:
        return _refused(draft, error)
    except VMError as error:
        draft.rest["error"] = {"": f"{error} {error.hint}".strip()}
        draft.remember()
        return Target("confirm")
    return Target("confirm", done=True)


def _refused(draft: Draft, error: ConfigError) -> Target:
    """Put what the operation refused on its fields and go to the first."""
    errors = list(getattr(error, "errors", (error,)))
    for single in errors:
        scope, name, text = locate(single, draft.mapping)
        draft.blame(scope, name, text)
    draft.remember()
    first = errors[0]
    slug = tab_of(first.key, draft.mapping) or "general"
    return Target(slug, first.key if BY_SLUG[slug].lists else "")
