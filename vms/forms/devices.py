"""Devices whose form follows from their declaration: one property string, one dialog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vms.errors import ConfigError
from vms.forms.editing import Editing, Texts
from vms.forms.extras import EXTRAS
from vms.forms.fields import Choices, sentence
from vms.forms.hardware import compose, decompose, stored
from vms.forms.panel import Fields, Panel, Section, disable
from vms.hardware import part_of
from vms.schema.option import Option, option_table, options_of


class PartPanel(Panel):
    """The options of the property string at ``key``. Those the schema hides are not offered."""

    fresh: ClassVar[str] = ""
    """The text a new device begins with."""

    def __init__(self, draft: Editing, key: str) -> None:
        super().__init__(draft)
        self.key = self.slug = key
        self.table: Mapping[str, Option] = option_table(part_of(key) or object)
        self.sections = self.layout()

    def layout(self) -> tuple[Section, ...]:
        """The sections of the form: what is asked first, what opens with Advanced."""
        shown = [option for option in options_of(part_of(self.key) or object) if not option.hidden]
        found = (
            Section(tuple(option.name for option in shown if not option.advanced)),
            Section(tuple(option.name for option in shown if option.advanced), advanced=True),
        )
        return tuple(section for section in found if section.names)

    def slots(self) -> list[str]:
        return [self.key]

    def option(self, name: str, slot: str) -> Option:
        return EXTRAS[name] if name not in self.table and name in EXTRAS else self.table[name]

    def required(self, name: str, slot: str) -> bool:
        return super().required(name, slot) or (name in self.table and self.table[name].required)

    def values(self, slot: str) -> Texts:
        parts = self.present()
        found: Texts = {}
        for name in self.names:
            if name in self.table:
                option, text = self.table[name], parts.get(name, "")
                found[name] = (text or ("1" if option.default else "0")) if option.kind == "bool" else text
        return found

    def present(self) -> Texts:
        """The given parts; none while the text cannot be read."""
        try:
            return decompose(self.key, self.mapping.get(self.key, ""))
        except ConfigError:
            return {}

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        self.lay({name: stored(self.table[name], text) for name, text in good.items() if name in self.table})
        return slot

    def lay(self, parts: Texts) -> None:
        """Lay ``parts`` over the device; what cannot stand is noted on its field, the rest is kept."""
        try:
            self.mapping[self.key] = compose(self.key, parts, self.mapping.get(self.key, "")) or self.fresh
        except ConfigError as error:
            single = next(iter(getattr(error, "errors", (error,))))
            name = single.part if single.part in self.names else self.names[0]
            self.draft.blame(self.key, name, sentence(single), parts.get(name))
            rest = {part: text for part, text in parts.items() if part != name}
            if len(rest) < len(parts):
                self.lay(rest)
        if self.mapping.get(self.key) == "":
            del self.mapping[self.key]


class Chosen(PartPanel):
    """A device of the node, named by itself (an operator's choice) or by a mapping an operator made."""

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        if not self.draft.user.is_superuser:
            disable(fields, "Only an operator may hand over a device by its own name.", "host")
        if not self.mapped():
            disable(fields, "No operator has made a mapping on this node yet.", "mapping")

    def mapped(self) -> list[str]:
        """The names of the mappings of this kind."""
        return []

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        if name != "mapping":
            return None
        chosen = values.get(name, "")
        names = sorted({*self.mapped(), *([chosen] if chosen else [])})
        return [("", "None"), *((word, word) for word in names)]

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        given = [name for name in ("host", "mapping") if values.get(name)]
        if len(given) == 2:
            return {"mapping": "Choose a device or a mapped device, not both."}
        return {} if given else {self.names[0]: "Choose a device or a mapped device."}


class UsbPanel(Chosen):
    """A USB device, or one of the person's own through SPICE."""

    def mapped(self) -> list[str]:
        return list(self.draft.facts.usb_mappings)

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        super().shape(fields, values, slot)
        fields["host"].note = "Port or vendor:product, as lsusb prints it."
        if not self.draft.user.is_superuser:
            fields["host"].why_not = ""
            fields["host"].note = "'spice' hands over what the console's user plugs in."


class FolderPanel(PartPanel):
    """A folder of the node that an operator has given a name."""

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        if name != "dirid":
            return None
        chosen = values.get(name, "")
        named = self.draft.facts.folder_mappings
        names = sorted({*named, *([chosen] if chosen else [])})
        return [
            ("", "Choose a folder"),
            *((word, f"{word} ({named[word]})" if word in named else word) for word in names),
        ]


class PciPanel(Chosen):
    """A PCI device of the node."""

    def mapped(self) -> list[str]:
        return list(self.draft.facts.pci_mappings)

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        if name != "host":
            return super().choices(name, values, slot)
        found = [(address, pci_words(address, facts)) for address, facts in self.devices().items()]
        chosen = values.get(name, "")
        if chosen and chosen not in self.devices():
            found.append((chosen, chosen))
        return [("", "Choose a device" if found else "This node tells of no PCI device"), *found]

    def devices(self) -> Mapping[str, Mapping[str, object]]:
        return dict(self.draft.facts.pci_devices)

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        super().shape(fields, values, slot)
        if "q35" not in self.mapping.get("machine", ""):
            disable(fields, "Needs a q35 machine.", "pcie")


def pci_words(address: str, facts: Mapping[str, object]) -> str:
    """``0000:01:00.0 (10de:1b80, group 4)``"""
    group = facts.get("iommu_group")
    numbers = ":".join(str(facts.get(name, "")).removeprefix("0x") for name in ("vendor", "device"))
    return f"{address} ({numbers}, {'no IOMMU group' if group is None else f'group {group}'})"


class SerialPanel(PartPanel):
    """A serial port."""

    fresh = "socket"

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        if not self.draft.user.is_superuser:
            fields["port"].note = "Other than 'socket' only by an operator."


class LptPanel(PartPanel):
    """A parallel port or USB printer of the node: an operator's alone, as in PVE."""

    fresh = "/dev/parport0"

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        fields["port"].note = "Such as /dev/parport0, or /dev/usb/lp0 for a printer."
        if not self.draft.user.is_superuser:
            disable(fields, "Only an operator may hand over a port of the node.", "port")


class RngPanel(PartPanel):
    """A source of random numbers."""

    fresh = "/dev/urandom"


class WatchdogPanel(PartPanel):
    """A watchdog."""

    fresh = "i6300esb"


class AudioPanel(PartPanel):
    """A sound card."""

    fresh = "device=ich9-intel-hda"


class NumaPanel(PartPanel):
    """A NUMA node written by hand."""

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        if self.mapping.get("numa", "0") != "1":
            fields["cpus"].note = "Counts only while NUMA is enabled (Processors)."
