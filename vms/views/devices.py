"""The rows of the Hardware page: what there is, what waits for a cold start, what can be done with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.urls import reverse

from vms import access
from vms.config.busmove import slow_boot_disk
from vms.config.rights import OPERATOR, rights
from vms.config.upkeep import is_unused, volume_of
from vms.errors import ConfigError
from vms.forms.dialogs import ADDITIONS, GROUPS, is_seed
from vms.forms.editing import Editing
from vms.forms.memory import KEYS as MEMORY_KEYS
from vms.forms.processors import KEYS as PROCESSOR_KEYS
from vms.hardware import is_drive, slot_of
from vms.models import VM
from vms.models.waiting import Waiting
from vms.operations.protection import SWITCH_OFF, protected, said_of
from vms.views import words

SLOT_LABELS = {
    "ide": "Hard disk", "sata": "Hard disk", "scsi": "Hard disk", "virtio": "Hard disk",
    "net": "Network device", "usb": "USB device", "hostpci": "PCI device", "serial": "Serial port",
    "parallel": "Parallel port", "unused": "Unused disk", "virtiofs": "Shared folder", "numa": "NUMA node",
}  # fmt: skip
KEY_LABELS = {
    "efidisk0": "EFI disk", "tpmstate0": "TPM state", "audio0": "Audio device", "rng0": "VirtIO RNG",
    "watchdog": "Watchdog", "ivshmem": "Shared memory",
}  # fmt: skip
ORDER = (
    *(
        "ide",
        "sata",
        "scsi",
        "virtio",
        "efidisk0",
        "tpmstate0",
        "net",
        "usb",
        "hostpci",
        "serial",
        "parallel",
    ),
    *("virtiofs", "numa", "audio0", "rng0", "watchdog", "ivshmem", "unused"),
)
"""Kinds in the order in which the page lists them, below the rows every machine has."""
ICONS = {
    "memory": "memory", "processors": "cpu", "bios": "chip", "vga": "vm", "machine": "node", "scsihw": "chip",
    "net": "network", "usb": "usb", "hostpci": "chip", "serial": "console", "parallel": "console",
    "virtiofs": "folder", "numa": "cpu", "audio0": "sound", "rng0": "dice", "watchdog": "clock",
    "tpmstate0": "lock", "ivshmem": "memory",
}  # fmt: skip
ROW_KEYS: Mapping[str, tuple[str, ...]] = {
    "memory": (*MEMORY_KEYS, "hugepages", "keephugepages"), "processors": PROCESSOR_KEYS,
}  # fmt: skip
"""Rows that stand for several keys."""
ABSENT = {"vga": "Standard VGA", "machine": "i440fx"}
"""What a machine without the key has."""
FIXED = "Its size and kind are fixed. Detach it and add another to change them."
ALWAYS = "Every machine has this; it can be changed, not removed."


@dataclass(frozen=True)
class Action:
    """Something to do with a row. ``reason`` says why it cannot be done now; ``post`` is for what needs no
    question; a ``page`` does not open in place."""

    name: str
    label: str
    icon: str
    href: str = ""
    post: str = ""
    reason: str = ""
    danger: bool = False
    page: bool = False


@dataclass(frozen=True)
class Device:
    """A row. ``waits`` is the value after the next cold start in words, "" when none waits; ``state`` says of
    a whole device that it comes or goes then."""

    name: str
    label: str
    value: str
    icon: str
    raw: str = ""
    default: bool = False
    keys: tuple[str, ...] = ()
    waits: str = ""
    waits_raw: str = ""
    state: str = ""
    actions: tuple[Action, ...] = field(default=(), compare=False)

    @property
    def edit(self) -> Action:
        """What Enter does."""
        return self.actions[0]


TOOLS = (
    Action("edit", "Edit", "edit"),
    Action("remove", "Remove", "trash"),
    Action("revert", "Revert", "reset"),
)
"""What the toolbar does with the chosen row."""
DISK_TOOLS = (
    Action("resize", "Resize", "up"), Action("move", "Move disk", "storage"),
    Action("reassign", "Reassign", "right"), Action("bus", "Change bus", "plug"),
)  # fmt: skip
"""What it does with the chosen row's volume."""


