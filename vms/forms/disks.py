"""Hard disks: several drives, each in a slot of a bus."""

from __future__ import annotations

import re
from dataclasses import replace

from django.http import QueryDict

from vms.errors import ConfigError
from vms.forms.editing import Editing, Texts
from vms.forms.extras import EXTRAS
from vms.forms.fields import Choices, sentence
from vms.forms.hardware import compose, decompose, option_at
from vms.forms.offers import GIB, gib
from vms.forms.panel import Fields, Section, disable, hide
from vms.forms.places import BUSES, Plugged, free_slot, replug, split_slot
from vms.hardware import part_of
from vms.hardware.osdefaults import os_defaults
from vms.schema.option import Option, option_table

FORMATS = ("raw", "qcow2")
DEFAULT_SIZE = "32"
MODEL_SLOT = "scsi0"
"""The slot whose declarations stand in for options another bus does not have."""
SECTIONS = (
    Section(("bus", "index", "controller", "import_storage", "image", "storage", "size", "format")),
    Section(("cache", "discard", "iothread")),
    Section(("ssd", "ro", "backup", "skip_replication", "aio"), advanced=True),
    Section(
        (
            *("mbps_rd", "mbps_rd_max", "mbps_wr", "mbps_wr_max"),
            *("iops_rd", "iops_rd_max", "iops_wr", "iops_wr_max"),
        ),
        "Bandwidth",
        folded=True,
    ),
)
LEAST = {"mbps": 1, "iops": 10}
"""The smallest limit that leaves a guest usable, by the first word of its name."""
_OWN = frozenset(
    (
        *("bus", "index", "controller", "import_storage", "image", "storage", "size", "format"),
        *("discard", "skip_replication"),
    )
)


def limit_errors(values: Texts) -> dict[str, str]:
    """Limits so low that the guest would take its disk for dead."""
    found = {}
    for name, text in values.items():
        least = LEAST.get(name.partition("_")[0])
        if least is not None and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) and float(text) < least:
            found[name] = f"{text} is below {least}, the least a guest can work with; empty is no limit."
    return found


def disk_slots(draft: Editing) -> list[str]:
    """The hard disks, by bus and number; CD drives are not among them."""
    found = [
        key
        for key, text in draft.mapping.items()
        if split_slot(key)[0] in BUSES and "media=cdrom" not in text
    ]
    return sorted(found, key=lambda slot: (split_slot(slot)[0], int(split_slot(slot)[1])))


def next_slot(draft: Editing) -> str:
    """Where a further disk goes: the bus most disks use already, ties as the guest system likes it best."""
    used = [split_slot(slot)[0] for slot in disk_slots(draft)]
    wanted = os_defaults(draft.mapping.get("ostype", "other")).bus_priority
    return free_slot(draft, *sorted(wanted, key=lambda bus: (-used.count(bus), wanted.index(bus))))


def add_disk(draft: Editing, image: str = "") -> str:
    """A further disk with Proxmox's defaults, made from ``image`` if one is named; answers its slot, ""
    when every slot is taken."""
    slot, places = next_slot(draft), draft.offers.disk_places
    if slot and places:
        parts = {"file": f"{places[0].name}:{DEFAULT_SIZE}", "format": places[0].formats[0]}
        if image:
            parts |= {"file": f"{places[0].name}:0", "import-from": image}
        draft.mapping[slot] = compose(slot, parts)
        tune(draft, slot)
        return slot
    return ""


def threads_of(draft: Editing, slot: str) -> bool:
    """Whether a drive in ``slot`` can have a thread of its own that really works."""
    bus = split_slot(slot)[0]
    return bus == "virtio" or (bus == "scsi" and draft.mapping.get("scsihw") == "virtio-scsi-single")


def tune(draft: Editing, *slots: str) -> None:
    """Tick IO thread where it works, unless somebody decided; drop what a drive's bus does not know."""
    for slot in slots or disk_slots(draft):
        text = draft.mapping[slot]
        known = option_table(part_of(slot) or object)
        changes = {}
        if "iothread" in known and f"{slot}.iothread" not in draft.touched:
            changes["iothread"] = "1" if threads_of(draft, slot) else ""
        draft.mapping[slot] = compose(slot, changes, text)


def move(draft: Editing, old: str, new: str) -> str:
    """Move the disk in ``old`` to the free slot ``new``; options the new bus lacks are dropped."""
    tune(draft, replug(draft, old, new))
    return new


def new_size(text: str) -> float:
    """Bytes of a size in GiB; 0 for what is no number."""
    try:
        return float(text) * GIB
    except ValueError:
        return 0


