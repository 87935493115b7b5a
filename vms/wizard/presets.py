"""A draft begun with values: a preset of ours, an address with values in it, or both.

A preset is nothing but a mapping laid over a fresh draft, as ``/vms/create?ostype=win11&memory=8192`` is;
what the guest system then proposes follows by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict

from vms.config.privileged import operators_only
from vms.config.vmconfig import parse_value
from vms.errors import ConfigError
from vms.forms import disks, network
from vms.forms.editing import Texts
from vms.forms.fields import TYPED_LIMIT, sentence
from vms.forms.hardware import compose, decompose
from vms.forms.places import BUSES
from vms.hardware import known, part_of, slot_of
from vms.models.configuration import is_drive
from vms.wizard import follow, system
from vms.wizard.drafts import Draft, locate
from vms.wizard.general import General
from vms.wizard.tabs import BY_SLUG, tab_of

GENERAL = ("vmid", "name", "pool")
"""What the General tab takes besides configuration keys."""
NO_VALUES = frozenset({"csrfmiddlewaretoken", "node", "preset"})
PREFILL_LIMIT = 200
"""Values an address may carry; a whole machine has fewer."""


@dataclass(frozen=True)
class Preset:
    """Values that make one kind of machine, and what to say about them."""

    label: str
    words: str
    icon: str
    mapping: Mapping[str, str]
    disk: Mapping[str, str] = field(default_factory=dict)


PRESETS: Mapping[str, Preset] = {
    "windows-11": Preset(
        "Windows 11", "2 cores, 8 GiB, 64 GiB disk, UEFI with Secure Boot, TPM 2.0", "vm",
        {"ostype": "win11", "cores": "2", "memory": "8192", "agent": "1"}, {"size": "64"},
    ),
    "linux-server": Preset(
        "Linux server", "2 cores, 4 GiB, 32 GiB disk with discard, VirtIO throughout, guest agent", "vm",
        {"ostype": "l26", "cores": "2", "memory": "4096", "agent": "1"}, {"discard": "on"},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Value:
    """One value an address asks for: where it will be, and why it cannot stand ("" when it can)."""

    key: str
    text: str
    tab: str
    error: str


def asked(data: QueryDict) -> Texts:
    """The values in an address or a form, the last of each key; what is too long to be one is cut."""
    found = {key: str(text) for key, text in data.items() if key not in NO_VALUES}
    return {key[:64]: text[:TYPED_LIMIT] for key, text in list(found.items())[:PREFILL_LIMIT]}


def judged(user: Any, wanted: Mapping[str, str]) -> list[Value]:
    """Each value with its tab and what is wrong with it. Nothing is changed."""
    found = []
    for key, text in wanted.items():
        slug = "general" if key in GENERAL else tab_of(key, wanted) if known(key) else ""
        found.append(Value(key, text, BY_SLUG[slug].label if slug else "", fault(user, key, text)))
    return found


def fault(user: Any, key: str, text: str) -> str:
    """Why ``key`` cannot be given this value here; "" when it can."""
    if key in GENERAL and key != "name":
        return ""
    if not known(key):
        return f"There is no option '{key[:40]}'."
    if not tab_of(key, {key: text}):
        return f"'{key}' is not set in the wizard; set it on the machine's page afterwards."
    if operators_only(key, text) and not user.is_superuser:
        return f"Only an operator may set '{key}'."
    try:
        parse_value(key, text)
    except ConfigError as error:
        return " ".join(sentence(single) for single in getattr(error, "errors", (error,)))
    return ""


def lay_over(draft: Draft, preset: str, wanted: Mapping[str, str]) -> None:
    """Fill a fresh draft: the preset first, then ``wanted``. Wrong values become errors on their fields."""
    chosen = PRESETS.get(preset)
    values = {**(chosen.mapping if chosen else {}), **wanted}
    good = {key: text for key, text in values.items() if not fault(draft.user, key, text)}
    if "ostype" in good:
        draft.mapping["ostype"] = good.pop("ostype")
    follow.apply(draft)
    draft.before = {}
    _make_room(draft, good)
    for key, text in good.items():
        if key not in GENERAL:
            put(draft, key, text)
    if chosen and not any(is_hard_disk(key, text) for key, text in good.items()):
        _size_disk(draft, chosen.disk)
    place_small_disks(draft)
    disks.tune(draft)
    general = QueryDict(mutable=True)
    general.update({key: good[key] for key in GENERAL if key in good})
    General(draft).submit(general)
    for key, text in values.items():
        if fault(draft.user, key, text):
            blame(draft, key, text, fault(draft.user, key, text))
    draft.store()
    for scope in [scope for scope in draft.errors if slot_of(scope) and scope not in draft.mapping]:
        draft.blame("general", f"prefill {scope}", f"{scope}: {' '.join(draft.errors[scope].values())}")
        draft.forgive(scope)
    draft.remember()


def put(draft: Draft, key: str, text: str) -> None:
    """Set ``key`` as if a person had: no default replaces it any more."""
    draft.mapping[key] = parse_value(key, text).format() if part_of(key) else text
    names = {f"{key}.{part}" for part in decompose(key, text)} if part_of(key) else {key}
    draft.touch(names | ({f"{key}.bus"} if is_drive(key) else set()))
    if key in ("efidisk0", "tpmstate0"):
        draft.stash["efi" if key == "efidisk0" else "tpm"] = "1"
        draft.touch({"tpm"} if key == "tpmstate0" else set())
    if key == "vga" and text.removeprefix("type=").startswith("serial"):
        draft.mapping[text.removeprefix("type=").partition(",")[0]] = "socket"
    if key == "ide2":
        draft.stash["medium"] = "none" if text.startswith("none") else "iso"


def blame(draft: Draft, key: str, typed: str, words: str) -> None:
    """Put a refused value on its field; on top of the General tab when no field is its."""
    if not known(key) or not tab_of(key, {key: typed}):
        draft.blame("general", f"prefill {key}", words)
        return
    scope, name, _ = locate(ConfigError(key, ""), {key: typed})
    slug = tab_of(key, {key: typed})
    if BY_SLUG[slug].lists and scope not in draft.mapping:
        draft.blame("general", f"prefill {key}", f"{key}: {words}")
        return
    draft.blame(scope, name, words, None if part_of(key) else typed)


def is_hard_disk(key: str, text: str) -> bool:
    """Whether this is a disk of the Disks tab."""
    return key.rstrip("0123456789") in BUSES and "media=cdrom" not in text


def _make_room(draft: Draft, good: Mapping[str, str]) -> None:
    """Given disks and cards stand in place of the ones every draft begins with."""
    if any(is_hard_disk(key, text) for key, text in good.items()):
        for slot in disks.disk_slots(draft):
            draft.drop(slot)
    if any(key.startswith("net") for key in good):
        for slot in network.nic_slots(draft):
            draft.drop(slot)


def _size_disk(draft: Draft, parts: Mapping[str, str]) -> None:
    for slot in disks.disk_slots(draft)[:1]:
        changes = {name: text for name, text in parts.items() if name != "size"}
        if "size" in parts:
            store = decompose(slot, draft.mapping[slot])["file"].partition(":")[0]
            changes["file"] = f"{store}:{parts['size']}"
        draft.mapping[slot] = compose(slot, changes, draft.mapping[slot])


def place_small_disks(draft: Draft) -> None:
    """EFI and TPM disks go where the first disk is, so that nothing is left to ask."""
    slot = next(iter(disks.disk_slots(draft)), "")
    store = decompose(slot, draft.mapping[slot])["file"].partition(":")[0] if slot else ""
    if store:
        draft.stash.setdefault("efi_storage", store)
        draft.stash.setdefault("tpm_storage", store)
    system.settle(draft)
