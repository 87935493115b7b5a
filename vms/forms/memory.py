"""How much memory, and how much of it the node may take back."""

from __future__ import annotations

from django.http import QueryDict

from vms.forms.editing import Texts
from vms.forms.panel import Fields, Panel, Section, disable

SECTIONS = (
    Section(("memory.current",)),
    Section(("balloon", "shares", "ballooning", "allow-ksm"), advanced=True),
)
KEYS = ("memory", "balloon", "shares", "allow-ksm")
"""The configuration keys these fields write."""


class Memory(Panel):
    """How much memory, and how much of it the node may take back."""

    slug = "memory"
    sections = SECTIONS

    def values(self, slot: str) -> Texts:
        found = super().values(slot)
        found["memory.current"] = found["memory.current"] or "512"
        off = self.mapping.get("balloon") == "0"
        found["ballooning"] = "0" if off else "1"
        if off or not found["balloon"]:
            found["balloon"] = found["memory.current"]
        return found

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        off = values.get("ballooning") != "1"
        if off:
            disable(fields, "Needs the ballooning device.", "balloon", "shares")
        elif values.get("balloon") == values.get("memory.current"):
            disable(fields, "Only counts when the minimum is below the memory.", "shares")

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        memory, least = values["memory.current"], values["balloon"]
        if not (memory.isdigit() and least.isdigit()) or values["ballooning"] != "1":
            return {}
        if int(least) > int(memory):
            return {"balloon": f"{least} MiB is more than the memory of {memory} MiB."}
        if int(least) < 1:
            return {
                "balloon": "0 would remove the device; untick Ballooning device instead, or write 1 or more."
            }
        return {}

    def submit(self, data: QueryDict, slot: str = "") -> str:
        """As everywhere; besides, a minimum that equalled the memory follows it."""
        known = {**self.values(slot), **self.draft.typed.get(self.slug, {})}
        memory, least = data.get("memory.current"), data.get("balloon", known["balloon"])
        if memory is not None and (least == memory or least == known["balloon"] == known["memory.current"]):
            data = data.copy()
            data["balloon"] = str(memory) if str(memory).isdigit() else known["balloon"]
        return super().submit(data, slot)

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        follows = "balloon" not in self.mapping
        least = good.pop("balloon", None)
        device = good.pop("ballooning", None)
        self.put(good, slot)
        memory = self.mapping.get("memory", "")
        if device == "0":
            self.mapping["balloon"] = "0"
            self.mapping.pop("shares", None)
        elif device == "1":
            self.mapping.pop("balloon", None)
        if least is not None and self.mapping.get("balloon") != "0":
            self.mapping["balloon"] = least
        if self.mapping.get("balloon") in (memory, "") or (follows and least is None and device != "0"):
            self.mapping.pop("balloon", None)
            self.mapping.pop("shares", None)
        return slot