class Disks(Plugged):
    """One drive of the list at a time."""

    slug = "disks"
    sections = SECTIONS

    def slots(self) -> list[str]:
        return disk_slots(self.draft)

    def known(self, slot: str) -> set[str]:
        """The options a drive in ``slot`` has."""
        return set(option_table(part_of(slot) or object))

    def option(self, name: str, slot: str) -> Option:
        if name in EXTRAS:
            return EXTRAS[name]
        home = slot if name in self.known(slot) else MODEL_SLOT
        option = option_at(f"{home}.{name}")
        return replace(option, kind="bool", choices=(), default=False) if name == "discard" else option

    def values(self, slot: str) -> Texts:
        parts = decompose(slot, self.mapping[slot])
        store, _, size = parts.get("file", "").partition(":")
        found: Texts = {}
        for name in self.names:
            if name in _OWN:
                continue
            option, text = self.option(name, slot), parts.get(name, "")
            found[name] = (text or ("1" if option.default else "0")) if option.kind == "bool" else text
        controller = dict(option_at("scsihw").choices).get(self.mapping.get("scsihw", ""), "LSI 53C895A")
        return found | {
            **self.place_values(slot), "storage": store, "size": size,
            "image": parts.get("import-from", ""),
            "import_storage": parts.get("import-from", "").partition(":")[0],
            "controller": controller,
            "format": self.draft.offers.format_on(store, parts.get("format", "qcow2")),
            "discard": "1" if parts.get("discard") == "on" else "0",
            "skip_replication": "1" if parts.get("replicate") == "0" else "0",
        }  # fmt: skip

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        if name == "storage":
            return self.draft.offers.storage_choices
        if name in ("import_storage", "image") and "import-from=" not in self.mapping[slot]:
            return []
        if name == "import_storage":
            return [(place, place) for place in self.draft.offers.image_places]
        if name == "image":
            return self.draft.offers.image_choices(values.get("import_storage", ""), values.get(name, ""))
        if name == "format":
            return [pair for pair in self.option(name, slot).choices if pair[0] in FORMATS]
        return super().choices(name, values, slot)

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        super().shape(fields, values, slot)
        if "import-from=" in self.mapping[slot]:
            hide(fields, "size")
            fields["storage"].label = "Target storage"
        else:
            hide(fields, "import_storage", "image")
        only = self.draft.offers.only_format(values.get("storage", ""))
        if only:
            disable(fields, only, "format")
        fields["controller"].widget.attrs["readonly"] = True
        if values.get("bus", "") != "scsi":
            hide(fields, "controller")
        self.shape_behaviour(fields, slot, values.get("bus", ""))

    def shape_behaviour(self, fields: Fields, slot: str, bus: str) -> None:
        """What a disk on ``bus`` can be told to do."""
        if bus in ("ide", "sata"):
            disable(fields, "IDE and SATA have no IO threads.", "iothread")
            disable(fields, "Only SCSI and VirtIO disks can be read-only.", "ro")
        elif bus == "scsi" and not threads_of(self.draft, slot):
            fields["iothread"].note = "Works with the controller 'VirtIO SCSI single' only."
        if bus == "virtio":
            disable(fields, "A VirtIO disk has no such mark.", "ssd")

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        found = super().check(values, slot) | limit_errors(values)
        place = self.draft.offers.place(values.get("storage", ""))
        volid = values.get("image", "")
        image = self.draft.offers.image(volid) if volid else None
        if volid and image is None:
            found["image"] = f"'{volid.rpartition('/')[2]}' is not there any more; choose another image."
        size = image.size if image else new_size(values.get("size", ""))
        if place and place.total and size > place.available:
            words = "That" if image else f"{values['size']} GiB"
            found["image" if image else "size"] = (
                f"{words} is more than the {gib(place.available)} free on '{place.name}'. "
                "Choose a smaller size or another storage."
            )
        return found

    def submit(self, data: QueryDict, slot: str = "") -> str:
        """As everywhere; besides, another import storage takes its own first image."""
        store = data.get("import_storage", "")
        if store and not data.get("image", f"{store}:").startswith(f"{store}:"):
            data = data.copy()
            here = self.draft.offers.image_choices(store, "")
            data["image"] = here[1][0] if len(here) > 1 else ""
        return super().submit(data, slot)

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        slot = self.place(good, values, slot)
        parts: Texts = {}
        if {"storage", "size"} & set(good):
            now = decompose(slot, self.mapping[slot])["file"].split(":")
            store = good.get("storage") or now[0] or values["storage"]
            parts["file"] = f"{store}:{good.get('size') or now[1]}"
            if self.draft.offers.only_format(store):
                parts["format"] = self.draft.offers.format_on(store, "")
        if good.get("image"):
            parts["import-from"] = good["image"]
        self.put_parts(slot, parts | self.parts(good, slot), good)
        tune(self.draft, slot)
        return slot

    def parts(self, good: Texts, slot: str) -> Texts:
        """The changed fields as parts of the drive; those its bus does not know are left out."""
        found: Texts = {}
        if "discard" in good:
            found["discard"] = "on" if good["discard"] == "1" else ""
        if "skip_replication" in good:
            found["replicate"] = "0" if good["skip_replication"] == "1" else ""
        for name in set(good) - (_OWN - {"format"}):
            option = self.option(name, slot)
            if name in self.known(slot):
                same = option.kind == "bool" and good[name] == ("1" if option.default else "0")
                found[name] = "" if same else good[name]
        return found

    def put_parts(self, slot: str, parts: Texts, good: Texts) -> None:
        """Lay ``parts`` over the drive; what cannot stand is noted on its field, the rest is kept."""
        try:
            self.mapping[slot] = compose(slot, parts, self.mapping[slot])
        except ConfigError as error:
            for single in getattr(error, "errors", (error,)):
                name = single.part if single.part in self.names else "bus"
                self.draft.blame(slot, name, sentence(single), good.get(name))
            rest = {name: text for name, text in parts.items() if name != error.part}
            if error.part in parts and rest != parts:
                self.put_parts(slot, rest, good)
