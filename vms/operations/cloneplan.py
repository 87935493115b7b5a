"""What a clone will be made of: each drive of the source, and how the clone gets its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from vms import access
from vms.config.cloning import cloned
from vms.config.creation import new_mac
from vms.config.privileged import operators_only
from vms.config.vmconfig import VMConfig
from vms.errors import AccessError, ConfigError, LockedError, NotFound, StateError
from vms.models import VM, Nic, Node, Snapshot, Storage, Volume
from vms.models.configuration import config_of, is_drive, slot_kind, with_parts
from vms.operations.base import Params, holder
from vms.operations.memory import Saved, saved_in
from vms.operations.warmstate import cold_reasons, warm, warm_disks
from vms.schema.option import opt
from vms.schema.types import dns_name
from vms.storage import open_storage
from vms.storage.base import Storage as Driver
from vms.storage.base import fitting
from vms.storage.names import is_base, is_seed
from vms.tasks.queue import SOURCE

How = Literal["keep", "link", "copy", "seed"]
"""What becomes of a drive: its text is taken over, a linked clone or a full copy is made, or its cloud-init
drive is written anew."""


@dataclass(frozen=True, kw_only=True)
class CloneParams(Params):
    """What Clone can be told. The VM that is made is the task's own; the source is a parameter."""

    clone_of: int = opt(
        "Source", key=SOURCE, required=True, hidden=True, minimum=100, help="The VM ID of the source."
    )
    name: str | None = opt("Name", check=dns_name, max_length=253, help="The clone's name.")
    description: str | None = opt("Notes", max_length=16384, help="Notes instead of the source's.")
    pool: str | None = opt("Resource pool", max_length=100, help="The pool the clone is put into.")
    snapname: str | None = opt(
        "Snapshot", max_length=40, help="Clone what the source was in this snapshot, not what it is now."
    )
    full: bool | None = opt(
        "Full clone", help="Copy every disk. A template's clones are linked without it, others always full."
    )
    storage: str | None = opt("Target storage", max_length=63, help="Where a full clone's disks go.")
    format: Literal["raw", "qcow2"] | None = opt("Format", help="How a full clone's disks are stored.")
    target: str | None = opt("Target node", max_length=63, help="The node it is made on; only the source's.")
    bwlimit: int | None = opt(
        "Bandwidth limit", minimum=0, maximum=1 << 40, unit="KiB/s", help="The most that a copy reads."
    )
    start: bool | None = opt("Start after cloning", default=False, help="Start the clone once it is there.")
    warm: bool | None = opt(
        "Warm", default=False,
        help="Begin with the memory the template keeps: the clone runs at once and does not boot.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One drive of the source. ``storage`` is where the clone's volume goes."""

    slot: str
    text: str
    how: How
    volume: Volume | None = None
    storage: Storage | None = None
    format: str = ""

    @property
    def there(self) -> tuple[Volume, Storage]:
        """The source's volume and the storage of the clone's. Raises :class:`StateError` for none."""
        if self.volume is None or self.storage is None:
            raise StateError(f"{self.slot}: there is nothing to be made")
        return self.volume, self.storage

    def with_volume(self, volid: str, size: str = "") -> str:
        """The drive with the clone's volume in it. The format is the volume's own matter."""
        rest = (word for word in self.text.split(",")[1:] if word.partition("=")[0] not in ("format", "size"))
        return ",".join([volid, *rest, *([f"size={size}"] if size else [])])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One clone. ``mapping`` is the source's configuration, now or in the snapshot, ``anew`` the same with
    the addresses and ids of the clone; ``state`` the memory that a warm clone begins with."""

    source: VM
    mapping: Mapping[str, str]
    anew: Mapping[str, str]
    pieces: tuple[Piece, ...]
    full: bool
    snapshot: str = ""
    state: Saved | None = None

    def made(self) -> Iterator[Piece]:
        """The drives the clone gets a volume of its own for."""
        return (piece for piece in self.pieces if piece.how != "keep")

    @property
    def seeded(self) -> bool:
        """Whether the clone has a cloud-init drive."""
        return any(piece.how == "seed" for piece in self.pieces)

    @property
    def storages(self) -> dict[str, Storage]:
        """Where volumes are made, by name."""
        return {piece.storage.name: piece.storage for piece in self.made() if piece.storage is not None}


def source_of(params: CloneParams) -> VM:
    """The VM to be cloned, with its parts. Raises :class:`NotFound`."""
    found: VM | None = with_parts(VM.objects.filter(vmid=params.clone_of)).first()
    if found is None:
        raise NotFound(f"There is no VM {params.clone_of}.")
    return found


def plan_of(params: CloneParams, target: VM) -> Plan:
    """How ``target`` is to be made. Raises :class:`VMError` saying why it cannot be."""
    source = source_of(params)
    if source.lock and not params.snapname:
        raise LockedError(f"VM {source.vmid} is locked ({source.lock}) by {holder(source)}.")
    mapping = configuration(source, params.snapname or "")
    full = params.full if params.full is not None else not source.template
    if not full:
        for name in ("storage", "format"):
            if getattr(params, name):
                raise ConfigError(name, f"parameter '{name}' not allowed for linked clones")
    check_place(source, mapping, params.target or "")
    state = None
    if params.warm:
        state = memory_of(source, full=full)
        mapping = on_warm_bases(source, mapping)
    store = storage_named(params.storage) if params.storage else None
    rows = volumes_of(source, mapping)
    pieces = [
        piece_of(source, key, text, rows, full=full, store=store, params=params)
        for key, text in mapping.items()
        if is_drive(key) and slot_kind(key) != "unused"
    ]
    return Plan(
        source=source, mapping=mapping, anew=cloned(mapping, macs=free_mac), pieces=tuple(pieces), full=full,
        snapshot=params.snapname or "", state=state,
    )  # fmt: skip


def free_mac() -> str:
    """A new address that no other VM has."""
    while True:
        address = new_mac()
        if not Nic.objects.filter(mac=address).exists():
            return address


def memory_of(source: VM, *, full: bool) -> Saved:
    """The memory a warm clone begins with. Raises :class:`StateError` when there is none that fits."""
    if full:
        raise ConfigError("warm", "only a linked clone can begin with the template's memory")
    state = saved_in(source) if warm(source) else None
    if state is None:
        raise StateError(f"VM {source.vmid} keeps no warm state.", hint="Warm it up first.")
    reasons = cold_reasons(source)
    if reasons:
        raise StateError(
            f"The warm state of VM {source.vmid} does not fit any more: {'; '.join(reasons)}.",
            hint="Discard it and warm the template up again, or make a clone that boots.",
        )
    return replace(state, volume=Volume.objects.select_related("storage").get(pk=state.volume.pk))


def on_warm_bases(source: VM, mapping: Mapping[str, str]) -> dict[str, str]:
    """The configuration with the bases that belong to the saved memory in its drives."""
    found = dict(mapping)
    for key, volid in warm_disks(source).items():
        _, comma, rest = found[key].partition(",")
        found[key] = f"{volid}{comma}{rest}"
    return found


def configuration(source: VM, snapshot: str) -> dict[str, str]:
    """What the source is made of, now or in a snapshot. Raises :class:`ConfigError`."""
    if not snapshot:
        return config_of(source)
    row = Snapshot.objects.filter(vm=source, name=snapshot).first()
    if row is None:
        raise ConfigError("snapname", f"snapshot '{snapshot}' does not exist")
    if row.state:
        raise ConfigError("snapname", f"snapshot '{snapshot}' is not complete (snapstate = {row.state})")
    found = {str(key): str(text) for key, text in row.config.items()}
    kept = row.running.get("tpmstate0")
    if kept and "tpmstate0" in found:
        # The TPM's own volume is as it is now; what it was is in a copy beside it.
        found["tpmstate0"] = ",".join([str(kept), *found["tpmstate0"].split(",")[1:]])
    return found


def check_place(source: VM, mapping: Mapping[str, str], node: str) -> None:
    """Raise :class:`ConfigError` for another node than the source's: the work is done there."""
    if node in ("", source.node.name):
        return
    if not Node.objects.filter(name=node).exists():
        raise ConfigError("target", f"there is no node '{node}'")
    local = [row for row in volumes_of(source, mapping).values() if not row.storage.shared]
    if local:
        raise ConfigError("target", f"can't clone VM to node '{node}' (VM uses local storage)")
    raise ConfigError("target", f"a clone is made on the source's node, {source.node.name}, and moved then")


def storage_named(name: str) -> Storage:
    """A storage that takes disks. Raises :class:`ConfigError`."""
    found = Storage.objects.filter(name=name).first()
    if found is None:
        raise ConfigError("storage", f"storage '{name}' does not exist")
    if not found.enabled:
        raise ConfigError("storage", f"storage '{name}' is switched off")
    if "images" not in found.content:
        raise ConfigError("storage", f"storage '{name}' takes no disk images")
    return found


def volumes_of(source: VM, mapping: Mapping[str, str]) -> dict[str, Volume]:
    """The volumes in a configuration's drives, by id."""
    names = {text.partition(",")[0].removeprefix("file=") for key, text in mapping.items() if is_drive(key)}
    rows = Volume.objects.select_related("storage").filter(
        name__in=[name.partition(":")[2] for name in names if ":" in name]
    )
    return {row.volid: row for row in rows if row.node_id in (None, source.node_id)}


def piece_of(
    source: VM, key: str, text: str, rows: Mapping[str, Volume],
    *, full: bool, store: Storage | None, params: CloneParams,
) -> Piece:  # fmt: skip
    """What becomes of one drive. Raises :class:`StateError` or :class:`ConfigError`."""
    volid = text.partition(",")[0].removeprefix("file=")
    volume = rows.get(volid)
    if volume is None:
        if ":" in volid:
            raise ConfigError(key, f"volume '{volid}' does not exist")
        return Piece(slot=key, text=text, how="keep")
    if volume.content != Volume.Content.IMAGES:
        return Piece(slot=key, text=text, how="keep", volume=volume)
    place = store or volume.storage
    piece = Piece(slot=key, text=text, how="copy", volume=volume, storage=place, format=volume.format)
    formats = place.spec.formats
    if is_seed(volume.name):
        return replace(piece, how="seed", format=fitting(formats, volume.format))
    running = source.running and not source.template and not params.snapname
    if key == "tpmstate0":
        if running:
            raise StateError("cannot clone TPM state while VM is running", hint="Shut the VM down first.")
        return piece
    if not full:
        if not is_base(volume.name) or params.snapname:
            raise StateError(
                f"Linked clone feature is not supported for '{volid}' ({key})",
                hint="Convert the VM to a template first, or make a full clone.",
            )
        return replace(piece, how="link", format=formats[0])
    if params.snapname and volume.format != "qcow2" and driver_of(volume).snapshot_refusal(volid):
        raise StateError(f"Full clone feature is not supported for a snapshot of '{volid}' ({key})")
    if params.format and params.format not in formats:
        raise ConfigError("format", f"storage '{place.name}' holds {formats[0]} disks only")
    wanted = params.format if params.format and key != "efidisk0" else volume.format
    return replace(piece, format=fitting(formats, wanted))


def driver_of(volume: Volume) -> Driver:
    """The driver of a volume's storage, to be asked what needs no look at the storage."""
    return open_storage(volume.storage.name, volume.storage.facts())


def authorise(user: Any, target: VM, params: CloneParams) -> None:
    """Raise :class:`AccessError` unless ``user`` may make this clone.

    The source may be cloned, the new VM made, room taken on each storage and each bridge used. Options that
    reach past the machine stay an operator's: a clone is no other door to them.
    """
    source = source_of(params)
    access.require_vm(user, "VM.Clone", source)
    pool = target.pool.name if target.pool else ""
    access.require(user, "VM.Allocate", target.path, pool=pool)
    if params.start or params.warm:
        access.require(user, "VM.PowerMgmt", target.path, pool=pool)
    mapping = configuration(source, params.snapname or "")
    for path in bridges(mapping):
        access.require(user, "SDN.Use", path)
    for name in places(source, mapping, params):
        access.require(user, "Datastore.AllocateSpace", f"/storage/{name}")
    if not user.is_superuser:
        for key, text in mapping.items():
            if operators_only(key, text):
                raise AccessError(f"only an operator may clone a VM with '{key}: {text[:60]}'")


def bridges(mapping: Mapping[str, str]) -> Iterator[str]:
    """The bridges of a configuration's network cards, as paths of privileges."""
    for _, _, net in VMConfig.parse(mapping).slots("net"):
        if net.bridge:
            path = f"/sdn/zones/localnetwork/{net.bridge}"
            yield f"{path}/{net.tag}" if net.tag else path


def places(source: VM, mapping: Mapping[str, str], params: CloneParams) -> set[str]:
    """The storages on which the clone gets volumes."""
    own = {row.storage.name for row in volumes_of(source, mapping).values() if row.content == "images"}
    return {params.storage} if params.storage and own else own
