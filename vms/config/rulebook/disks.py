"""Disks: caches that lose data, options without effect, room, places, files QEMU cannot open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vms.config.finding import GIB, Case, Finding, is_new
from vms.hardware.drive import Drive
from vms.hardware.volume import image_format
from vms.schema.types import VolumeId

_CACHED = ("writeback", "writethrough", "unsafe")
_FILES = ("dir", "nfs", "cifs", "cephfs", "glusterfs")
_SPARSE_NEVER = ("lvm",)
"""Storages that cannot give back what a guest discards."""


def storage_type(case: Case, drive: Drive) -> str:
    """The type of the storage a drive's volume is on; empty when that is not known."""
    try:
        name = VolumeId.parse(drive.file).storage
    except ValueError:
        return ""
    return str(case.facts.storages.get(name, {}).get("type", ""))


def cache(case: Case) -> Iterator[Finding]:
    """R15, R16: what a power cut does to a cached disk."""
    for key, _, drive in case.config.drives():
        fix = {key: replace(drive, cache=None).format()}
        if drive.cache == "unsafe":
            text = f"{key}: 'unsafe' loses data for certain when the power fails or QEMU crashes."
            yield Finding("R15", "warn", (key,), text, fix)
        elif drive.cache == "writeback" and not case.facts.power_backup and not drive.is_cdrom:
            text = f"{key}: a power cut can lose the last seconds the guest believes are safe."
            yield Finding("R16", "info", (key,), text, fix)


def async_io(case: Case) -> Iterator[Finding]:
    """R17: pairs of cache and asynchronous reads that QEMU or the kernel refuses."""
    for key, _, drive in case.config.drives():
        fix = {key: replace(drive, aio=None).format()}
        if drive.aio == "native" and (drive.cache in _CACHED or (drive.is_cdrom and drive.cache is None)):
            text = f"{key}: 'native' works only without the node's cache; QEMU refuses this pair."
            yield Finding("R17", "block", (key,), text, fix)
        if drive.aio == "io_uring" and not case.facts.aio_io_uring:
            yield Finding("R17", "block", (key,), f"{key}: this node's kernel does not allow io_uring.", fix)


def io_thread(case: Case) -> Iterator[Finding]:
    """R18: only VirtIO Block and a SCSI controller of its own give a disk a thread."""
    single = case.config.value("scsihw") == "virtio-scsi-single"
    for key, _, drive in case.config.drives():
        if getattr(drive, "iothread", None) and drive.bus == "scsi" and not single:
            text = f"{key}: an IO thread needs the controller 'VirtIO SCSI single'; here it has no effect."
            yield Finding("R18", "warn", (key, "scsihw"), text, {"scsihw": "virtio-scsi-single"})


def discard(case: Case) -> Iterator[Finding]:
    """R19: discard where nothing takes it."""
    for key, _, drive in case.config.drives():
        if drive.discard != "on":
            continue
        why = "a CD drive is never written to" if drive.is_cdrom else ""
        if storage_type(case, drive) in _SPARSE_NEVER:
            why = "its storage gives no space back"
        if why:
            fix = {key: replace(drive, discard=None).format()}
            yield Finding("R19", "info", (key,), f"{key}: discard has no effect, {why}.", fix)


def no_snapshots(case: Case) -> Iterator[Finding]:
    """R20: a raw image on a directory cannot be part of a snapshot."""
    for key, _, drive in case.config.drives():
        if drive.is_cdrom or drive.is_empty or storage_type(case, drive) not in _FILES:
            continue
        chosen = drive.image_format or ("" if is_new(drive) else image_format(drive.file))
        if chosen == "raw":
            text = f"{key}: a raw image on a directory storage has no snapshots; qcow2 has."
            fix = {key: replace(drive, image_format="qcow2").format()} if is_new(drive) else None
            yield Finding("R20", "info", (key,), text, fix)


def space(case: Case) -> Iterator[Finding]:
    """R21: disks to be made have to fit. ``storages`` may carry ``free`` in bytes."""
    wanted: dict[str, list[tuple[str, float]]] = {}
    for key, _, drive in case.config.drives():
        if is_new(drive):
            name, _, amount = drive.file.partition(":")
            wanted.setdefault(name, []).append((key, float(amount) * GIB))
    for name, disks in wanted.items():
        free = case.facts.storages.get(name, {}).get("free")
        total, largest = sum(size for _, size in disks), max(size for _, size in disks)
        if free is None or total <= free:
            continue
        # Disks grow as they are written: together they may promise more than there is, one alone may not.
        severity = "warn" if largest <= free else "block"
        text = f"Storage '{name}' has {free / GIB:.1f} GiB free, the new disks want {total / GIB:.1f} GiB."
        keys = tuple(key for key, _ in disks)
        yield Finding("R21", "warn" if severity == "warn" else "block", keys, text)


def places(case: Case) -> Iterator[Finding]:
    """R22: the second disk of an IDE pair is a stranger to a q35 board."""
    odd = [key for key, _, _ in case.config.slots("ide") if key in ("ide1", "ide3")] if case.q35 else []
    if not odd:
        return
    free = [f"sata{number}" for number in range(6) if f"sata{number}" not in case.config]
    text = f"{', '.join(odd)}: on q35 use ide0, ide2 or SATA; some systems do not see these."
    yield Finding("R22", "warn", tuple(odd), text, _moved(case, dict(zip(odd, free, strict=False)), odd))


def _moved(case: Case, moves: dict[str, str], wanted: list[str]) -> dict[str, str | None] | None:
    """The change that plugs IDE drives in as SATA ones; ``None`` when there is no room."""
    if len(moves) < len(wanted):
        return None
    fix: dict[str, str | None] = {}
    for old, new in moves.items():
        words = [word for word in case.config.mapping[old].split(",") if not word.startswith("model=")]
        fix |= {old: None, new: ",".join(words)}
    order = case.config.get("boot")
    if order is not None and order.order is not None:
        fix["boot"] = replace(order, order=";".join(moves.get(key, key) for key in order.devices)).format()
    return fix


def readable(case: Case) -> Iterator[Finding]:
    """R35: QEMU runs as a user of its own, who has to be able to open every file."""
    held = [(key, drive.file) for key, _, drive in case.config.drives()]
    held += [(key, case.config.get(key).file) for key in ("efidisk0", "tpmstate0") if key in case.config]
    for key, volume in held:
        why = case.facts.unreadable.get(volume)
        if why:
            user = case.facts.qemu_user or "QEMU"
            text = f"{key}: {user} cannot open {volume}: {why}."
            yield Finding("R35", "block", (key,), text)
