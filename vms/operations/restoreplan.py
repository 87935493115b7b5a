"""What a restore will make of a backup: each drive of the configuration in it, and where its data goes.

The configuration comes from a file that may be anybody's. It is read as an import is, judged as a whole, and
what reaches past the machine is asked of the user who restores, whatever stood in it before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vms import access
from vms.backup.manifest import ArchivedDisk, Manifest
from vms.config import importing
from vms.config.cloning import cloned
from vms.config.creation import new_uuid
from vms.config.privileged import operators_only
from vms.config.rights import rights
from vms.config.rules import findings
from vms.config.upkeep import free_unused, is_seed, is_unused, owner_of, volume_of
from vms.config.vmconfig import VMConfig
from vms.errors import AccessError, ConfigError, ConfigErrors, StateError
from vms.models import VM, Storage, Volume
from vms.models.configuration import check_saved, config_of, is_drive
from vms.models.disk import GIB
from vms.models.usage import facts_in_use
from vms.models.waiting import waiting_volumes
from vms.operations.cloneplan import free_mac, storage_named
from vms.operations.waiting import fresh_of_now
from vms.storage.names import SEED_NAME


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A drive that gets a new volume. ``archived`` is what is written into it; a cloud-init drive has none,
    it is written anew. ``text`` is the drive's value as the archive has it."""

    slot: str
    text: str
    storage: Storage
    format: str
    archived: ArchivedDisk | None = None

    @property
    def wish(self) -> str:
        """The drive as if it were to be made, to judge the whole by before a byte is written."""
        size = f"{max(self.archived.size / GIB, 0.001):.3f}" if self.archived is not None else "cloudinit"
        return ",".join([f"{self.storage.name}:{size}", *self._rest()])

    def with_volume(self, volid: str, size: str) -> str:
        """The drive with its new volume."""
        return ",".join([volid, *self._rest(), f"size={size}"])

    def _rest(self) -> list[str]:
        dropped = ("file", "format", "size", "import-from")
        return [word for word in self.text.split(",")[1:] if word.partition("=")[0] not in dropped]


@dataclass(kw_only=True)
class Plan:
    """One restore. ``mapping`` is the configuration that comes of it, without the drives of ``pieces``;
    ``gone`` the volumes that are freed once it is there, ``shots`` the snapshots (volume, name) that disks
    which stay are rid of then; ``notes`` what the log says, ``warnings`` too."""

    manifest: Manifest
    mapping: dict[str, str]
    kept: Mapping[str, str] = field(default_factory=dict)
    pieces: list[Piece] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    shots: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def storages(self) -> dict[str, Storage]:
        """Where volumes are made, by name."""
        return {piece.storage.name: piece.storage for piece in self.pieces}

    @property
    def template(self) -> bool:
        return self.mapping.get("template") == "1"


def plan_of(
    vm: VM, manifest: Manifest, conf: bytes, params: Any, formats: Mapping[str, tuple[str, ...]]
) -> Plan:
    """How ``vm``, a draft or a VM that is there, becomes what the archive holds. ``formats``: what a disk can
    be on each storage, by the storage's name, the best first.

    Raises :class:`ConfigError` or :class:`StateError` saying why it cannot.
    """
    reading = importing.read(importing.decode(conf), {}, operator=True)
    fresh = fresh_of_now(vm)
    before = config_of(fresh) if fresh.stage == VM.Stage.DEFINED else {}
    plan = Plan(manifest=manifest, mapping=dict(reading.mapping), kept=dict(reading.kept))
    plan.notes += [note.text for note in reading.notes if note.severity != "info"]
    store = storage_named(params.storage) if params.storage else None
    archived = {disk.key: disk for disk in manifest.disks}
    for key in [key for key in plan.mapping if is_drive(key)]:
        text = plan.mapping[key]
        if key in archived:
            disk = archived.pop(key)
            place = store or _place(key, disk.volid)
            fmt = "raw" if key == "tpmstate0" else disk.format
            plan.pieces.append(
                Piece(slot=key, text=text, storage=place, format=_format(fmt, formats, place), archived=disk)
            )
        else:
            _without_data(plan, fresh, before, key, store, formats)
    if archived:
        names = ", ".join(sorted(archived))
        raise ConfigError("archive", f"it has disks that its configuration does not: {names}")
    _identity(plan, unique=bool(params.unique))
    _left_over(plan, before, [row.volid for row in waiting_volumes(fresh)])
    _judge(fresh, plan)
    return plan


def stores() -> list[Storage]:
    """The storages disks can go to."""
    return [row for row in Storage.objects.filter(enabled=True) if "images" in row.content]


def _place(key: str, volid: str) -> Storage:
    """The storage a disk was on. Raises :class:`ConfigError`."""
    try:
        return storage_named(volid.partition(":")[0])
    except ConfigError as error:
        raise ConfigError(
            key, f"was on another storage: {error.text}", hint="Choose one with 'storage'."
        ) from error


def _format(wanted: str, formats: Mapping[str, tuple[str, ...]], storage: Storage) -> str:
    there = formats.get(storage.name, ("raw",))
    return wanted if wanted in there else there[0]


