"""Rows in memory that no table holds, for starts of machines that are not, or not yet, what a row says.

They are read by :func:`vms.operations.start.bring_up` and never saved.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from vms.config.warmth import lean
from vms.models import VM, Disk, Nic, Storage, Volume
from vms.models.configuration import config_of, is_drive, size_bytes, slot_kind
from vms.storage import base as storage_base

Volumes = Mapping[str, tuple[Storage, storage_base.Volume]]
"""Drive → a volume and where it lies."""


def without_cards(vm: VM, mapping: Mapping[str, str] | None = None) -> VM:
    """The VM without its network cards. ``mapping``: the lean configuration, when it is at hand."""
    config = lean(config_of(vm)) if mapping is None else mapping
    twin = copy.copy(vm)
    twin.template = False
    twin.options = {key: text for key, text in vm.options.items() if key in config}
    if "boot" in config:
        twin.options["boot"] = config["boot"]
    _hold(twin, list(vm.disks.all()), [])
    return twin


def hidden(vm: VM, mapping: Mapping[str, str], overlays: Volumes) -> VM:
    """A template as the machine whose memory is saved: on overlays, without cards."""
    twin = without_cards(vm, mapping)
    _hold(twin, [_with_volume(vm, disk, overlays) for disk in vm.disks.all()], [])
    return twin


def as_clone(target: VM, mapping: Mapping[str, str], volumes: Mapping[str, Volume]) -> VM:
    """``target`` as its rows will be once ``mapping`` is written. ``volumes``: what is in each drive."""
    twin = copy.copy(target)
    rest = dict(mapping)
    drives = {key: rest.pop(key) for key in mapping if is_drive(key)}
    cards = {key: rest.pop(key) for key in mapping if slot_kind(key) == "net"}
    twin.name, twin.tags, twin.ostype = (rest.pop(key, "") for key in ("name", "tags", "ostype"))
    cores, memory = rest.pop("cores", None), rest.pop("memory", None)
    twin.cores = int(cores) if cores else None
    twin.memory = int(memory.removeprefix("current=")) if memory else None
    twin.options = rest
    disks = [_disk(target, key, text, volumes.get(key)) for key, text in drives.items()]
    _hold(twin, disks, [_card(target, key, text) for key, text in cards.items()])
    return twin


def _disk(vm: VM, slot: str, text: str, volume: Volume | None) -> Disk:
    source, *words = text.split(",")
    options = dict(word.split("=", 1) for word in words)
    media, size = options.pop("media", "disk"), options.pop("size", "")
    disk = Disk(vm=vm, slot=slot, media=media, options=options)
    if volume is None:
        disk.source = source.removeprefix("file=")
    else:
        disk.volume, disk.storage = volume, volume.storage
        disk.size = size_bytes(size) if size else volume.size or None
    return disk


def _card(vm: VM, slot: str, text: str) -> Nic:
    head, *words = text.split(",")
    model, _, mac = head.removeprefix("model=").partition("=")
    options = dict(word.split("=", 1) for word in words)
    bridge, tag = options.pop("bridge", ""), options.pop("tag", "")
    return Nic(
        vm=vm, slot=slot, model=model, mac=mac or None, bridge=bridge, tag=int(tag) if tag else None,
        options=options,
    )  # fmt: skip


def unsaved(vm: VM, storage: Storage, found: storage_base.Volume) -> Volume:
    """The row a volume will have that was just made for ``vm``."""
    return Volume(
        storage=storage, node=vm.node, name=found.volid.partition(":")[2], content=found.content,
        format=found.format, size=found.size, vmid=found.vmid,
    )  # fmt: skip


def _with_volume(vm: VM, disk: Disk, overlays: Volumes) -> Disk:
    """A drive with another volume in it, where there is one for it."""
    one = copy.copy(disk)
    if disk.slot in overlays:
        one.volume = unsaved(vm, *overlays[disk.slot])
        one.size = one.volume.size
        one.options = {key: text for key, text in disk.options.items() if key != "format"}
    return one


def _hold(vm: VM, disks: list[Disk], nics: list[Nic]) -> None:
    """Make these the VM's parts."""
    answered: dict[str, Any] = {
        "disks": _rows(Disk.objects.filter(vm=vm), disks), "nics": _rows(Nic.objects.filter(vm=vm), nics)
    }  # fmt: skip
    vm._prefetched_objects_cache = answered  # type: ignore[attr-defined]


def _rows(query: Any, rows: list[Any]) -> Any:
    """A query set that was answered already."""
    query._result_cache, query._prefetch_done = rows, True
    return query
