"""The tab OS: what is installed, and from where."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from django.forms import RadioSelect

from vms import access
from vms.forms.editing import Texts
from vms.forms.fields import Choices, OptionField
from vms.forms.hardware import write
from vms.forms.panel import Fields, Panel, hide
from vms.hardware.osdefaults import OS_TYPES, os_group
from vms.schema.option import Option
from vms.wizard import cloud, follow
from vms.wizard.drafts import Draft
from vms.wizard.tabs import BY_SLUG

DRIVER_SLOT = "ide0"
CD_SLOT = "ide2"


class OS(Panel):
    """What is installed, and from where."""

    slug = "os"
    sections = BY_SLUG["os"].sections
    draft: Draft

    def option(self, name: str, slot: str) -> Option:
        option = super().option(name, slot)
        # Beside the system's family, and below its heading, the wizard calls it what it is.
        label = {"ostype": "Version", **cloud.CUSTOMS}.get(name)
        return replace(option, label=label) if label else option

    def values(self, slot: str) -> Texts:
        stash = self.draft.stash
        iso, drivers = self._file(CD_SLOT), self._file(DRIVER_SLOT)
        medium = "iso" if ":" in iso else "cdrom" if iso == "cdrom" else stash.get("medium", "iso")
        medium = "cloud" if cloud.is_cloud(self.draft) else medium
        places = [place.name for place in self.draft.offers.iso_places]
        store = iso.partition(":")[0] if ":" in iso else stash.get("iso_storage", "")
        ostype = self.mapping.get("ostype", "other")
        found = cloud.values(self.draft, super().values(slot))
        return found | {
            "medium": medium, "iso_storage": store or (places[0] if places else ""),
            "iso": iso if ":" in iso else "", "ostype_group": os_group(ostype), "ostype": ostype,
            "drivers": "1" if drivers or stash.get("drivers") == "1" else "0",
            "drivers_iso": drivers if ":" in drivers else "",
        }  # fmt: skip

    def _file(self, key: str) -> str:
        """The disc in drive ``key``; "" for no drive and for the one that cloud-init reads."""
        text = self.mapping.get(key, "")
        file = text.partition(",")[0] if "media=cdrom" in text else ""
        return "" if file.endswith(":cloudinit") else file

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        offers = self.draft.offers
        if name in ("iso", "drivers_iso", "cloud_image") and name not in self._shown(values):
            return []  # what is not shown need not be looked up
        if name.startswith("cicustom."):
            return cloud.texts(self.draft, values.get(name, "")) if values.get("medium") == "cloud" else []
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
        if name == "cloud_image":
            return offers.image_choices("", values.get(name, ""))
        if name == "ostype_group":
            return [(group, group) for group in OS_TYPES]
        if name == "ostype":
            return OS_TYPES.get(values.get("ostype_group", ""), [])
        return None

    def _console(self) -> bool:
        return access.may(self.draft.user, "Sys.Console", "/")

    @staticmethod
    def _shown(values: Texts) -> set[str]:
        """The lists of images that have a use now."""
        found = {"iso": "iso", "cloud": "cloud_image"}.get(values.get("medium", ""), "")
        windows = values.get("ostype_group") == "Microsoft Windows"
        return {found, "drivers_iso" if windows and values.get("drivers") == "1" else ""}

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        medium = cast("OptionField", fields["medium"])
        medium.widget = RadioSelect(choices=list(medium.offered or ()))
        if values.get("medium") != "iso":
            hide(fields, "iso_storage", "iso")
        cloud.shape(self.draft, fields, values.get("medium") == "cloud")
        if not self._console():
            fields["medium"].note = "The node's own drive can be used by who holds Sys.Console on /."
        if values.get("ostype_group") != "Microsoft Windows":
            hide(fields, "drivers")
        if "drivers_iso" not in self._shown(values):
            hide(fields, "drivers_iso")

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        found = cloud.check(self.draft, values) if values.get("medium") == "cloud" else {}
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

    def _posted(self, data: Any, slot: str) -> Texts:
        return cloud.posted(super()._posted(data, slot))

    def submit(self, data: Any, slot: str = "") -> str:
        """As everywhere; besides, a new type takes its first version, a new storage its own images."""
        sent = data.copy()
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
        """The medium first: settings of a cloud image are kept only beside one."""
        stash = self.draft.stash
        for name in ("medium", "iso_storage", "drivers"):
            if name in good:
                stash[name] = good[name]
        if {"medium", "iso", "iso_storage", "cloud_image"} & set(good):
            self._medium(values)
        if values.get("medium") == "cloud":
            self.put({name: text for name, text in good.items() if name in cloud.KEYS}, slot)
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
        if medium == "cloud":
            self.mapping[CD_SLOT] = "none,media=cdrom"
            if values.get("cloud_image"):
                cloud.attach(self.draft, values["cloud_image"])
            return
        cloud.detach(self.draft)
        file = "cdrom" if medium == "cdrom" else iso if medium == "iso" and iso else "none"
        self.mapping[CD_SLOT] = f"{file},media=cdrom"
