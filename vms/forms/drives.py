"""The dialogs of a VM's drives: disks that are there, detached ones, CD drives, and the small disks."""

from __future__ import annotations

from typing import Any, cast

from django.forms import RadioSelect

from vms import access
from vms.forms.devices import PartPanel
from vms.forms.disks import Disks, limit_errors, tune
from vms.forms.editing import Editing, Texts
from vms.forms.fields import Choices, OptionField
from vms.forms.hardware import compose, decompose
from vms.forms.panel import Fields, Section, hide
from vms.forms.places import Plugged, split_slot

BANDWIDTH = Section(
    (
        *("mbps_rd", "mbps_rd_max", "mbps_wr", "mbps_wr_max", "iops_rd", "iops_rd_max", "iops_wr"),
        *("iops_wr_max", "mbps", "mbps_max", "iops", "iops_max"),
    ),
    "Bandwidth",
    folded=True,
)
BEHAVIOUR = Section(("cache", "discard", "iothread"))
RARE = Section(("ssd", "ro", "backup", "skip_replication", "aio"), advanced=True)
IDENTITY = Section(
    ("serial", "wwn", "detect_zeroes", "rerror", "werror"), "Identity and errors", advanced=True
)
CD_BUSES = ("ide", "sata", "scsi")


class OldDisk(Disks):
    """A disk that is plugged in: its place and its volume stay, what it does can change."""

    sections = (BEHAVIOUR, RARE, BANDWIDTH, IDENTITY)

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        self.shape_behaviour(fields, slot, split_slot(slot)[0])
        hide(fields, *(name for name in IDENTITY.names if name not in self.known(slot)))

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        return limit_errors(values)

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        self.put_parts(slot, self.parts(good, slot), good)
        return slot


class LooseDisk(Disks):
    """A detached disk on its way to a bus."""

    sections = (Section(("bus", "index", "controller")), BEHAVIOUR, RARE, BANDWIDTH)

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        return Plugged.check(self, values, slot) | limit_errors(values)


class CdDrive(Plugged):
    """A CD drive and what is in it."""

    slug = "cd"
    sections = (Section(("medium", "iso_storage", "iso")),)
    buses = CD_BUSES

    def values(self, slot: str) -> Texts:
        file = decompose(slot, self.mapping[slot]).get("file", "none")
        iso = file if ":" in file else ""
        places = [place.name for place in self.draft.offers.iso_places]
        medium = "iso" if iso else "cdrom" if file == "cdrom" else "none"
        store = iso.partition(":")[0] or self.draft.stash.get("iso_storage", "")
        return self.place_values(slot) | {
            "medium": self.draft.stash.get("medium", medium), "iso": iso,
            "iso_storage": store or (places[0] if places else ""),
        }  # fmt: skip

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        offers = self.draft.offers
        if name == "medium":
            media = [pair for pair in self.option(name, slot).choices if pair[0] != "cloud"]
            return [pair for pair in media if pair[0] != "cdrom" or self._console(values)]
        if name == "iso_storage":
            return [(place.name, place.label) for place in offers.iso_places]
        if name == "iso":
            return offers.iso_choices(values.get("iso_storage", ""), values.get("iso", ""))
        return super().choices(name, values, slot)

    def _console(self, values: Texts) -> bool:
        return values.get("medium") == "cdrom" or access.may(self.draft.user, "Sys.Console", "/")

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        if "index" in fields:
            super().shape(fields, values, slot)
        medium = cast("OptionField", fields["medium"])
        medium.widget = RadioSelect(choices=list(medium.offered or ()))
        if values.get("medium") != "iso":
            hide(fields, "iso_storage", "iso")

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        found = super().check(values, slot)
        volid = values.get("iso", "")
        row = self.draft.offers.iso(volid) if volid else None
        if values.get("medium") == "iso" and volid and (row is None or not row.present):
            store, _, path = volid.partition(":")
            label = path.rpartition("/")[2]
            found["iso"] = f"'{label}' is no longer on storage '{store}'. Upload it again or choose another."
        return found

    def submit(self, data: Any, slot: str = "") -> str:
        """As everywhere; besides, another storage shows its own images."""
        store = data.get("iso_storage", "")
        if store and data.get("iso") and not data["iso"].startswith(f"{store}:"):
            data = data.copy()
            data["iso"] = ""
        return super().submit(data, slot)

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        self.draft.stash |= {name: good[name] for name in ("medium", "iso_storage") if name in good}
        slot = self.place(good, values, slot)
        medium, iso = values.get("medium", "none"), values.get("iso", "")
        if {"medium", "iso", "iso_storage"} & set(good):
            file = "cdrom" if medium == "cdrom" else iso if medium == "iso" and iso else "none"
            self.mapping[slot] = compose(slot, {"file": file, "size": ""}, self.mapping[slot])
        return slot


class NewCdDrive(CdDrive):
    """A further CD drive."""

    sections = (Section(("bus", "index", "medium", "iso_storage", "iso")),)


class SeedDrive(Plugged):
    """The drive that carries cloud-init's settings."""

    slug = "seed"
    sections = (Section(("bus", "index", "storage")),)
    buses = CD_BUSES

    def values(self, slot: str) -> Texts:
        store = decompose(slot, self.mapping[slot])["file"].partition(":")[0]
        return self.place_values(slot) | {"storage": store}

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        if name == "storage":
            return self.draft.offers.storage_choices
        return super().choices(name, values, slot)

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        slot = self.place(good, values, slot)
        if good.get("storage"):
            changes = {"file": f"{good['storage']}:cloudinit"}
            self.mapping[slot] = compose(slot, changes, self.mapping[slot])
        return slot


class SmallDisk(PartPanel):
    """A disk of a fixed size that the firmware or the TPM keeps its state on."""

    store = ""
    names_of: dict[str, str] = {}
    """Field → the part of the value it stands for, beside the storage."""

    def layout(self) -> tuple[Section, ...]:
        return (Section((self.store, *self.names_of)),)

    def values(self, slot: str) -> Texts:
        parts = self.present()
        found = super().values(slot) | {name: parts.get(part, "") for name, part in self.names_of.items()}
        return found | {self.store: parts.get("file", "").partition(":")[0]}

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        if name == self.store:
            return self.draft.offers.storage_choices
        return list(self.option(name, slot).choices) or None

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        parts = {part: good[name] for name, part in self.names_of.items() if name in good}
        if good.get(self.store):
            parts["file"] = f"{good[self.store]}:1"
        self.lay(parts)
        return slot


class EfiPanel(SmallDisk):
    """The disk with the UEFI variables."""

    store = "efi_storage"
    names_of = {"efi_format": "format", "pre-enrolled-keys": "pre-enrolled-keys"}


class TpmPanel(SmallDisk):
    """The disk with the TPM's secrets."""

    store = "tpm_storage"
    names_of = {"version": "version"}


def plug_in(draft: Editing, slot: str, unused: str) -> None:
    """Put the volume of ``unused`` into ``slot`` with the defaults of its bus."""
    draft.mapping[slot] = compose(slot, {"file": decompose(unused, draft.mapping.pop(unused))["file"]})
    tune(draft, slot)
