"""What is asked before a disk grows, moves, changes hands or is made of an image: fields, facts, advice.

Each kind of work is one operation; what a person chooses here becomes that operation's parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from vms import access
from vms.config.upkeep import boot_devices
from vms.config.vmconfig import free_slot
from vms.errors import ConfigError
from vms.forms.fields import OptionField, OptionFlag, form_field
from vms.forms.hardware import OptionForm
from vms.forms.offers import GIB, Offers, gib
from vms.forms.panel import Block
from vms.forms.places import BUSES
from vms.forms.sheet import Advice
from vms.models import VM
from vms.models.configuration import config_of, with_parts
from vms.operations.base import OPERATIONS
from vms.operations.drives import FIRMWARE, Drive, find_drive
from vms.operations.volumes import snapshots_with
from vms.schema.option import opt, option_table

Fields = dict[str, OptionField | OptionFlag]
UNUSED = "unused"


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How much larger a disk gets."""

    increment: float = opt(
        "Size increment", required=True, minimum=0.001, maximum=131072, unit="GiB",
        help="How much is added to the disk's size.",
    )  # fmt: skip


class DiskWork:
    """One question about the disk in ``slot`` of ``vm``. ``given`` are the fields as they were sent."""

    type: ClassVar[str] = ""
    ok: ClassVar[str] = ""
    names: ClassVar[tuple[str, ...]] = ()
    advanced: ClassVar[tuple[str, ...]] = ()
    fixed: ClassVar[tuple[str, ...]] = ()
    blamed: ClassVar[Mapping[str, str]] = {}
    """An operation's parameter → the field that asks for it, where the two are called differently."""

    volume: str = ""
    """The volume it is about, which exists."""

    def __init__(self, vm: VM, user: Any, slot: str, given: Mapping[str, str] | None = None) -> None:
        self.vm, self.user, self.slot = vm, user, slot
        self.offers = Offers(vm.node, user, vm)
        self.values = {**self.start(), **(given or {})}

    @property
    def option(self) -> Mapping[str, Any]:
        """The operation's parameters by name."""
        return option_table(OPERATIONS[self.type].params)

    def start(self) -> dict[str, str]:
        """What the fields hold before anything was chosen."""
        return {}

    def fields(self) -> Fields:
        """The fields, by name."""
        return {}

    def form(self, *, lenient: bool = False) -> OptionForm:
        """The form as it is filled; ``lenient``: what was not chosen yet is no error."""
        fields = self.fields()
        for name, field in fields.items():
            field.required = field.required and not (lenient and not self.values.get(name))
        return OptionForm(fields, self.values, prefix="disk")

    def blocks(self, form: OptionForm) -> list[Block]:
        """The form's fields as the page shows them."""
        parts = ((self.names, False), (self.advanced, True))
        found = [Block("", advanced, tuple(form.group(names))) for names, advanced in parts]
        return [block for block in found if block.fields]

    def params(self, texts: Mapping[str, str]) -> dict[str, str]:
        """The operation's parameters. Raises :class:`ConfigError`."""
        kept = {name: text for name, text in texts.items() if text not in ("", "0")}
        return {"disk": self.slot, **kept} if self.slot else kept

    def words(self) -> list[str]:
        """What happens, in sentences."""
        return []

    def barred(self) -> str:
        """Why it cannot be done now whatever is chosen, as a sentence; "" when it can."""
        return ""

    def advice(self) -> list[Advice]:
        """:meth:`words` as a dialog shows them."""
        text = " ".join(self.words())
        return [Advice("", "info", text, False)] if text else []

    def storage_choices(self) -> list[tuple[str, str]]:
        return self.offers.storage_choices

    def keys_of(self, vm: VM | None) -> list[tuple[str, str]]:
        """As what a disk can be plugged into ``vm``, or into one that is not chosen yet."""
        buses = [(bus, f"{label}, the next free number") for bus, label in BUSES.items()]
        return [(UNUSED, "Unused disk, to be attached later"), *([] if vm and vm.running else buses)]

    def key_in(self, vm: VM, kind: str) -> str:
        """The lowest free key of a kind. Raises :class:`ConfigError` on ``target-disk``."""
        try:
            return free_slot(config_of(vm), kind)
        except ConfigError:
            raise ConfigError("target-disk", f"every place for {kind} is taken in VM {vm.vmid}") from None


class OnDisk(DiskWork):
    """A question about a disk that is there."""

    def __init__(self, vm: VM, user: Any, slot: str, given: Mapping[str, str] | None = None) -> None:
        """Raises :class:`ConfigError` when there is no such disk."""
        self.drive: Drive = find_drive(vm, slot)
        self.volume = self.drive.volume.volid
        super().__init__(vm, user, slot, given)


class Resize(OnDisk):
    """A disk grows."""

    type, ok, names = "resize", "Resize", ("increment",)
    blamed = {"size": "increment"}

    def start(self) -> dict[str, str]:
        return {"increment": "1"}

    def fields(self) -> Fields:
        field = form_field(option_table(Growth)["increment"], required=True)
        now = self.drive.volume.size
        more = self._more()
        field.note = f"{gib(now)} now" + (f", {gib(now + more)} then" if more else "")
        return {"increment": field}

    def _more(self) -> int:
        try:
            return int(float(self.values["increment"]) * GIB)
        except (ValueError, OverflowError):
            return 0

    def params(self, texts: Mapping[str, str]) -> dict[str, str]:
        return {"disk": self.slot, "size": f"+{float(texts['increment']):.6f}G"}

    def words(self) -> list[str]:
        return [
            "Partitions and file systems inside the guest stay as they are; let them grow there afterwards.",
            "A disk never shrinks again.",
        ]


