"""Where a volume is: from ``storage:name`` to what QEMU opens. Pure; nothing is touched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vms.schema.types import VolumeId

_SUFFIXES = {"qcow2": "qcow2", "vmdk": "vmdk", "qed": "qed", "raw": "raw"}
_NETWORK = ("nfs", "cifs", "cephfs", "glusterfs")


class UnknownStorage(ValueError):
    """The volume's storage is not among the node's."""


@dataclass(frozen=True)
class VolumeSource:
    """What QEMU opens: the protocol ``driver`` with its ``filename`` (empty when the driver has none), the
    image ``format``, more options of the driver, and the storage's type."""

    driver: str
    filename: str
    format: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    storage_type: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keeps_snapshots_apart(self) -> bool:
        """Whether each snapshot is a volume of its own, one on top of the other.

        A logical volume holds a qcow2 image for no other reason.
        """
        if self.storage_type == "lvm":
            return self.format == "qcow2"
        return bool(self.options.get("snapshot-as-volume-chain"))


def resolve(volid: str, storages: Mapping[str, Mapping[str, Any]]) -> VolumeSource:
    """What stands behind a volume id or a path. Raises ``ValueError`` when it cannot be known."""
    if volid == "cdrom":
        return VolumeSource("host_cdrom", "/dev/cdrom", "raw")
    if volid.startswith("/"):
        driver = "host_device" if volid.startswith("/dev/") else "file"
        return VolumeSource(driver, volid, image_format(volid))
    found = VolumeId.parse(volid)
    storage = storages.get(found.storage)
    if storage is None:
        raise UnknownStorage(f"there is no storage '{found.storage}' on this node")
    return _on_storage(found, storage)


def image_format(name: str) -> str:
    """The image format a file name's ending says; raw for every other name."""
    return _SUFFIXES.get(name.rpartition(".")[2].lower(), "raw") if "." in name else "raw"


def _on_storage(volume: VolumeId, storage: Mapping[str, Any]) -> VolumeSource:
    kind = str(storage.get("type", "dir"))
    leaf = volume.name.rpartition("/")[2]
    if kind in ("lvm", "lvmthin"):
        name = f"/dev/{storage.get('vgname') or storage['vg']}/{leaf}"
        return VolumeSource("host_device", name, image_format(leaf), {}, kind, storage)
    if kind == "zfspool":
        name = f"/dev/zvol/{storage['pool']}/{leaf}"
        return VolumeSource("host_device", name, "raw", {}, kind, storage)
    if kind == "rbd":
        return _rbd(leaf, storage)
    if kind in ("iscsi", "iscsidirect", "zfs"):
        return _iscsi(kind, leaf, storage)
    if kind == "dir" or "path" in storage or kind in _NETWORK:
        return VolumeSource("file", _path(volume, storage), _file_format(volume), {}, kind, storage)
    raise ValueError(f"storages of type '{kind}' are not supported")


def _rbd(name: str, storage: Mapping[str, Any]) -> VolumeSource:
    """An image of a Ceph cluster. ``monitors`` (``host:port``, with neither ``conf`` nor a ``keyring``)
    describe one without authentication; ``fsid`` is the cluster's own number."""
    pool = str(storage["pool"])
    if storage.get("krbd"):
        root = f"/dev/rbd-pve/{storage['fsid']}" if storage.get("fsid") else "/dev/rbd"
        space = f"{storage['namespace']}/" if storage.get("namespace") else ""
        return VolumeSource("host_device", f"{root}/{pool}/{space}{name}", "raw", {}, "rbd", storage)
    extra: dict[str, Any] = {"pool": pool, "image": name}
    for key in ("conf", "user", "server", "auth-client-required", "namespace"):
        if key in storage:
            extra[key] = storage[key]
    if "username" in storage:
        extra.setdefault("user", storage["username"])
    if storage.get("monitors"):
        places = (str(monitor).rpartition(":") for monitor in storage["monitors"])
        extra["server"] = [{"host": host.strip("[]"), "port": port} for host, _, port in places]
        if not storage.get("keyring") and not storage.get("conf"):
            extra["auth-client-required"] = ["none"]
    return VolumeSource("rbd", "", "raw", extra, "rbd", storage)


def _iscsi(kind: str, name: str, storage: Mapping[str, Any]) -> VolumeSource:
    """A logical unit of an iSCSI target: one the kernel shows as a disk (``iscsi``), one QEMU reaches by
    itself (``iscsidirect``), or a ZFS volume another host offers that way (``zfs``; its ``luns`` map a
    volume to its number)."""
    if kind == "iscsi":
        # 'channel.id.lun.name': the last part is the disk's name under /dev/disk/by-id.
        disk = name.split(".", 3)[-1]
        return VolumeSource("host_device", f"/dev/disk/by-id/{disk}", "raw", {}, kind, storage)
    number = re.fullmatch(r"lun(\d{1,4})", name) if kind == "iscsidirect" else None
    lun = int(number[1]) if number else int(storage.get("luns", {}).get(name, 0))
    extra: dict[str, Any] = {"transport": "tcp", "portal": str(storage["portal"])}
    extra |= {"target": str(storage["target"]), "lun": lun}
    if storage.get("initiator"):
        extra["initiator-name"] = str(storage["initiator"])
    return VolumeSource("iscsi", "", "raw", extra, kind, storage)


def _path(volume: VolumeId, storage: Mapping[str, Any]) -> str:
    """A file on a directory storage. The last two parts of a linked clone's name are its own file."""
    root = str(storage.get("path") or f"/mnt/pve/{volume.storage}").rstrip("/")
    head, _, rest = volume.name.partition("/")
    if head == "iso":
        return f"{root}/template/iso/{rest}"
    if head in ("snippets", "import"):
        return f"{root}/{head}/{rest}"
    pieces = volume.name.split("/")
    place = f"{root}/images/{'/'.join(pieces[-2:])}"
    # On Btrfs a raw volume is a subvolume, so that it can have snapshots, with the file inside; where it is a
    # ``plain`` file its snapshots are files beside it.
    own = storage.get("type") == "btrfs" and place.endswith(".raw") and not storage.get("plain")
    return f"{place.removesuffix('.raw')}/disk.raw" if own else place


def _file_format(volume: VolumeId) -> str:
    return "raw" if volume.name.startswith("iso/") else image_format(volume.name)
