"""The configuration of a VM: one flat mapping of PVE key → PVE string, held by rows.

:func:`config_of` composes it from the VM's row, its drives and its network cards; :func:`save_config` is the
only writer: it checks the whole mapping, splits it over the rows in one transaction and bumps the digest.
Wizard, dialogs, admin, API, ``qm`` and import all end here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Prefetch
from django.dispatch import Signal

from vms.config.relations import check_config
from vms.config.secrets import kept_secret
from vms.errors import ConfigError, ConfigErrors, StateError
from vms.hardware import part_of, slot_of
from vms.models.disk import GIB, Disk
from vms.models.nic import Nic
from vms.models.storage import Storage, Volume
from vms.models.vm import VM

DRIVE_SLOTS = frozenset({"ide", "sata", "scsi", "virtio", "unused"})
DRIVE_KEYS = frozenset({"efidisk0", "tpmstate0"})
NEW_DISK = re.compile(r"([A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]):([0-9]{1,9}(?:\.[0-9]{1,6})?)")
"""``local:32`` — a disk of so many GiB, to be allocated on that storage."""
NEW_SEED = re.compile(r"([A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]):cloudinit")
"""``local:cloudinit`` — a cloud-init drive, to be made on that storage."""
SEED_SIZE = 4 << 20
saved = Signal()
"""Sent with ``vm`` after a configuration was stored, still inside the transaction."""
_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def slot_kind(key: str) -> str:
    """``scsi`` for ``scsi3``; empty for a key that is no numbered slot."""
    found = slot_of(key)
    return found[0].name if found else ""


def is_drive(key: str) -> bool:
    """Whether ``key`` is held by a Disk row."""
    return key in DRIVE_KEYS or slot_kind(key) in DRIVE_SLOTS


def size_bytes(text: str) -> int:
    """PVE's ``32G`` as bytes. Raises ``ValueError``."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGT]?)(?:i?B)?", text)
    if match is None:
        raise ValueError(f"'{text}' is no size such as 32G")
    return round(float(match[1]) * _SIZE_UNITS[match[2]])


def size_text(size: int) -> str:
    """Bytes with the largest unit that divides exactly, as PVE writes them."""
    for unit, factor in reversed(_SIZE_UNITS.items()):
        if size % factor == 0 and size >= factor:
            return f"{size // factor}{unit}"
    return str(size)


def config_of(vm: VM) -> dict[str, str]:
    """The flat mapping. Two queries at most; none when ``disks`` and ``nics`` were prefetched."""
    return _composed(vm, vm.disks.all(), vm.nics.all())


def _composed(vm: VM, disks: Iterable[Disk], nics: Iterable[Nic]) -> dict[str, str]:
    mapping: dict[str, str] = {str(key): str(value) for key, value in vm.options.items()}
    columns: dict[str, Any] = {
        "name": vm.name, "tags": vm.tags, "ostype": vm.ostype, "cores": vm.cores, "memory": vm.memory,
        "template": "1" if vm.template else None,
    }  # fmt: skip
    mapping.update({key: str(value) for key, value in columns.items() if value not in (None, "")})
    mapping.update({disk.slot: drive_text(disk) for disk in disks})
    mapping.update({nic.slot: nic_text(nic) for nic in nics})
    return dict(sorted(mapping.items()))


def with_parts(vms: Any) -> Any:
    """A queryset of VMs whose :func:`config_of` needs no further query."""
    disks = Disk.objects.select_related("volume__storage", "storage")
    return vms.select_related("node", "pool").prefetch_related(Prefetch("disks", disks), "nics")


def drive_text(disk: Disk) -> str:
    """A Disk row as PVE writes it."""
    rest = dict(disk.options)
    if disk.media == "cdrom":
        rest["media"] = "cdrom"
    detached = disk.slot.startswith("unused")  # its value is the volume alone
    if disk.size and not detached and (disk.volume is not None or disk.source):
        rest["size"] = size_text(disk.size)
    return ",".join([disk.file, *(f"{key}={rest[key]}" for key in sorted(rest))])


