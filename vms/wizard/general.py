"""The tabs General and OS."""

from __future__ import annotations

from typing import cast

from django.forms import RadioSelect

from vms import access
from vms.errors import ConfigError
from vms.forms.fields import Choices, OptionField, sentence
from vms.forms.hardware import write
from vms.hardware.osdefaults import OS_TYPES, os_group
from vms.models import VM, Node
from vms.operations import drafts
from vms.schema.types import normal_tags
from vms.wizard import follow
from vms.wizard.drafts import Texts
from vms.wizard.offers import gib
from vms.wizard.panel import Fields, Panel, disable, hide

DRIVER_SLOT = "ide0"
CD_SLOT = "ide2"


class General(Panel):
    """Where the machine runs, its number, its name."""

    slug = "general"

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


class OS(Panel):
    """What is installed, and from where."""

    slug = "os"

    def values(self, slot: str) -> Texts:
        stash = self.draft.stash
        iso, drivers = self._file(CD_SLOT), self._file(DRIVER_SLOT)
        medium = "iso" if ":" in iso else "cdrom" if iso == "cdrom" else stash.get("medium", "iso")
        places = [place.name for place in self.draft.offers.iso_places]
        store = iso.partition(":")[0] if ":" in iso else stash.get("iso_storage", "")
        ostype = self.mapping.get("ostype", "other")
        return {
            "medium": medium, "iso_storage": store or (places[0] if places else ""),
            "iso": iso if ":" in iso else "", "ostype_group": os_group(ostype), "ostype": ostype,
            "drivers": "1" if drivers or stash.get("drivers") == "1" else "0",
            "drivers_iso": drivers if ":" in drivers else "",
        }  # fmt: skip

    def _file(self, key: str) -> str:
        text = self.mapping.get(key, "")
        return text.partition(",")[0] if "media=cdrom" in text else ""

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        offers = self.draft.offers
        if name == "medium":
            media = self.option("medium", slot).choices
            return [pair for pair in media if pair[0] != "cdrom" or self._console()]
        if name == "iso_storage":
            return [(place.name, place.label) for place in offers.iso_places]
        if name == "iso":
            return offers.iso_choices(values.get("iso_storage", ""), values.get("iso", ""))
        if name == "drivers_iso":
            chosen = values.get("drivers_iso", "")
            stores = [place.name for place in offers.iso_places]
            found = [pair for store in stores for pair in offers.iso_choices(store, chosen)[1:]]
            return [("", "Choose an image" if found else "No image here yet"), *found]
        if name == "ostype_group":
            return [(group, group) for group in OS_TYPES]
        if name == "ostype":
            return OS_TYPES.get(values.get("ostype_group", ""), [])
        return None

    def _console(self) -> bool:
        return access.may(self.draft.user, "Sys.Console", "/")

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        medium = cast("OptionField", fields["medium"])
        medium.widget = RadioSelect(choices=list(medium.offered or ()))
        if values.get("medium") != "iso":
            hide(fields, "iso_storage", "iso")
        if not self._console():
            fields["medium"].note = "The node's own drive can be used by who holds Sys.Console on /."
        windows = values.get("ostype_group") == "Microsoft Windows"
        if not windows:
            hide(fields, "drivers", "drivers_iso")
        elif values.get("drivers") != "1":
            hide(fields, "drivers_iso")

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        found = {}
        for name in ("iso", "drivers_iso"):
            volid = values.get(name, "")
            row = self.draft.offers.iso(volid) if volid else None
            if volid and (row is None or not row.present):
                store, _, path = volid.partition(":")
                label = path.rpartition("/")[2]
                found[name] = (
                    f"'{label}' is no longer on storage '{store}'. Upload it again or choose another."
                )
        return found

    def submit(self, data: object, slot: str = "") -> str:
        """As everywhere; besides, a new type takes its first version, a new storage its own images."""
        sent = data.copy()  # type: ignore[attr-defined]  # QueryDict
        known = {**self.values(slot), **self.draft.typed.get(self.slug, {})}
        group = sent.get("ostype_group", known["ostype_group"])
        versions = [value for value, _ in OS_TYPES.get(group, [])]
        if versions and sent.get("ostype", known["ostype"]) not in versions:
            sent["ostype"] = versions[0]
        store = sent.get("iso_storage", known["iso_storage"])
        if store != known["iso_storage"] and not sent.get("iso", "").startswith(f"{store}:"):
            sent["iso"] = ""
        return super().submit(sent, slot)

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        stash = self.draft.stash
        for name in ("medium", "iso_storage", "drivers"):
            if name in good:
                stash[name] = good[name]
        if {"medium", "iso", "iso_storage"} & set(good):
            self._medium(values)
        if "ostype" in good:
            write(self.mapping, "ostype", good["ostype"])
        if values["ostype_group"] != "Microsoft Windows":
            stash.pop("drivers", None)
        if self._file(DRIVER_SLOT):
            del self.mapping[DRIVER_SLOT]
        if {"ostype", "drivers", "ostype_group"} & set(good):
            follow.apply(self.draft)
        self._drivers(values.get("drivers_iso", ""))
        return slot

    def _drivers(self, iso: str) -> None:
        """Put the driver image into its drive, which must not hold a disk somebody placed there."""
        if self.draft.stash.get("drivers") != "1" or not iso:
            return
        if DRIVER_SLOT in self.mapping:
            words = f"{DRIVER_SLOT} holds a disk; give that disk another place on the Disks tab first."
            self.draft.blame(self.slug, "drivers_iso", words, iso)
            return
        self.mapping[DRIVER_SLOT] = f"{iso},media=cdrom"

    def _medium(self, values: Texts) -> None:
        medium, iso = values.get("medium", "iso"), values.get("iso", "")
        file = "cdrom" if medium == "cdrom" else iso if medium == "iso" and iso else "none"
        self.mapping[CD_SLOT] = f"{file},media=cdrom"
