"""The dialogs of the board: machine, firmware, display, SCSI controller."""

from __future__ import annotations

from vms.forms.boards import LABELS, board_of, machine_type, version_of, versions
from vms.forms.devices import PartPanel
from vms.forms.editing import Texts
from vms.forms.fields import Choices
from vms.forms.hardware import decompose
from vms.forms.panel import Fields, Panel, Section, disable
from vms.hardware.guest import windows_version


class MachinePanel(PartPanel):
    """The board, its version, the IOMMU the guest sees."""

    def layout(self) -> tuple[Section, ...]:
        return (
            Section(("type", "machine_version", "viommu")),
            Section(("aw-bits", "enable-s3", "enable-s4"), advanced=True),
        )

    def values(self, slot: str) -> Texts:
        found = super().values(slot)
        kind = found["type"]
        return found | {"type": board_of(kind), "machine_version": version_of(kind)}

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        if name == "type":
            chosen = values.get(name, "")
            return [*LABELS.items(), *([] if chosen in LABELS else [(chosen, chosen)])]
        if name == "machine_version":
            offered = versions(values.get("type", ""), self.draft.facts, "")
            pinned = values.get(name, "")
            return offered if pinned in dict(offered) else [*offered, (pinned, f"{pinned} (not here)")]
        if name == "viommu":
            return [("", "None"), ("intel", "Intel (also for AMD)"), ("virtio", "VirtIO")]
        return None

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        fields["machine_version"].advanced = False
        if not values.get("viommu"):
            disable(fields, "Needs a vIOMMU.", "aw-bits")
        if windows_version(self.mapping.get("ostype")) and not values.get("machine_version"):
            words = "Pin one: Windows may ask to be activated again when an update of QEMU changes its board."
            fields["machine_version"].note = words

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        if values.get("viommu") == "intel" and values.get("type") != "q35":
            return {"viommu": "An Intel vIOMMU needs the q35 board; choose q35 or VirtIO."}
        return {}

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        if {"type", "machine_version"} & set(good):
            board, version = values["type"], good.pop("machine_version", values["machine_version"])
            known = dict(versions(board, self.draft.facts, ""))
            good["type"] = machine_type(board, version if version in known else "")
        if not values.get("viommu"):
            good["aw-bits"] = ""
        return super().take(good, values, slot)


class DisplayPanel(PartPanel):
    """The graphics card, or a serial terminal in its place."""

    def layout(self) -> tuple[Section, ...]:
        return (Section(("type", "memory", "clipboard")),)

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        if name == "type":
            cards = self.option(name, slot).choices
            now = values.get(name, "")
            return [("", "Default"), *(pair for pair in cards if pair[0] != "cirrus" or now == "cirrus")]
        return [("", "Default (off)"), ("vnc", "VNC")] if name == "clipboard" else None

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        kind = values.get("type") or "std"
        for name in ("memory", "clipboard"):
            fields[name].advanced = False
        if kind.startswith("serial"):
            fields["type"].note = "The web console becomes a terminal."
            if kind not in self.mapping:
                fields["type"].note = f"{kind} is added; the web console becomes a terminal."
        if kind == "none" or kind.startswith("serial"):
            disable(fields, "Needs a graphics card.", "memory", "clipboard")

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        kind = values.get("type", "")
        if kind == "none" or kind.startswith("serial"):
            good |= {"memory": "", "clipboard": ""}
        if kind.startswith("serial"):
            self.mapping.setdefault(kind, "socket")
        return super().take(good, values, slot)


class BiosPanel(Panel):
    """The firmware."""

    slug = "bios"
    sections = (Section(("bios",)),)

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        if values.get("bios") == "ovmf" and "efidisk0" not in self.mapping:
            fields["bios"].note = "It needs an EFI disk to remember how to boot."


class ControllerPanel(Panel):
    """The controller the SCSI disks hang on."""

    slug = "scsihw"
    sections = (Section(("scsihw",)),)

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        disks = [key for key in self.mapping if key.startswith("scsi") and key != "scsihw"]
        threads = [key for key in disks if decompose(key, self.mapping[key]).get("iothread") == "1"]
        if disks:
            fields["scsihw"].note = f"For {', '.join(sorted(disks))}. The guest needs its driver to boot."
        if threads and values.get("scsihw") != "virtio-scsi-single":
            fields["scsihw"].note = f"The IO thread of {', '.join(sorted(threads))} has no effect with it."
