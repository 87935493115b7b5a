"""The tab General: where the machine runs, its number, its name."""

from __future__ import annotations

from vms import access
from vms.errors import ConfigError
from vms.forms.editing import Texts
from vms.forms.fields import Choices, sentence
from vms.forms.offers import gib
from vms.forms.panel import Fields, Panel, disable
from vms.models import VM, Node
from vms.operations import drafts
from vms.schema.types import normal_tags
from vms.wizard.drafts import Draft
from vms.wizard.tabs import BY_SLUG


class General(Panel):
    """Where the machine runs, its number, its name."""

    slug = "general"
    sections = BY_SLUG["general"].sections
    draft: Draft

    def values(self, slot: str) -> Texts:
        vm = self.draft.vm
        own = {"node": vm.node.name, "vmid": str(vm.vmid), "pool": vm.pool.name if vm.pool else ""}
        return super().values(slot) | own

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        if name == "node":
            return [(node.name, node_words(node)) for node in self.draft.offers.nodes]
        if name == "pool":
            return [("", "No pool"), *((pool.name, pool.name) for pool in self.draft.offers.pools)]
        return None

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        if not self.draft.user.is_superuser:
            disable(fields, "Only an operator may choose another architecture.", "arch")
        chosen = next((node for node in self.draft.offers.nodes if node.name == values.get("node")), None)
        if chosen is not None and not chosen.online:
            fields[
                "node"
            ].note = f"Node {chosen.name} seems to be offline! The machine is made when it is back."

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        path, pool = f"/vms/{values.get('vmid', '')}", values.get("pool", "")
        if access.may(self.draft.user, "VM.Allocate", path, pool=pool):
            return {}
        return {"vmid": f"You may not create a machine here: VM.Allocate is missing on {path}."}

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        vm, offers = self.draft.vm, self.draft.offers
        if "tags" in good:
            good["tags"] = normal_tags(good["tags"])
        self.put(good, slot)
        if "pool" in good:
            vm.pool = next((pool for pool in offers.pools if pool.name == good["pool"]), None)
            vm.save(update_fields=["pool"])
        if "node" in good:
            vm.node = next(node for node in offers.nodes if node.name == good["node"])
            vm.save(update_fields=["node"])
            self.draft.offers = type(offers)(vm.node, self.draft.user)
        if "vmid" in good:
            self._renumber(vm, int(good["vmid"]))
        return slot

    def _renumber(self, vm: VM, vmid: int) -> None:
        old = vm.vmid
        try:
            drafts.change_vmid(vm, vmid)
        except ConfigError as error:
            self.draft.blame(self.slug, "vmid", sentence(error), str(vmid))
            return
        vm.vmid = vmid
        if old not in self.draft.was:
            self.draft.was.append(old)


def node_words(node: Node) -> str:
    """A node in the list: how much of its memory is in use, its processors, whether it answers."""
    facts = node.facts
    words = []
    memory, free = facts.get("memory"), facts.get("memory_free")
    if memory:
        used = f"{100 * (memory - free) // memory} % of " if free else ""
        words.append(f"{used}{gib(memory)} memory{' in use' if used else ''}")
    if facts.get("threads"):
        words.append(f"{facts['threads']} CPUs")
    if not node.online:
        words.append("offline")
    return f"{node.name} ({', '.join(words)})" if words else node.name
