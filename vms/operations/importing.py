"""Import of a configuration file: what would come of it, and making it so.

:func:`plan` changes nothing (a volume that lies on a storage but has no row yet gets its row, as a scan
would give it). :func:`carry_out` makes a VM at once when all its volumes are there; when some have to be
made first, it makes a draft and asks for its creation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import transaction

from vms import access
from vms.config import conffile, importing
from vms.config.creation import complete
from vms.config.importing import Note, Reading, WantedDrive
from vms.config.rules import findings
from vms.config.secrets import kept_secret, masked
from vms.config.seeds import named
from vms.config.vmconfig import VMConfig, parse_value
from vms.errors import AccessError, ConfigError, ConfigErrors, StorageError
from vms.hardware.context import NodeFacts
from vms.models import VM, AuditEntry, Disk, Node, Storage, Task, Volume
from vms.models.configuration import check_saved, save_config
from vms.models.disk import GIB
from vms.models.usage import facts_in_use
from vms.operations import snippets
from vms.operations.create import may_use
from vms.operations.drafts import check_vmid, finish_draft, new_draft, next_vmid, vmid_taken
from vms.operations.protection import note_owner
from vms.operations.volumes import keep_volume
from vms.storage import open_storage

Missing = Literal["refuse", "leave-out", "empty"]
SEVERITIES = ("block", "warn", "info")
"""The order in which notes are told."""
MISSING: Mapping[str, str] = {
    "refuse": "Do not import without it",
    "leave-out": "Leave the drive out",
    "empty": "Make a new, empty one",
}


@dataclass(frozen=True)
class Options:
    """What the importer said besides the file. ``vmid`` None: the file's own number if it is free.

    ``storages`` maps the file's storage names to ours; ``missing`` says per drive what becomes of one whose
    volume is not here, ``otherwise`` the same for all others. ``unique``: new addresses and UUIDs.
    """

    vmid: int | None = None
    storages: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    otherwise: str = "refuse"
    unique: bool = False
    name: str = ""
    """What the file is called; ``101.conf`` speaks for number 101."""


@dataclass(frozen=True)
class Drive:
    """A drive of the file: its volume, whether it is here, what else can be done and what was chosen."""

    key: str
    volid: str
    there: bool
    why: str = ""
    choices: tuple[str, ...] = ()
    choice: str = ""

    @property
    def offered(self) -> list[tuple[str, str]]:
        """The choices with their words, for a form."""
        return [(choice, MISSING[choice]) for choice in self.choices]


@dataclass
class Plan:
    """What an import would do. ``ready`` when nothing stands against it."""

    vmid: int
    node: Node
    mapping: dict[str, str]
    pending: dict[str, str | None]
    notes: list[Note]
    drives: list[Drive]
    storages: dict[str, str]
    """The file's storage names and what they became; "" when there is no such storage here."""
    unique: bool
    creates: tuple[str, ...] = ()
    """The drives whose volumes have to be made."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """Keys nobody here knows; they stay with the VM."""

    @property
    def ready(self) -> bool:
        return not any(note.severity == "block" for note in self.notes)

    @property
    def text(self) -> str:
        """The configuration as it would be, as a file; its password masked."""
        main = masked(self.mapping)
        description = main.pop("description", "")
        kept = dict(self.kept)
        return conffile.format(conffile.ConfFile(description=description, main=main, kept=kept))


def plan(text: str, *, node: Node, user: Any, options: Options) -> Plan:
    """What would come of ``text``. ``user`` None may everything.

    Raises :class:`ConfigError` when the text is no configuration at all, :class:`AccessError` when the user
    may create no VM anywhere.
    """
    if user is not None and not access.may_somewhere(user, "VM.Allocate"):
        raise AccessError("Permission check failed (/vms, VM.Allocate)")
    operator = user is None or user.is_superuser
    reading = importing.read(text, options.storages, operator=operator)
    vmid, notes = _number(reading, options)
    found = Plan(
        vmid, node, dict(reading.mapping), dict(reading.pending), [*notes, *reading.notes], [], {},
        options.unique, kept=reading.kept,
    )  # fmt: skip
    _storages(found, reading, options, user)
    for drive in reading.drives:
        _drive(found, drive, options)
    if options.unique:
        found.mapping = importing.anew(found.mapping)
    _rights(found, user)
    _texts(found, reading, user)
    _judge(found, reading)
    found.notes.sort(key=lambda note: (SEVERITIES.index(note.severity), note.line))
    return found


def _number(reading: Reading, options: Options) -> tuple[int, list[Note]]:
    """The VM ID, and what is wrong with it."""
    said = options.name.rpartition("/")[2].removesuffix(".conf")
    own = [int(said)] if said.isascii() and said.isdigit() and 3 <= len(said) <= 9 else []
    wanted = options.vmid
    if wanted is None:
        wanted = next(iter([*own, *filter(None, [reading.owner()])]), None)
    if wanted is None:
        return next_vmid(), []
    try:
        check_vmid(wanted)
    except ConfigError as error:
        return wanted, [Note("block", error.text, 0, "vmid")]
    if not vmid_taken(wanted):
        return wanted, []
    return wanted, [
        Note("block", f"VM {wanted} exists already; the next free number is {next_vmid()}", 0, "vmid")
    ]


def _storages(found: Plan, reading: Reading, options: Options, user: Any) -> None:
    rows = Storage.objects.filter(enabled=True) if user is None else access.visible_storages(user)
    known = {row.name for row in rows}
    for name in reading.storages:
        there = options.storages.get(name, name)
        found.storages[name] = there if there in known else ""
        if there not in known:
            have = ", ".join(sorted(known)) or "none"
            text = f"there is no storage '{there}' here; say which one to use instead ({have})"
            line = next((drive.line for drive in reading.drives if drive.storage == there), 0)
            found.notes.append(Note("block", text, line, "storage"))


def _drive(found: Plan, drive: WantedDrive, options: Options) -> None:
    """Find the drive's volume, or do what was chosen for one that is not here."""
    if drive.storage not in found.storages.values():
        return
    volume, why = _volume(drive, found)
    if volume is not None:
        part = parse_value(drive.key, found.mapping[drive.key])
        found.mapping[drive.key] = replace(part, file=volume.volid).format()
        found.drives.append(Drive(drive.key, volume.volid, True))
        return
    choices = _choices(drive)
    usual = "empty" if drive.kind == "seed" else options.otherwise
    choice = options.missing.get(drive.key, usual)
    choice = choice if choice in choices else "refuse"
    found.drives.append(Drive(drive.key, drive.volid, False, why, choices, choice))
    if choice == "refuse":
        found.notes.append(
            Note("block", f"{drive.key}: {why}; say what to do about it", drive.line, drive.key)
        )
    elif choice == "empty":
        found.mapping[drive.key] = _new(drive, found.mapping[drive.key])
        found.creates = (*found.creates, drive.key)
        words = "is written anew" if drive.kind == "seed" else "becomes a new, empty one"
        found.notes.append(Note("info", f"{drive.key}: {why}; it {words}", drive.line, drive.key))
    else:
        _without(found, drive, why)


