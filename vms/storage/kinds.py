"""The kinds of storages, each said once: what it needs, what may lie there, and its driver.

Forms, the admin, ``pvesm`` and :func:`vms.storage.open_storage` all read :data:`KINDS`. The options carry the
names of Proxmox VE's ``storage.cfg``. A new kind is one more entry here (docs/add-a-storage.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from vms.config import retention
from vms.errors import ConfigError, ConfigErrors
from vms.schema.option import opt, option_table, options_of
from vms.storage.base import DiskFormat, Storage
from vms.storage.directory import DirectoryStorage
from vms.storage.lvmthin import LvmThinStorage
from vms.storage.mounted import MountedStorage
from vms.storage.rbd import RbdStorage
from vms.storage.sharing import SharingStorage
from vms.storage.zfs import ZfsStorage

Facts: TypeAlias = Mapping[str, Any]
FILES = ("images", "iso", "import", "snippets", "backup")
DISKS = ("images",)
RAW: tuple[DiskFormat, ...] = ("raw",)
CEPH_CONF = "/etc/ceph/ceph.conf"
_WORD = r"[A-Za-z0-9][A-Za-z0-9+_.-]*"


def absolute(text: str) -> str:
    """An absolute path of one spelling. Raises ``ValueError``."""
    if not text.startswith("/") or "/../" in f"{text}/" or "//" in text or "/./" in f"{text}/":
        raise ValueError("is no absolute path without '..', for example /srv/images")
    return text.rstrip("/") or "/"


def _retention() -> Any:
    """What every kind that holds backups can say of them."""
    return opt(
        "Backup retention", key=retention.KEY, check=retention.canonical, max_length=200, advanced=True,
        placeholder="keep-last=3,keep-daily=7",
        help="What stays of each VM's backups here when neither a job nor a command says so; empty: all.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DirOptions:
    """A folder."""

    path: str = opt(
        "Directory", required=True, check=absolute, max_length=500, placeholder="/srv/images",
        help="The folder the volumes lie in, the same on every node. It is made when its parent exists.",
    )  # fmt: skip
    prune_backups: str | None = _retention()


@dataclass(frozen=True, kw_only=True)
class MountedOptions:
    """A folder on something mounted."""

    path: str = opt(
        "Mounted path", required=True, check=absolute, max_length=500, placeholder="/mnt/nas",
        help="A folder on a file system that you have mounted: NFS, CIFS, a second disk.",
        otherwise="While nothing is mounted there the storage is out of use and nothing is written below.",
    )  # fmt: skip
    is_mountpoint: str | None = opt(
        "Mount point", check=absolute, max_length=500, advanced=True,
        help="Where it is mounted, when the path above is a folder on it; empty: the path itself.",
    )  # fmt: skip
    prune_backups: str | None = _retention()


@dataclass(frozen=True, kw_only=True)
class SharingOptions:
    """A folder on a file system that shares blocks."""

    path: str = opt(
        "Directory", required=True, check=absolute, max_length=500, placeholder="/srv/images",
        help="A folder on BTRFS, or on XFS made with reflink.",
        why="Full clones take a moment and no room there, and raw disks have snapshots.",
    )  # fmt: skip
    prune_backups: str | None = _retention()


@dataclass(frozen=True, kw_only=True)
class LvmThinOptions:
    """A thin pool."""

    vgname: str = opt(
        "Volume group", required=True, pattern=_WORD, pattern_text="a name LVM takes", max_length=127,
        placeholder="pve", help="The volume group the pool is in.",
    )  # fmt: skip
    thinpool: str = opt(
        "Thin pool", required=True, pattern=_WORD, pattern_text="a name LVM takes", max_length=127,
        placeholder="data", help="The thin pool that holds the disks. It exists already.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ZfsOptions:
    """A data set."""

    pool: str = opt(
        "ZFS pool", required=True, pattern=rf"{_WORD}(/{_WORD})*", pattern_text="a pool or data set",
        max_length=200, placeholder="rpool/data", help="The pool, or a data set of one, for the disks.",
    )  # fmt: skip
    blocksize: str | None = opt(
        "Block size", pattern=r"(4|8|16|32|64|128)[kK]", pattern_text="a power of two from 4k to 128k",
        max_length=4, placeholder="16k", advanced=True, help="Of new disks; empty: what ZFS thinks best.",
    )  # fmt: skip
    sparse: bool | None = opt(
        "Thin provisioning", default=True,
        help="A new disk takes room as it is written.",
        otherwise="Each disk takes its whole size at once, and can always be filled.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RbdOptions:
    """A Ceph pool."""

    pool: str = opt(
        "Pool", required=True, pattern=_WORD, pattern_text="a pool's name", max_length=100,
        placeholder="rbd", help="The pool of the cluster that holds the disks.",
    )  # fmt: skip
    username: str | None = opt(
        "User name", default="admin", pattern=_WORD, pattern_text="a user of the cluster", max_length=100,
        help="As whom the cluster is asked; its keyring lies where the configuration file says.",
    )  # fmt: skip
    namespace: str | None = opt(
        "Namespace", pattern=_WORD, pattern_text="a namespace's name", max_length=100, advanced=True,
        help="Of the pool, when it has some.",
    )  # fmt: skip
    conf: str | None = opt(
        "Configuration file", default=CEPH_CONF, check=absolute, max_length=300, advanced=True,
        help="The cluster's ceph.conf. QEMU's user has to be able to read it, and the keyring it names.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StorageKind:
    """One kind. ``options`` is a dataclass of ``opt()`` fields, ``contents`` what may lie there."""

    name: str
    label: str
    about: str
    options: type
    contents: tuple[str, ...]
    make: Callable[[str, Facts, str | None], Storage]
    formats: tuple[DiskFormat, ...] = ("qcow2", "raw")
    """What a disk can be there, the best first."""
    always: Mapping[str, Any] = field(default_factory=dict)
    """Facts that hold for each of them unless its options say otherwise."""
    shared: bool = False
    """Whether every node sees the same volumes as a rule."""

    @property
    def files(self) -> bool:
        """Whether volumes are plain files: only then ISO images and saved memory lie there."""
        return self.contents == FILES

    def read(self, given: Mapping[str, str]) -> dict[str, Any]:
        """The checked options, by PVE's names. Raises :class:`ConfigErrors`, one per wrong or unknown key."""
        table = option_table(self.options)
        found: dict[str, Any] = {}
        errors: list[ConfigError] = []
        for key, text in given.items():
            option = table.get(key)
            if option is None:
                errors.append(ConfigError(key, f"is no option of a storage of kind '{self.name}'"))
                continue
            try:
                found[option.name] = option.parse(text, key)
            except ConfigError as error:
                errors.append(error)
        errors += [
            ConfigError(option.name, "is missing")
            for option in options_of(self.options)
            if option.required and option.name not in given
        ]
        if errors:
            raise ConfigErrors(errors)
        return found


