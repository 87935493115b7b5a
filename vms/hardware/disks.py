"""The front end of a drive: what the guest sees, and the controllers it hangs on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from vms.errors import ConfigError
from vms.hardware.block import Graph
from vms.hardware.drive import Drive
from vms.hardware.parts import Device, Object, Part
from vms.hardware.plan import Plan

_PER_CONTROLLER = {"lsi": 7, "lsi53c810": 7}
_BY_LUN = ("megasas", "virtio-scsi-pci", "virtio-scsi-single")
_ANSWERED_BY_QEMU = {"write-cache", "serial", "wwn"}
"""What the guest reads from the real disk itself when its commands are handed on."""
_HARD_DISK = {"rotation_rate", "rerror", "werror"}
_Q35_IDE = {0: 0, 1: 2, 2: 1, 3: 3}


def objects(plan: Plan) -> Iterator[Part]:
    """Threads and throttle groups of every drive; they must exist before what uses them."""
    graph = Graph(plan)
    for key, _, drive in plan.config.drives():
        thread = io_thread(plan, key, drive)
        if thread:
            yield Object(key, "iothread", {"id": thread})
        if plan.node_graphs and not drive.is_empty:
            yield graph.throttle(key, drive)


def io_thread(plan: Plan, key: str, drive: Drive) -> str | None:
    """The name of a drive's own thread, where its bus can use one."""
    if not getattr(drive, "iothread", None):
        return None
    if drive.bus == "virtio":
        return f"iothread-{key}"
    single = drive.bus == "scsi" and plan.config.value("scsihw") == "virtio-scsi-single"
    return f"iothread-{key.replace('scsi', 'virtioscsi')}" if single else None


def drives(plan: Plan) -> Iterator[Part]:
    """Every drive: its controller on first use, its back end, its device."""
    graph, seen = Graph(plan), set[str]()
    for key, index, drive in plan.config.drives():
        for controller in _controllers(plan, key, index, drive):
            if str(controller.options["id"]) not in seen:
                seen.add(str(controller.options["id"]))
                yield controller
        yield from graph.back_end(key, drive)
        yield front_end(plan, key, index, drive)


def _controllers(plan: Plan, key: str, index: int, drive: Drive) -> Iterator[Device]:
    if drive.bus == "sata":
        yield Device(key, "ahci", {"id": "ahci0", "multifunction": True, **plan.pci("ahci0")})
    if drive.bus != "scsi":
        return
    kind = plan.config.value("scsihw")
    name, _ = scsi_place(kind, index)
    options: dict[str, Any] = {"id": name, **plan.pci(name)}
    if kind == "virtio-scsi-single":
        thread = io_thread(plan, key, drive)
        options |= {"iothread": thread} if thread else {}
        queues = getattr(drive, "queues", None)
        options |= {"num_queues": queues} if queues else {}
    yield Device(key, "virtio-scsi-pci" if kind.startswith("virtio-scsi") else kind, options)


def scsi_place(kind: str, index: int) -> tuple[str, dict[str, int]]:
    """The controller of ``scsi<index>`` and the disk's address on it."""
    if kind == "virtio-scsi-single":
        name, number = f"virtioscsi{index}", index
    else:
        size = _PER_CONTROLLER.get(kind, 256)
        name, number = f"scsihw{index // size}", index % size
    if kind in _BY_LUN:
        return name, {"channel": 0, "scsi-id": 0, "lun": number}
    return name, {"scsi-id": number}


def front_end(plan: Plan, key: str, index: int, drive: Drive) -> Device:
    """The device of one drive."""
    options: dict[str, Any] = {"id": key, **plan.booting(key)}
    if not drive.is_empty or not plan.node_graphs:
        options["drive"] = f"drive-{key}"
    disk = not drive.is_cdrom
    # An IDE hard disk cannot be read-only, so a template's disks appear as CDs.
    as_disc = not disk or (plan.template and drive.bus in ("ide", "sata"))
    if disk and plan.node_graphs:
        options["write-cache"] = "off" if drive.cache in ("writethrough", "directsync") else "on"
    options |= _identity(plan, drive, not as_disc)
    if drive.bus == "virtio":
        options |= plan.pci(key)
        thread = io_thread(plan, key, drive)
        options |= {"iothread": thread} if thread else {}
        return Device(key, "virtio-blk-pci", options)
    if drive.bus == "scsi":
        return _scsi(plan, key, index, drive, options)
    if drive.bus == "sata":
        options["bus"] = f"ahci0.{index}"
    else:
        unit = {"bus": f"ide.{_Q35_IDE[index]}", "unit": 0} if plan.q35 else None
        options |= unit or {"bus": f"ide.{index // 2}", "unit": index % 2}
    return Device(key, "ide-cd" if as_disc else "ide-hd", options)


def _identity(plan: Plan, drive: Drive, disk: bool) -> dict[str, Any]:
    """Names and numbers the guest reads from the drive, and its behaviour on errors."""
    found: dict[str, Any] = {}
    if drive.serial:
        found["serial"] = unquote(drive.serial)
    model = getattr(drive, "model", None)
    if model and disk:
        found["model"] = unquote(model)
    if getattr(drive, "ssd", None) and disk:
        found["rotation_rate"] = 1
    wwn = getattr(drive, "wwn", None)
    if wwn:
        found["wwn"] = int(wwn, 16)
    if plan.node_graphs:
        for name in ("rerror", "werror"):
            if getattr(drive, name):
                found[name] = getattr(drive, name)
    return found


def _passed_through(plan: Plan, drive: Drive) -> str:
    """The device that hands SCSI commands on as they are; empty when QEMU answers them itself."""
    if drive.is_cdrom:
        return ""
    if getattr(drive, "scsiblock", None) and drive.file in plan.facts.scsi_devices:
        return "scsi-block"
    storage = plan.facts.storages.get(drive.file.partition(":")[0], {})
    return "scsi-generic" if storage.get("type") == "iscsidirect" else ""


def _scsi(plan: Plan, key: str, index: int, drive: Drive, options: dict[str, Any]) -> Device:
    if index > 13 and not plan.machine_at_least(4, 1, 2):
        raise ConfigError(key, "more than 14 SCSI disks need machine version 4.1+pve2 or newer")
    name, place = scsi_place(plan.config.value("scsihw"), index)
    options |= {"bus": f"{name}.0", **place}
    if passed_through := _passed_through(plan, drive):
        refused = _ANSWERED_BY_QEMU | (_HARD_DISK if passed_through == "scsi-generic" else set())
        return Device(key, passed_through, {k: v for k, v in options.items() if k not in refused})
    if plan.node_graphs:
        options["device_id"] = f"drive-{key}"
    for name in ("vendor", "product"):
        text = getattr(drive, name, None)
        if text:
            options[name] = text
    return Device(key, "scsi-cd" if drive.is_cdrom else "scsi-hd", options)