def _choices(drive: WantedDrive) -> tuple[str, ...]:
    if drive.kind == "cdrom" or drive.key.startswith("unused") or (drive.kind == "disk" and not drive.size):
        return ("refuse", "leave-out")
    return ("refuse", "leave-out", "empty")


def _new(drive: WantedDrive, text: str) -> str:
    """The drive's text with a volume to be made in place of the one that is missing."""
    part = parse_value(drive.key, text)
    if drive.kind == "seed":
        return str(replace(part, file=f"{drive.storage}:cloudinit", size=None).format())
    size = f"{(drive.size or 0) / GIB:.6f}".rstrip("0").rstrip(".") if drive.kind == "disk" else "1"
    return str(replace(part, file=f"{drive.storage}:{size}", size=None).format())


def _without(found: Plan, drive: WantedDrive, why: str) -> None:
    if drive.kind == "cdrom":
        part = parse_value(drive.key, found.mapping[drive.key])
        found.mapping[drive.key] = replace(part, file="none", size=None).format()
        text = f"{drive.key}: {why}; the drive stays, empty"
    else:
        found.mapping = importing.without_drive(found.mapping, drive.key)
        text = f"{drive.key}: {why}; left out"
    found.notes.append(Note("warn", text, drive.line, drive.key))


def _volume(drive: WantedDrive, found: Plan) -> tuple[Volume | None, str]:
    """The volume of a drive if it is here and free for this VM; else why not."""
    for name in importing.candidates(drive):
        row = _row(drive.storage, name, found.node)
        if row is None:
            continue
        if row.vmid is not None and row.vmid != found.vmid:
            return None, f"'{row.volid}' belongs to number {row.vmid}, not {found.vmid}"
        user = Disk.objects.filter(volume=row).exclude(volume__content="iso").select_related("vm").first()
        if user is not None:
            return None, f"'{row.volid}' is used by VM {user.vm.vmid}"
        return row, ""
    return None, f"there is no volume '{drive.volid}' here"


def _row(storage: str, name: str, node: Node) -> Volume | None:
    """A volume's row; made when its file is there and no scan has seen it yet."""
    rows = Volume.objects.select_related("storage").filter(storage__name=storage, name=name, present=True)
    row = next((row for row in rows if row.node_id in (None, node.pk)), None)
    place = Storage.objects.filter(name=storage).first()
    if row is not None or place is None or settings.CONF.node != node.name:
        return row
    try:
        seen = async_to_sync(open_storage(storage, place.facts()).find)(f"{storage}:{name}")
    except StorageError:
        return None
    return keep_volume(place, node, seen)