def _without_data(
    plan: Plan, vm: VM, before: Mapping[str, str], key: str, store: Storage | None,
    formats: Mapping[str, tuple[str, ...]],
) -> None:  # fmt: skip
    """A drive of the configuration whose data is not in the archive."""
    text = plan.mapping[key]
    volid = volume_of(text)
    if is_unused(key):
        del plan.mapping[key]
    elif is_seed(volid) or volid.endswith(":cloudinit"):
        place = store or _place(key, volid)
        was = SEED_NAME.fullmatch(volid.partition(":")[2])
        fmt = _format(was["fmt"] if was else "raw", formats, place)
        seeds = [volume_of(old) for old in before.values() if is_seed(volume_of(old))]
        own = next((seed for seed in seeds if seed.partition(":")[0] == place.name), "")
        if own:  # written again at the next start
            plan.mapping[key] = ",".join([own, *text.split(",")[1:]])
        else:
            plan.pieces.append(Piece(slot=key, text=text, storage=place, format=fmt))
    elif "media=cdrom" in text.split(","):
        if ":" in volid and not _there(vm, volid):
            plan.mapping[key] = ",".join(["none", *text.split(",")[1:]])
            plan.warnings.append(f"{key}: '{volid}' is not here; the drive is empty")
    elif key in before and volume_of(before[key]) == volid:
        plan.mapping[key] = before[key]
        plan.notes.append(f"{key}: is not in the backup; '{volid}' stays as it is")
    else:
        plan.mapping = importing.without_drive(plan.mapping, key)
        line = f"{key}: {text}"
        notes = plan.mapping.get("description", "")
        plan.mapping["description"] = f"{notes.rstrip()}\n\nNot in the backup: `{line}`".lstrip()
        plan.warnings.append(f"{key}: is not in the backup and was left out; the notes keep its line")


def _there(vm: VM, volid: str) -> bool:
    storage, _, name = volid.partition(":")
    rows = Volume.objects.filter(storage__name=storage, name=name, present=True)
    return any(row.node_id in (None, vm.node_id) for row in rows)


def _identity(plan: Plan, *, unique: bool) -> None:
    """A generation of its own in any case; addresses and ids only when asked for."""
    if unique:
        template = {"template": "1"} if plan.template else {}
        drives = {key: text for key, text in plan.mapping.items() if is_drive(key)}
        plan.mapping = cloned(plan.mapping, macs=free_mac) | drives | template
    elif plan.mapping.get("vmgenid", "0") != "0":
        plan.mapping["vmgenid"] = new_uuid()


def _left_over(plan: Plan, before: Mapping[str, str], waiting: Iterable[str]) -> None:
    """What becomes of the disks the VM has now: those the archive replaces go, all others stay."""
    pieces = {piece.slot: piece for piece in plan.pieces}
    stays = {volume_of(text) for key, text in plan.mapping.items() if is_drive(key) and key not in pieces}
    now = [(key, volume_of(text)) for key, text in before.items() if is_drive(key)]
    for key, volid in [*now, *(("a waiting change", volid) for volid in waiting)]:
        if owner_of(volid) is None or volid in stays:
            continue
        if key in pieces or is_seed(volid):
            plan.gone.append(volid)
        else:
            plan.mapping[free_unused(plan.mapping)] = volid
            plan.notes.append(f"{key}: '{volid}' is not in the backup; it stays as an unused disk")


def _judge(vm: VM, plan: Plan) -> None:
    """Everything that saving it would refuse, and what would keep it from starting, as at an import."""
    wishes = plan.mapping | {piece.slot: piece.wish for piece in plan.pieces}
    try:
        check_saved(vm, wishes, new=True)
    except ConfigErrors as errors:
        if any(error.part == "macaddr" and "of VM" in error.text for error in errors):
            raise StateError(
                str(errors), hint="Restore it with 'unique', which gives it new addresses."
            ) from errors
        raise
    if not vm.node.facts:
        return
    for finding in findings(VMConfig.parse(wishes), facts_in_use(vm.node, besides=vm)):
        if finding.severity == "block":
            plan.warnings.append(f"{finding.text} It does not start so.")


def authorise(user: Any, vm: VM, plan: Plan) -> None:
    """Raise :class:`AccessError` unless ``user`` may have what comes of it. ``user`` None may everything.

    Room on each storage; each bridge, mapped device and text; and of what only an operator may set, only
    what the VM has already.
    """
    if user is None:
        return
    for name in plan.storages:
        access.require(user, "Datastore.AllocateSpace", f"/storage/{name}")
    fresh = fresh_of_now(vm)
    before = config_of(fresh) if fresh.stage == VM.Stage.DEFINED else {}
    slots = {piece.slot for piece in plan.pieces}
    for key, text in plan.mapping.items():
        if key in slots or before.get(key) == text:
            continue
        if operators_only(key, text) and not user.is_superuser:
            raise AccessError(f"only an operator may restore a VM with '{key}: {text[:60]}'")
        for right in rights(key, before.get(key), text) if key != "startup" else ():
            if right.path and not any(access.may(user, one, right.path) for one in right.privileges):
                raise AccessError(f"Permission check failed ({right.path}, {right.privileges[0]})")