def _mounted(name: str, facts: Facts, user: str | None) -> Storage:
    point = str(facts.get("is_mountpoint") or "")
    return MountedStorage(name, str(facts["path"]), mount_point=point, user=user)


def _lvmthin(name: str, facts: Facts, user: str | None) -> Storage:
    return LvmThinStorage(name, str(facts["vgname"]), str(facts["thinpool"]), user=user)


def _zfs(name: str, facts: Facts, user: str | None) -> Storage:
    sparse = facts.get("sparse") in (None, True, 1, "1")
    return ZfsStorage(
        name, str(facts["pool"]), blocksize=str(facts.get("blocksize") or ""), sparse=sparse, user=user
    )


def _rbd(name: str, facts: Facts, user: str | None) -> Storage:
    return RbdStorage(
        name, str(facts["pool"]), username=str(facts.get("username") or "admin"),
        conf=str(facts.get("conf") or CEPH_CONF), namespace=str(facts.get("namespace") or ""),
        user=user,
    )  # fmt: skip


KINDS: Mapping[str, StorageKind] = {
    kind.name: kind
    for kind in (
        StorageKind(
            name="dir", label="Directory", options=DirOptions, contents=FILES,
            about="A folder of this machine. Holds everything.",
            make=lambda name, facts, user: DirectoryStorage(name, str(facts["path"]), user=user),
        ),
        StorageKind(
            name="nfs", label="NFS or another mounted path", options=MountedOptions, contents=FILES,
            about="A folder on a file system that is mounted; out of use while it is not.",
            make=_mounted, shared=True,
        ),
        StorageKind(
            name="btrfs", label="BTRFS, or XFS with reflink", options=SharingOptions, contents=FILES,
            about="A folder whose file system shares blocks: instant full clones, snapshots of raw disks.",
            make=lambda name, facts, user: SharingStorage(name, str(facts["path"]), user=user),
            always={"plain": True},  # a raw disk is a plain file, not a subvolume as in PVE
        ),
        StorageKind(
            name="lvmthin", label="LVM-thin", options=LvmThinOptions, contents=DISKS, formats=RAW,
            about="Thin logical volumes: raw disks with snapshots and linked clones.", make=_lvmthin,
        ),
        StorageKind(
            name="zfspool", label="ZFS", options=ZfsOptions, contents=DISKS, formats=RAW,
            about="ZFS volumes: raw disks with snapshots and linked clones.", make=_zfs,
        ),
        StorageKind(
            name="rbd", label="RBD (Ceph)", options=RbdOptions, contents=DISKS, formats=RAW,
            about="Images of a Ceph cluster, the same from every node.", make=_rbd, shared=True,
            always={"username": "admin", "conf": CEPH_CONF},
        ),
    )
}  # fmt: skip
"""PVE's type → the kind."""