def nic_text(nic: Nic) -> str:
    """A Nic row as PVE writes it."""
    rest = dict(nic.options)
    if nic.bridge:
        rest["bridge"] = nic.bridge
    if nic.tag:
        rest["tag"] = str(nic.tag)
    head = f"{nic.model}={nic.mac}" if nic.mac else nic.model
    return ",".join([head, *(f"{key}={rest[key]}" for key in sorted(rest))])


def digest_of(mapping: Mapping[str, str]) -> str:
    """SHA-1 of the configuration's text: equal digests, equal configurations."""
    text = "".join(f"{key}: {mapping[key]}\n" for key in sorted(mapping))
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def canonical(mapping: Mapping[str, str]) -> dict[str, str]:
    """Every value in the form it is stored in. Raises :class:`ConfigErrors` with one error per wrong key."""
    check_config(mapping)
    result = {}
    for key, text in mapping.items():
        part = part_of(key)
        result[key] = part.parse(text, key).format() if part is not None else text
    return result


def state_digest(vm: VM) -> str:
    """What a form is filled from, in one word: the configuration and what waits for the next start."""
    if not vm.pending:
        return vm.digest
    waiting = "".join(f"{key}: {vm.pending[key]}\n" for key in sorted(vm.pending))
    return hashlib.sha1(f"{vm.digest}\n{waiting}".encode(), usedforsecurity=False).hexdigest()


def check_saved(vm: VM, mapping: Mapping[str, str], *, new: bool = False) -> None:
    """Everything :func:`save_config` would refuse, without writing. Raises :class:`ConfigErrors`.

    ``new``: drives may ask for volumes that are still to be made (``local:32``).
    """
    _Split(vm, canonical(mapping), new=new)


def drives_of(vm: VM, mapping: Mapping[str, str]) -> list[Disk]:
    """The drives of ``mapping`` as rows that are not saved, wishes for new volumes among them."""
    drives = {key: text for key, text in mapping.items() if is_drive(key)}
    return _Split(vm, canonical(drives), new=True).disks


def save_config(vm: VM, mapping: Mapping[str, str], *, digest: str = "") -> dict[str, str]:
    """Make ``mapping`` the whole configuration of ``vm``; answers it as it is stored.

    Raises :class:`ConfigErrors` naming each wrong key, and :class:`StateError` when ``digest`` is given and
    somebody else has changed the configuration since. Nothing is written then.
    """
    wanted = canonical(kept_secret(mapping, vm.options))
    rows = _Split(vm, wanted)
    try:
        with transaction.atomic():
            current = VM.everything.select_for_update().get(pk=vm.pk)
            if digest and current.digest and current.digest != digest:
                raise StateError(
                    "The configuration was changed by somebody else meanwhile.",
                    hint="Reload the page and make your change again.",
                )
            for field in VM._meta.concrete_fields:
                setattr(vm, field.attname, getattr(current, field.attname))
            rows.write()
            saved.send(VM, vm=vm)
    except IntegrityError as error:
        raise ConfigErrors([rows.collision(error)]) from error
    for cached in ("disks", "nics"):
        vm.__dict__.get("_prefetched_objects_cache", {}).pop(cached, None)
    return _composed(vm, rows.disks, rows.nics)