class Gate:
    """Says why ``user`` cannot change a key of ``vm`` now; rights are read once."""

    def __init__(self, user: Any, vm: VM) -> None:
        self.user, self.vm = user, vm
        self.pool = vm.pool.name if vm.pool else ""
        self.held = access.privileges(user, vm.path, pool=self.pool)

    def shut(self) -> str:
        """Why nothing can be changed at all; "" when it can."""
        if not self.vm.node.online:
            return f"Node {self.vm.node.name} is offline: nothing there can be changed now."
        if self.vm.lock:
            return f"The VM is locked ({self.vm.lock}): another operation is working on it."
        return ""

    def dropping(self, waiting: Waiting) -> str:
        """Why what waits cannot be dropped as a whole; "" when it can."""
        why = (self.reason(key, waiting.config.get(key), None) for key in waiting.changes)
        return next(filter(None, why), self.shut())

    def reason(self, key: str, old: str | None, new: str | None) -> str:
        """Why ``key`` cannot go from ``old`` to ``new``; "" when it can."""
        try:
            needed = rights(key, old, new)
        except ConfigError:
            needed = []
        for right in needed:
            if right == OPERATOR:
                if not self.user.is_superuser:
                    return "Only an operator may change this."
                continue
            held = access.privileges(self.user, right.path) if right.path else self.held
            if not held & set(right.privileges):
                where = right.path or "this VM"
                return f"You may not: {' or '.join(right.privileges)} on {where} is missing."
        return self.shut()


def devices(vm: VM, waiting: Waiting, gate: Gate) -> list[Device]:
    """Every row, with its actions. Secrets are not among these keys."""
    config, changes = waiting.config, waiting.changes
    rows = [group_row(name, config, changes) for name in GROUPS]
    rows += [device_row(key, config, changes) for key in listed({*config, *changes})]
    slow = slow_boot_disk(waiting.effective)
    return [with_actions(row, vm, gate, slow) for row in rows]


def listed(keys: Iterable[str]) -> list[str]:
    """Those that are devices, in the page's order, lowest number first."""

    def place(key: str) -> tuple[int, int]:
        found = slot_of(key)
        return (ORDER.index(found[0].name), found[1]) if found else (ORDER.index(key), 0)

    return sorted((key for key in keys if key in KEY_LABELS or kind_of(key) in SLOT_LABELS), key=place)


def kind_of(key: str) -> str:
    """``net`` for ``net0``; "" for a key that is no numbered slot."""
    found = slot_of(key)
    return found[0].name if found else ""


def group_row(name: str, config: Mapping[str, str], changes: Mapping[str, str | None]) -> Device:
    """One of the rows that every machine has."""
    keys = ROW_KEYS.get(name, (name,))
    waiting = [key for key in keys if key in changes]
    after = {**config, **{key: text for key, text in changes.items() if text is not None}}
    after = {key: text for key, text in after.items() if changes.get(key, "") is not None}
    return Device(
        name, GROUPS[name][0], told(name, config), ICONS[name], raw_of(config, keys),
        default=not any(key in config for key in keys), keys=keys,
        waits=told(name, after) if waiting else "",
        waits_raw=" · ".join(f"{key}: {after.get(key, 'default')}" for key in waiting if len(keys) > 1),
    )  # fmt: skip


def told(name: str, config: Mapping[str, str]) -> str:
    """A group's row in words."""
    if name == "memory":
        return words.memory_words(config)
    if name == "processors":
        return words.processor_words(config)
    if name not in config and name in ("vga", "machine"):
        return f"Default ({ABSENT[name]})"
    return words.said(name, config)


def raw_of(config: Mapping[str, str], keys: Sequence[str]) -> str:
    """The configuration's own text: of a single key the value, of several ``key: value``."""
    if len(keys) == 1:
        return config.get(keys[0], "")
    return " · ".join(f"{key}: {config[key]}" for key in keys if key in config)


def device_row(key: str, config: Mapping[str, str], changes: Mapping[str, str | None]) -> Device:
    """A device that may come and go."""
    now, after = config.get(key), changes.get(key)
    text = now if now is not None else after or ""
    state = ""
    if key in changes:
        state = "removed" if after is None else "added" if now is None else ""
    return Device(
        key, label_of(key, text), device_words(key, text), icon_of(key, text), text, keys=(key,),
        waits=device_words(key, after) if after is not None and now is not None else "",
        waits_raw=after or "" if now is not None else "", state=state,
    )  # fmt: skip


def device_words(key: str, text: str) -> str:
    """A device in words."""
    if is_disc(text):
        file = volume_of(text)
        return {"none": "No medium", "cdrom": "The node's own drive"}.get(file) or words.words(key, text)
    return words.words(key, text)


def label_of(key: str, text: str) -> str:
    """``Hard disk (scsi0)``"""
    kind = kind_of(key)
    if key in KEY_LABELS:
        return KEY_LABELS[key]
    if is_seed(key, text):
        return f"Cloud-init drive ({key})"
    label = "CD/DVD drive" if is_disc(text) else SLOT_LABELS[kind]
    return f"{label} ({key})"


def icon_of(key: str, text: str) -> str:
    """The symbol of a device."""
    return "disc" if is_disc(text) else ICONS.get(kind_of(key) or key, "disk")


