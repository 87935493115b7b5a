"""What goes into a backup, where it goes and what it is called: read once, before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from vms.config import backupnotes, conffile
from vms.config.vmconfig import parse_value
from vms.errors import ConfigError, StateError
from vms.models import VM, Storage
from vms.models.configuration import config_of, is_drive, slot_kind
from vms.operations.snapdisks import Held, held_by
from vms.operations.start import parts_of
from vms.schema.option import opt
from vms.schema.propstring import PropertyString
from vms.storage import names

STORAGE = "local"
"""Where a backup goes when nothing is said (PVE)."""


@dataclass(frozen=True, kw_only=True)
class Fleecing(PropertyString):
    """Where goes what the guest overwrites while it is read (PVE's ``fleecing``)."""

    enabled: bool | None = opt(
        "Enabled", default=False, short=True, help="Put what the guest overwrites on a storage of choice."
    )
    storage: str | None = opt("Storage", max_length=63, help="That storage; it should be a fast one.")

    def check_parts(self, key: str) -> None:
        """Raises :class:`ConfigError`."""
        if self.enabled and not self.storage:
            raise ConfigError(key, "needs a storage: enabled=1,storage=NAME", part="storage")


def fleecing(text: str) -> str:
    """The canonical text. Raises :class:`ValueError`."""
    try:
        return Fleecing.parse(text, "fleecing").format()
    except ConfigError as error:
        raise ValueError(error.text) from None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One backup. ``vm`` and ``mapping`` as they are now, ``disks`` what is in it, ``left_out`` drive key to
    why it is not; ``name`` is the archive's file, ``begun`` what it says of the time. ``fleece``: the storage
    chosen for what is overwritten; without one it is the disk's own."""

    vm: VM
    mapping: Mapping[str, str]
    disks: list[Held]
    left_out: dict[str, str] = field(default_factory=dict)
    storage: Storage
    fleece: Storage | None
    name: str
    begun: datetime

    @property
    def volid(self) -> str:
        """What the backup will be called."""
        return f"{self.storage.name}:backup/{self.name}"

    @property
    def conf(self) -> bytes:
        """The configuration as its file has it: the main section alone."""
        main = dict(self.mapping)
        notes = main.pop("description", "")
        found = conffile.ConfFile(description=notes, main=main, kept=dict(self.vm.foreign))
        return conffile.format(found).encode()

    def notes(self, template: str) -> str:
        """The notes by their template."""
        values = {
            "guestname": self.vm.name or f"VM {self.vm.vmid}", "vmid": str(self.vm.vmid),
            "node": self.vm.node.name, "cluster": "pvelite",
        }  # fmt: skip
        return backupnotes.filled(template, values)


def make(vm: VM, params: Any, taken: Any) -> Plan:
    """The plan (database work). ``taken`` tells of a file name whether something is called so already.

    Raises :class:`StateError`, :class:`ConfigError`.
    """
    fresh = parts_of(vm)
    mapping = config_of(fresh)
    wanted, left_out = chosen(mapping)
    begun = timezone.now().replace(microsecond=0)
    packed = params.compress == "zstd"
    while taken(names.backup_name(fresh.vmid, begun, packed=packed)):
        begun += timedelta(seconds=1)
    return Plan(
        vm=fresh, mapping=mapping, disks=held_by(fresh, wanted), left_out=left_out,
        storage=target(params.storage), fleece=fleece_storage(params.fleecing),
        name=names.backup_name(fresh.vmid, begun, packed=packed), begun=begun,
    )  # fmt: skip


def chosen(mapping: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The drives that are in a backup, and why each of the others is not."""
    wanted, left_out = {}, {}
    for key, text in mapping.items():
        if not is_drive(key) or slot_kind(key) == "unused":
            continue
        why = _why_not(key, text, mapping)
        if why:
            left_out[key] = why
        else:
            wanted[key] = text
    return wanted, left_out


def _why_not(key: str, text: str, mapping: Mapping[str, str]) -> str:
    part = parse_value(key, text)
    if getattr(part, "is_cdrom", False):
        return "made anew when it is needed" if part.is_cloudinit else "a CD drive"
    if getattr(part, "backup", None) is False:
        return "backup=0"
    if part.file.startswith("/"):
        return "a device or file of the node"
    if key == "efidisk0" and mapping.get("bios") != "ovmf":
        return "its firmware is not in use"
    return ""


def target(name: str | None) -> Storage:
    """The storage the archive goes to. Raises :class:`ConfigError` on ``storage``."""
    return _usable(name or STORAGE, "storage", "backup", "backups")


def fleece_storage(text: str | None) -> Storage | None:
    """The storage for what is overwritten, if one was chosen. Raises :class:`ConfigError` on ``fleecing``."""
    part = Fleecing.parse(text, "fleecing") if text else None
    if part is None or not part.enabled or part.storage is None:
        return None
    return _usable(part.storage, "fleecing", "images", "disk images")


def _usable(name: str, key: str, content: str, words: str) -> Storage:
    rows = {row.name: row for row in Storage.objects.order_by("name")}
    able = [row.name for row in rows.values() if row.enabled and row.path and content in row.content]
    hint = f"Storages that take {words}: {', '.join(able) or 'none'}."
    row = rows.get(name)
    if row is None:
        raise ConfigError(key, f"storage '{name[:63]}' does not exist", hint=hint)
    if not row.enabled:
        raise ConfigError(key, f"storage '{name}' is switched off", hint=hint)
    if content not in row.content:
        raise ConfigError(key, f"storage '{name}' does not take {words}", hint=hint)
    if not row.path:
        raise ConfigError(key, f"storage '{name}' is no folder, and this needs one", hint=hint)
    return row


def check_state(vm: VM, mode: str) -> None:
    """Raise :class:`StateError` unless the VM can be read now."""
    if vm.stage != VM.Stage.DEFINED:
        raise StateError(f"VM {vm.vmid} is not created yet; finish its wizard first.")
    if vm.status in (VM.Status.SUSPENDED, VM.Status.SHUTDOWN, VM.Status.UNKNOWN):
        raise StateError(f"VM {vm.vmid} is {vm.status}; it cannot be backed up just now.")
    if mode == "stop" and vm.status == VM.Status.PAUSED:
        raise StateError("VM is paused - cannot shutdown", hint="Resume it first, or choose another mode.")
