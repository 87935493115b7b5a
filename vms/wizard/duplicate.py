"""An existing machine as the beginning of a new one: its configuration, but nothing that is only its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vms import access
from vms.config.privileged import operators_only
from vms.config.vmconfig import parse_value
from vms.forms.editing import Texts
from vms.forms.hardware import compose, decompose
from vms.hardware import part_of
from vms.models import VM, Disk
from vms.models.configuration import DRIVE_KEYS, NEW_SEED, config_of, is_drive, slot_kind, with_parts
from vms.models.disk import GIB
from vms.operations import drafts
from vms.wizard.drafts import Draft

ITS_OWN = frozenset(
    (
        *("smbios1", "vmgenid", "meta", "template", "parent", "snaptime", "snapstate", "vmstate"),
        *("runningmachine", "runningcpu", "running-nets-host-mtu", "cipassword", "lock", "protection"),
    )
)
"""Keys that say who a machine is, what it did, or a secret: a copy has none of them."""
FORMATS = ("raw", "qcow2")


def duplicate(user: Any, source: VM) -> VM:
    """A draft of ``user`` with the configuration of ``source``. Its disks are new, empty and of the same
    size and place; discs stay in their drives; addresses and UUIDs are made anew. Raises :class:`VMError`."""
    pool = source.pool
    if pool is not None and not access.may(user, "VM.Allocate", f"/pool/{pool.name}"):
        pool = None
    vm = drafts.new_draft(user, source.node, pool=pool)
    if source.foreign:
        vm.foreign = source.foreign
        vm.save(update_fields=["foreign"])
    draft = Draft(vm, user)
    full = with_parts(VM.everything.filter(pk=source.pk)).get()
    draft.mapping.update(copied(full, draft))
    for key, text in draft.mapping.items():
        names = {f"{key}.{part}" for part in decompose(key, text)} if part_of(key) else {key}
        draft.touch(names | ({f"{key}.bus"} if is_drive(key) else set()))
    draft.touch({"tpm"})
    draft.stash["efi"] = "1" if "efidisk0" in draft.mapping else "0"
    draft.stash["tpm"] = "1" if "tpmstate0" in draft.mapping else "0"
    draft.stash["medium"] = "iso" if ":" in draft.mapping.get("ide2", "") else "none"
    if not any(slot_kind(key) == "net" for key in draft.mapping):
        draft.stash["no_net"] = "1"
    draft.store()
    return vm


def copied(source: VM, draft: Draft) -> Texts:
    """The configuration of ``source`` as its twin begins with it."""
    rows = {disk.slot: disk for disk in source.disks.all()}
    found: Texts = {}
    for key, text in config_of(source).items():
        barred = operators_only(key, text) and not draft.user.is_superuser
        if key in ITS_OWN or barred or slot_kind(key) == "unused":
            continue
        if key in rows:
            text = _drive(rows[key], text, draft)
        elif slot_kind(key) == "net":
            text = compose(key, {"macaddr": ""}, text)
        found[key] = text
    if found.get("name"):
        found["name"] = f"{found['name'][:58]}-copy"
    smbios = config_of(source).get("smbios1")
    if smbios:
        rest: Any = replace(parse_value("smbios1", smbios), uuid=None)
        found |= {"smbios1": rest.format()} if rest.format() else {}
    return found


def _drive(disk: Disk, text: str, draft: Draft) -> str:
    """A disc as it is; a disk as a wish for a new one."""
    if disk.volume is None or disk.volume.content == "iso":
        seed = NEW_SEED.fullmatch(disk.source)
        return f"{seed[0]},media=cdrom" if seed else text.partition(",size=")[0]
    volume = disk.volume
    places = [place.name for place in draft.offers.disk_places]
    store = volume.storage.name if volume.storage.name in places or not places else places[0]
    if disk.media == "cdrom":
        return f"{store}:cloudinit,media=cdrom"
    parts = {name: value for name, value in decompose(disk.slot, text).items() if name != "size"}
    small = disk.slot in DRIVE_KEYS
    size = 1 if small else max(disk.size or volume.size, 1 << 20) / GIB
    parts["file"] = f"{store}:{size:.3f}".rstrip("0").rstrip(".") if "." in f"{size:.3f}" else f"{store}:1"
    if disk.slot != "tpmstate0":
        parts["format"] = volume.format if volume.format in FORMATS else "qcow2"
    return compose(disk.slot, parts)
