"""Network cards: several, or none."""

from __future__ import annotations

import re

from vms.errors import ConfigError
from vms.forms.editing import Editing, Texts
from vms.forms.fields import Choices, sentence
from vms.forms.hardware import compose, decompose
from vms.forms.panel import Fields, Panel, Section, disable
from vms.hardware import SLOTS
from vms.hardware.net import OFFERED_MODELS
from vms.hardware.osdefaults import os_defaults

SECTIONS = (
    Section(("bridge", "tag", "firewall", "model", "macaddr")),
    Section(("link_down", "mtu", "rate", "queues"), advanced=True),
)
NIC_COUNT = next(slot.count for slot in SLOTS if slot.name == "net")


def nic_slots(draft: Editing) -> list[str]:
    """The network cards, lowest number first."""
    return sorted((key for key in draft.mapping if re.fullmatch(r"net[0-9]+", key)), key=lambda k: int(k[3:]))


def add_nic(draft: Editing) -> str:
    """A further card with Proxmox's defaults; answers its slot, "" when all are taken."""
    free = next((f"net{n}" for n in range(NIC_COUNT) if f"net{n}" not in draft.mapping), "")
    if free:
        drivers = draft.stash.get("drivers") == "1"
        nic = "virtio" if drivers else os_defaults(draft.mapping.get("ostype", "other")).nic
        bridges = draft.offers.bridges
        parts = {"model": nic, "bridge": bridges[0] if bridges else "", "firewall": "1"}
        draft.mapping[free] = compose(free, parts)
    return free


def megabits(rate: float) -> str:
    """A limit in MB/s (of 2^20 bytes, as Proxmox counts them) as networks are told (rule R27)."""
    bits = rate * 8 * 1.048576
    return f"about {bits:.0f} Mbit/s" if bits >= 10 else f"about {bits:.2g} Mbit/s"


def unplug_all(draft: Editing) -> None:
    """No network device; the cards come back as they were when the choice is undone."""
    for slot in nic_slots(draft):
        draft.stash[f"nic:{slot}"] = draft.mapping[slot]
        draft.drop(slot)
    draft.stash["no_net"] = "1"


def plug_again(draft: Editing) -> None:
    """Bring back what :func:`unplug_all` removed, or the default card."""
    draft.stash.pop("no_net", None)
    for name in [name for name in draft.stash if name.startswith("nic:")]:
        draft.mapping.setdefault(name[4:], draft.stash.pop(name))
    if not nic_slots(draft):
        add_nic(draft)


class Network(Panel):
    """One card of the list at a time."""

    slug = "network"
    sections = SECTIONS

    def slots(self) -> list[str]:
        return nic_slots(self.draft)

    def values(self, slot: str) -> Texts:
        parts = decompose(slot, self.mapping[slot])
        found: Texts = {}
        for name in self.names:
            text = parts.get(name, "")
            found[name] = (text or "0") if self.option(name, slot).kind == "bool" else text
        return found

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        if name == "model":
            labels = dict(self.option(name, slot).choices)
            return [(model, labels[model]) for model in OFFERED_MODELS]
        if name == "bridge":
            return self.draft.offers.bridge_choices
        return None

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        if values.get("model") != "virtio":
            disable(fields, "Only a VirtIO card can be told its MTU.", "mtu")
        elif values.get("mtu") == "1":
            fields["mtu"].note = "1 takes the bridge's MTU."
        bridge = self.draft.facts.bridge(values.get("bridge", "")) or {}
        if not values.get("bridge"):
            why = "" if self.draft.offers.bridges else "This node has no bridge. "
            fields[
                "bridge"
            ].note = f"{why}The guest reaches out through the node (NAT); nobody reaches it from outside."
            disable(fields, "User-mode networking knows no VLANs.", "tag")
        elif values.get("tag") and bridge.get("vlan_aware") is False:
            fields["tag"].note = f"{values['bridge']} is not VLAN-aware."
        try:
            fields["rate"].note = megabits(float(values.get("rate", "")))
        except ValueError:
            fields["rate"].note = ""

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        mac = values.get("macaddr", "").upper()
        for other in nic_slots(self.draft):
            if other == slot or not mac:
                continue
            known = decompose(other, self.mapping[other]).get("macaddr", "")
            if known.upper() == mac:
                return {"macaddr": f"{mac} is already the address of {other}; leave it empty for a new one."}
        return {}

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        parts = {}
        for name, text in good.items():
            parts[name] = "" if self.option(name, slot).kind == "bool" and text == "0" else text
        if values.get("model") != "virtio":
            parts["mtu"] = ""
        if values.get("bridge") == "":
            parts["tag"] = ""
        if "macaddr" in parts:
            parts["macaddr"] = parts["macaddr"].upper()
        try:
            self.mapping[slot] = compose(slot, parts, self.mapping[slot])
        except ConfigError as error:
            name = error.part or "model"
            self.draft.blame(slot, name, sentence(error), good.get(name))
            rest = {key: text for key, text in good.items() if key != name}
            if len(rest) < len(good):
                return self.take(rest, values, slot)
        return slot