class _Split:
    """One mapping, taken apart into rows; :meth:`write` stores them."""

    def __init__(self, vm: VM, mapping: Mapping[str, str], *, new: bool = False) -> None:
        self.vm = vm
        self.new = new or vm.stage != VM.Stage.DEFINED
        self.mapping = mapping
        self.errors: list[ConfigError] = []
        self.storages = {storage.name: storage for storage in Storage.objects.all()}
        self.volumes = self._volumes()
        self.disks = [self._disk(key, text) for key, text in mapping.items() if is_drive(key)]
        self.nics = [self._nic(key, text) for key, text in mapping.items() if slot_kind(key) == "net"]
        self._unique()
        if self.errors:
            raise ConfigErrors(self.errors)

    def _volumes(self) -> dict[str, Volume]:
        names = {
            text.split(",")[0].removeprefix("file=") for key, text in self.mapping.items() if is_drive(key)
        }
        wanted = [name.partition(":")[2] for name in names if ":" in name]
        rows = Volume.objects.select_related("storage").filter(name__in=wanted)
        here = [row for row in rows if row.node_id in (None, self.vm.node_id)]
        return {row.volid: row for row in here}

    def _disk(self, key: str, text: str) -> Disk:
        source, _, rest = text.partition(",")
        source = source.removeprefix("file=")
        options = dict(pair.split("=", 1) for pair in rest.split(",") if pair)
        disk = Disk(vm=self.vm, slot=key, media=options.pop("media", "disk"))
        size = options.pop("size", "")
        if size:
            disk.size = size_bytes(size)
        disk.options = options
        self._source(disk, key, source)
        return disk

    def _source(self, disk: Disk, key: str, source: str) -> None:
        new = NEW_DISK.fullmatch(source)
        name = source.partition(":")[0]
        if source in ("none", "cdrom"):
            disk.source = source
        elif source.startswith("/"):
            # A path is whatever QEMU's user can open: somebody else's disk, a file of the host.
            text = "a path of the host cannot be a drive; put the image on a storage and choose it there"
            self.errors.append(ConfigError(key, text, part="file"))
        elif name not in self.storages:
            known = ", ".join(sorted(self.storages)) or "none yet"
            self.errors.append(
                ConfigError(key, f"storage '{name}' does not exist; there are: {known}", part="file")
            )
        elif new is not None:
            disk.storage = self.storages[name]
            disk.size = round(float(new[2]) * GIB)
            self._made_by_task(key, source)
        elif NEW_SEED.fullmatch(source) is not None:
            disk.storage = self.storages[name]
            disk.source, disk.size = source, SEED_SIZE
            self._made_by_task(key, source)
            if disk.media != "cdrom":
                text = "the cloud-init drive is a CD drive; add media=cdrom"
                self.errors.append(ConfigError(key, text, part="media"))
        elif source in self.volumes:
            disk.volume = self.volumes[source]
            disk.storage = disk.volume.storage
            disk.size = disk.size or disk.volume.size or None
            self._content(disk, key)
            owner = disk.volume.vmid
            if owner is not None and owner != self.vm.vmid:
                self.errors.append(ConfigError(key, f"'{source}' belongs to VM {owner}", part="file"))
        else:
            self.errors.append(
                ConfigError(
                    key, f"there is no volume '{source}'; choose one from the storage's list", part="file"
                )
            )

    def _made_by_task(self, key: str, source: str) -> None:
        """Only a task allocates; without one the row would promise a disk that nobody makes."""
        if not self.new:
            text = f"'{source}' asks for a new disk, which is made by a task; name a volume that exists"
            self.errors.append(ConfigError(key, text, part="file"))

    def _content(self, disk: Disk, key: str) -> None:
        """An ISO is read only by construction: it goes into CD drives and nowhere else."""
        content = disk.volume.content if disk.volume is not None else ""
        if content == Volume.Content.IMPORT:
            text = "is an image to import, no disk; write STORAGE:0,import-from=VOLUME"
            self.errors.append(ConfigError(key, text, part="file"))
        if content == Volume.Content.BACKUP:
            self.errors.append(ConfigError(key, "is a backup, no disk; restore it", part="file"))
        if content == Volume.Content.ISO and disk.media != "cdrom":
            self.errors.append(
                ConfigError(key, "an ISO image goes into a CD drive; add media=cdrom", part="media")
            )

    def _nic(self, key: str, text: str) -> Nic:
        head, _, rest = text.partition(",")
        options = dict(pair.split("=", 1) for pair in rest.split(",") if pair)
        model, _, mac = head.removeprefix("model=").partition("=")
        mac = mac or options.pop("macaddr", "")
        tag = options.pop("tag", "")
        return Nic(
            vm=self.vm, slot=key, model=model, mac=mac.upper() or None, bridge=options.pop("bridge", ""),
            tag=int(tag) if tag else None, options=options,
        )  # fmt: skip

    def _unique(self) -> None:
        """One MAC, one volume: once in this VM and in all others."""
        seen: dict[str, str] = {}
        for slot, what in self._claims():
            if what in seen:
                self.errors.append(ConfigError(slot, f"{what} is already used by {seen[what]} of this VM"))
            seen[what] = slot
        macs = {nic.mac: nic.slot for nic in self.nics if nic.mac}
        for other in Nic.objects.filter(mac__in=macs).exclude(vm__vmid=self.vm.vmid).select_related("vm"):
            slot = macs[str(other.mac)]
            self.errors.append(
                ConfigError(
                    slot, f"{other.mac} is already used by {other.slot} of VM {other.vm.vmid}", part="macaddr"
                )
            )

    def _claims(self) -> Iterable[tuple[str, str]]:
        for nic in self.nics:
            if nic.mac:
                yield nic.slot, nic.mac
        for disk in self.disks:
            if disk.volume is not None and disk.volume.content == Volume.Content.IMAGES:
                yield disk.slot, disk.volume.volid

    def write(self) -> None:
        """Store the rows; rows that stay keep their identity."""
        values = {
            key: text for key, text in self.mapping.items() if not is_drive(key) and slot_kind(key) != "net"
        }
        vm = self.vm
        vm.name = values.pop("name", "")
        vm.tags = values.pop("tags", "")
        vm.ostype = values.pop("ostype", "")
        vm.template = values.pop("template", "0") == "1"
        cores, memory = values.pop("cores", None), values.pop("memory", None)
        vm.cores = int(cores) if cores else None
        vm.memory = int(memory.removeprefix("current=")) if memory else None
        vm.options = values
        vm.digest = digest_of(self.mapping)
        fields = ["name", "tags", "ostype", "template", "cores", "memory", "options", "digest", "modified"]
        vm.save(update_fields=fields)
        self._replace(Disk, self.disks, ["volume", "storage", "source", "size", "media", "options"])
        self._replace(Nic, self.nics, ["model", "mac", "bridge", "tag", "options"])

    def _replace(self, model: type[Disk] | type[Nic], rows: Iterable[Any], fields: list[str]) -> None:
        manager: Any = model.objects
        old = {row.slot: row for row in manager.filter(vm=self.vm)}
        gone = old.keys() - {row.slot for row in rows}
        if gone:
            manager.filter(pk__in=[old[slot].pk for slot in gone]).delete()
        columns = [field.attname for field in model._meta.concrete_fields if field.name in fields]
        changed = []
        for row in rows:
            before = old.get(row.slot)
            row.pk = before.pk if before is not None else None
            if before is None or any(getattr(row, name) != getattr(before, name) for name in columns):
                changed.append(row)
        kept = [row.pk for row in changed if row.pk is not None]
        if model is Nic and kept:
            # MACs may have changed places between slots: free them before they are taken again.
            manager.filter(pk__in=kept).update(mac=None)
        for row in changed:
            if row.pk is not None:
                row.save(force_update=True, update_fields=fields)
            else:
                row.save(force_insert=True)

    def collision(self, error: IntegrityError) -> ConfigError:
        """The sentence for a constraint that another writer's commit made us hit."""
        slot = self.nics[0].slot if self.nics and "mac" in str(error) else next(iter(self.mapping), "vmid")
        return ConfigError(slot, "was taken by another VM a moment ago; choose again")