def with_fitting_format(work: Any, params: dict[str, str]) -> dict[str, str]:
    """Without a format where the storage leaves no choice."""
    if work.offers.only_format(params.get("storage", "")):
        return {name: text for name, text in params.items() if name != "format"}
    return params


class Move(OnDisk):
    """A disk's contents go to another storage or format."""

    type, ok, names, advanced = "qmmove", "Move disk", ("storage", "format", "delete"), ("bwlimit",)

    def start(self) -> dict[str, str]:
        here = self.drive.volume.storage.name
        others = [name for name, _ in self.storage_choices() if name != here]
        fmt = self.drive.volume.format
        other = "raw" if fmt == "qcow2" else "qcow2"
        return {"storage": others[0] if others else here, "format": fmt if others else other}

    def fields(self) -> Fields:
        option = self.option
        storage = form_field(option["storage"], choices=self.storage_choices(), required=True)
        if not self.storage_choices():
            storage.why_not = "No storage takes disks of yours."
        fmt = form_field(option["format"], choices=option["format"].choices)
        storage.help_text = fmt.help_text = ""
        if self.drive.is_tpm:
            fmt.why_not = "A TPM's state is raw, whatever holds it."
        delete = form_field(option["delete"])
        kept = snapshots_with(self.drive.volume)
        if kept:
            delete.why_not = f"The volume is in snapshot {kept[0]} and stays."
        elif self.drive.is_seed:
            delete.why_not = "A cloud-init drive is written anew; the old volume goes."
        return {"storage": storage, "format": fmt, "delete": delete, "bwlimit": form_field(option["bwlimit"])}

    def params(self, texts: Mapping[str, str]) -> dict[str, str]:
        return with_fitting_format(self, super().params(texts))

    def words(self) -> list[str]:
        if self.vm.running and not self.drive.is_unused:
            return ["The guest runs on; it stands still for a moment when its disk is switched."]
        return []


class Reassign(OnDisk):
    """A disk goes to another VM."""

    type, ok, names = "qmmove", "Reassign disk", ("target-vmid", "target-disk")

    def targets(self) -> list[VM]:
        """Who may get it."""
        rows = access.visible_vms(self.user).filter(node=self.vm.node_id, template=False)
        rows = rows.exclude(pk=self.vm.pk).select_related("pool").order_by("vmid")
        return [vm for vm in rows if access.may_vm(self.user, "VM.Config.Disk", vm)]

    def barred(self) -> str:
        if self.vm.running and not self.drive.is_unused:
            return f"The VM is running: {self.slot} is in use there. Stop it, or detach the disk first."
        return ""

    def target(self) -> VM | None:
        wanted = self.values.get("target-vmid", "")
        rows = with_parts(access.visible_vms(self.user))
        found: VM | None = rows.filter(vmid=int(wanted)).first() if wanted.isdecimal() else None
        return found

    def start(self) -> dict[str, str]:
        bus = self.slot.rstrip("0123456789")
        return {"target-disk": bus if bus in BUSES else UNUSED}

    def fields(self) -> Fields:
        vms = [(str(vm.vmid), f"{vm.vmid} ({vm.display_name})") for vm in self.targets()]
        target = form_field(self.option["target-vmid"], choices=[("", "Choose a VM"), *vms], required=True)
        if not vms:
            target.why_not = "There is no other VM on this node whose disks you may change."
        chosen = self.target()
        keys = self.keys_of(chosen)
        if self.slot in FIRMWARE:
            keys = [(self.slot, f"{self.slot}, as here"), keys[0]]
        disk = form_field(self.option["target-disk"], choices=keys, required=True)
        disk.help_text = "How the other VM gets it."
        if chosen is not None and chosen.running:
            disk.note = f"VM {chosen.vmid} runs: attach the disk there afterwards."
            self.values["target-disk"] = UNUSED
        return {"target-vmid": target, "target-disk": disk}

    def params(self, texts: Mapping[str, str]) -> dict[str, str]:
        found, target = super().params(texts), self.target()
        if target is not None and found["target-disk"] not in FIRMWARE:
            found["target-disk"] = self.key_in(target, found["target-disk"])
        return found

    def words(self) -> list[str]:
        found = ["Its contents stay where they are; the volume gets the other VM's number."]
        if self.slot in (boot_devices(config_of(self.vm)) or ()):
            found.append("It is in the boot order and leaves it.")
        return found


class Import(DiskWork):
    """An image becomes a disk."""

    type, ok = "importdisk", "Import"
    names = ("source", "storage", "format", "target-disk")

    def start(self) -> dict[str, str]:
        names = [name for name, _ in self.storage_choices()]
        return {"storage": names[0] if names else "", "format": "qcow2", "target-disk": UNUSED}

    def fields(self) -> Fields:
        option = self.option
        images = self.offers.image_choices("", self.values.get("source", ""))
        source = form_field(option["source"], choices=images, required=True)
        if len(images) == 1:
            source.note = "Upload one on the page of a storage."
        storage = form_field(option["storage"], choices=self.storage_choices(), required=True)
        fmt = form_field(option["format"], choices=option["format"].choices)
        key = form_field(option["target-disk"], choices=self.keys_of(self.vm), required=True)
        source.help_text = storage.help_text = fmt.help_text = key.help_text = ""
        return {"source": source, "storage": storage, "format": fmt, "target-disk": key}

    def params(self, texts: Mapping[str, str]) -> dict[str, str]:
        found = with_fitting_format(self, super().params(texts))
        found["target-disk"] = self.key_in(self.vm, found["target-disk"])
        return found

    def words(self) -> list[str]:
        if self.vm.running:
            return ["The VM runs: the disk can be attached afterwards, from its row."]
        return []