def with_actions(row: Device, vm: VM, gate: Gate, slow: str) -> Device:
    """``row`` with what can be done with it; the first is what Enter does. ``slow``: the boot disk that could
    be on a faster bus."""
    actions = [
        edit_of(row, vm, gate), *disk_actions(row, vm, gate), remove_of(row, vm, gate),
        revert_of(row, vm, gate),
    ]  # fmt: skip
    if row.name == slow:
        address = reverse("vms:hardware_bus", args=[vm.vmid])
        actions.insert(1, Action("bus", "Change bus", "plug", address, page=True))
    return replace(row, actions=tuple(actions))


def edit_of(row: Device, vm: VM, gate: Gate) -> Action:
    """Edit; for a detached disk, plug it in again."""
    loose, key = is_unused(row.name), row.keys[0]
    label, icon = ("Re-attach", "plug") if loose else ("Edit", "edit")
    reason = settled(row, vm) or gate.reason(key, None if row.name in GROUPS else row.raw, None)
    if row.state == "removed":
        reason = reason or "It goes at the next start. Revert that first."
    if row.name in ("efidisk0", "tpmstate0") or is_seed(row.name, row.raw):
        reason = reason or FIXED
    return Action("edit", label, icon, reverse("vms:hardware_edit", args=[vm.vmid, row.name]), reason=reason)


def settled(row: Device, vm: VM) -> str:
    """Why a template's disk cannot be touched; "" for everything else."""
    disk = row.name not in GROUPS and (keeps_volume(row.name, row.raw) or is_unused(row.name))
    return "A template's disks stay as they are." if vm.template and disk else ""


def disk_actions(row: Device, vm: VM, gate: Gate) -> list[Action]:
    """What is done to the volume of a disk that is there now. Why one cannot be just now, its dialog says."""
    if not (keeps_volume(row.name, row.raw) or is_unused(row.name)) or row.state == "added":
        return []
    reason = settled(row, vm) or gate.reason(row.name, row.raw, None)
    wanted = [(tool.name, tool.label, tool.icon) for tool in DISK_TOOLS if tool.name != "bus"]
    fixed = row.name in ("efidisk0", "tpmstate0") or is_unused(row.name)
    return [
        Action(name, label, icon, reverse(f"vms:disk_{name}", args=[vm.vmid, row.name]), reason=reason)
        for name, label, icon in wanted
        if not (fixed and name == "resize")
    ]


def remove_of(row: Device, vm: VM, gate: Gate) -> Action:
    """Remove; a disk that is plugged in is only detached."""
    if row.name in GROUPS:
        return Action("remove", "Remove", "trash", reason=ALWAYS)
    detach = keeps_volume(row.name, row.raw)
    label, icon = ("Detach", "unplug") if detach else ("Remove", "trash")
    reason = settled(row, vm) or gate.reason(row.name, row.raw, None)
    if row.state == "removed":
        reason = reason or "It goes at the next start."
    elif is_volume(row.raw) and protected(vm) and not is_disc(row.raw):
        reason = reason or f"{said_of(vm)} {SWITCH_OFF}"
    href = reverse("vms:hardware_remove", args=[vm.vmid, row.name])
    return Action("remove", label, icon, href, reason=reason, danger=is_unused(row.name))


def revert_of(row: Device, vm: VM, gate: Gate) -> Action:
    """Drop what waits for the next start."""
    reason = gate.reason(row.keys[0], None if row.name in GROUPS else row.raw, None)
    if not (row.waits or row.state):
        reason = "Nothing waits here."
    post = reverse("vms:hardware_revert", args=[vm.vmid, row.name])
    return Action("revert", "Revert", "reset", post=post, reason=reason)


def is_volume(text: str) -> bool:
    """Whether a value names a volume of a storage."""
    return ":" in volume_of(text)


def is_disc(text: str) -> bool:
    """Whether a value is a CD drive's."""
    return "media=cdrom" in text.split(",")


def keeps_volume(key: str, text: str) -> bool:
    """Whether what ``key`` holds stays with the machine when it is taken out."""
    drive = is_drive(key) or key in ("efidisk0", "tpmstate0")
    return drive and is_volume(text) and not is_disc(text)


@dataclass(frozen=True)
class Offer:
    """A line of the Add menu."""

    label: str
    icon: str
    href: str
    reason: str


def offers(draft: Editing, gate: Gate) -> list[Offer]:
    """What can be added, each with why not."""
    vm = draft.vm
    found = [
        Offer(
            item.label, item.icon, reverse("vms:hardware_add", args=[vm.vmid, item.kind]),
            gate.reason(item.key, item.sample, None) or item.why_not(draft),
        )
        for item in ADDITIONS
    ]  # fmt: skip
    reason = gate.reason("unused0", "x:y", None)
    found.insert(1, Offer("Import disk", "upload", reverse("vms:disk_import", args=[vm.vmid]), reason))
    return found