def _rights(found: Plan, user: Any) -> None:
    """Everything creation asks of who creates; each lack is a note."""
    if user is None:
        return
    wanted = [("VM.Allocate", f"/vms/{found.vmid}")]
    for key in found.creates:
        storage = parse_value(key, found.mapping[key]).file.partition(":")[0]
        wanted.append(("Datastore.AllocateSpace", f"/storage/{storage}"))
    for _, _, net in VMConfig.parse(found.mapping).slots("net"):
        if net.bridge:
            path = f"/sdn/zones/localnetwork/{net.bridge}"
            wanted.append(("SDN.Use", f"{path}/{net.tag}" if net.tag else path))
    for privilege, path in dict.fromkeys(wanted):
        if not access.may(user, privilege, path):
            found.notes.append(Note("block", f"you may not: {privilege} on {path} is missing"))
    for drive in found.drives:
        try:
            may_use(user, drive.volid.partition(":")[0])
        except AccessError as error:
            found.notes.append(Note("block", str(error), 0, drive.key))


def _texts(found: Plan, reading: Reading, user: Any) -> None:
    """The texts it gives to cloud-init: one that is not here keeps it from starting, one that the importer
    may not read keeps it out."""
    for mapping in (found.mapping, found.pending):
        text, line = mapping.get("cicustom"), reading.lines.get("cicustom", 0)
        if not text:
            continue
        try:
            snippets.authorise(user, {"cicustom": text})
            snippets.texts(named(VMConfig.parse({"cicustom": text})))
        except AccessError as error:
            found.notes.append(Note("block", str(error), line, "cicustom"))
        except ConfigError as error:
            found.notes.append(Note("warn", f"{error.text}; it would not start so", line, "cicustom"))


def _judge(found: Plan, reading: Reading) -> None:
    """What the house's rules say to the result. What only keeps it from starting is a warning here."""
    blocked = {(note.line, note.key) for note in found.notes if note.severity == "block"}
    try:
        check_saved(VM(vmid=found.vmid, node=found.node), found.mapping)
    except ConfigError as errors:
        nowhere = {drive.key for drive in reading.drives if drive.storage not in found.storages.values()}
        for error in getattr(errors, "errors", (errors,)):
            if error.key in nowhere and error.part == "file":
                continue  # said of the storage already
            place = (reading.lines.get(error.key, 0), error.key)
            if place not in blocked:
                found.notes.append(Note("block", str(error), *place))
            blocked.add(place)
    for finding in findings(VMConfig.parse(found.mapping), facts_in_use(found.node)):
        key = next(iter(finding.keys), "")
        if (reading.lines.get(key, 0), key) in blocked:
            continue
        text = f"{finding.text} It would not start so." if finding.severity == "block" else finding.text
        severity: Any = "warn" if finding.severity == "block" else finding.severity
        found.notes.append(Note(severity, text, reading.lines.get(key, 0), key))


IMPORTED = "as its imported configuration says"


def carry_out(found: Plan, user: Any) -> tuple[VM, Task | None]:
    """Make the VM of a plan. With volumes to be made it is a draft yet, and the task that creates it runs.

    Raises :class:`ConfigErrors` when something stands against it.
    """
    if not found.ready:
        blocked = [note for note in found.notes if note.severity == "block"]
        raise ConfigErrors(ConfigError(note.key or "file", note.text) for note in blocked)
    if user is not None:
        access.require(user, "VM.Allocate", f"/vms/{found.vmid}")
    secret = found.pending.pop("cipassword", None)
    if secret:
        whole = kept_secret({**found.mapping, "cipassword": secret}, {})
        found.pending |= {key: whole[key] for key in ("cipassword",) if key in whole}
    with transaction.atomic():
        vm = new_draft(user, found.node, vmid=found.vmid)
        VM.everything.filter(pk=vm.pk).update(pending=found.pending, foreign=dict(found.kept))
        name = user.get_username() if user is not None else "system"
        AuditEntry.objects.create(username=name, action="import", target=f"VM {vm.vmid}")
        if found.creates:
            save_config(vm, found.mapping)
            note_owner(vm, name, IMPORTED)
            return vm, finish_draft(vm, user)
        vm.stage = VM.Stage.DEFINED
        VM.everything.filter(pk=vm.pk).update(stage=VM.Stage.DEFINED)
        save_config(vm, _whole(found))
        note_owner(vm, name, IMPORTED)
    return vm, None


def _whole(found: Plan) -> dict[str, str]:
    """The configuration with new addresses and UUIDs where they were taken out; nothing else is added."""
    mapping = dict(found.mapping)
    if found.unique:
        made = complete(mapping, NodeFacts.from_json(found.node.facts))
        keys = [key for key in made if key.startswith("net") or key in ("smbios1", "vmgenid")]
        mapping |= {key: made[key] for key in keys if key in mapping or key == "smbios1"}
    return mapping


__all__ = ["MISSING", "Drive", "Options", "Plan", "carry_out", "plan"]
