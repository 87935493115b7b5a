"""What files on a directory storage are called, and which files are no volumes at all.

A linked clone's volume name is two file names, its base's and its own, as in Proxmox VE::

    900/base-900-disk-0.qcow2/101/vm-101-disk-0.qcow2       file images/101/vm-101-disk-0.qcow2

A backup says whose it is and when it was begun, in UTC, so that it means the same on every node::

    backup/vzdump-qemu-101-2026_11_27-02_00_00.tar.zst      file dump/vzdump-qemu-101-…

What lies on a storage of block devices has no folder and no ending: ``vm-101-disk-0``,
``base-900-disk-0/vm-101-disk-0``.
"""

from __future__ import annotations

import os
import re
import stat
from datetime import UTC, datetime

_VMID = r"[1-9][0-9]{2,8}"
_BASE = rf"(?P<lower>(?P<lowerid>{_VMID})/base-(?P=lowerid)-disk-[0-9]{{1,4}}\.(?:qcow2|raw))"

DISK_NAME = re.compile(
    rf"(?:{_BASE}/)?(?P<vmid>{_VMID})/(?P<kind>vm|base)-(?P=vmid)-disk-(?P<number>[0-9]{{1,4}})"
    r"\.(?P<fmt>qcow2|raw)"
)
BASE_NAME = re.compile(_BASE)
SEED_NAME = re.compile(rf"(?P<vmid>{_VMID})/vm-(?P=vmid)-cloudinit\.(?P<fmt>qcow2|raw)")
STATE_NAME = re.compile(
    rf"(?P<vmid>{_VMID})/vm-(?P=vmid)-state-(?P<state>[A-Za-z][A-Za-z0-9_-]{{1,59}}(?:\.tpm)?)\.raw"
)
BLOCK_DISK = re.compile(
    rf"(?:(?P<lower>base-(?P<lowerid>{_VMID})-disk-[0-9]{{1,4}})/)?"
    rf"(?P<kind>vm|base)-(?P<vmid>{_VMID})-disk-(?P<number>[0-9]{{1,4}})"
)
BLOCK_SEED = re.compile(rf"vm-(?P<vmid>{_VMID})-cloudinit")
IMPORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.(qcow2|raw|img|vmdk)", re.IGNORECASE)
ISO_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.[iI][sS][oO]")
ISO_NAME_LENGTH = 120
IMPORT_SUFFIXES = (".qcow2", ".raw", ".img", ".vmdk")
BACKUP_NAME = re.compile(
    rf"vzdump-qemu-(?P<vmid>{_VMID})-(?P<begun>[0-9]{{4}}_[0-9]{{2}}_[0-9]{{2}}-[0-9]{{2}}_[0-9]{{2}}_[0-9]{{2}})"
    r"\.(?P<fmt>tar\.zst|tar)"
)
_BEGUN = "%Y_%m_%d-%H_%M_%S"
NOTES, PROTECTED, LOG = ".notes", ".protected", ".log"
"""Added to an archive's file name for what stands beside it: UTF-8 text, an empty file, its task's log."""
SIDECARS = (NOTES, PROTECTED, LOG)


def is_iso_name(name: str) -> bool:
    """Whether an ISO may be called so: plain ASCII, no folder, no hidden file, at most 120 characters."""
    return len(name) <= ISO_NAME_LENGTH and ISO_NAME.fullmatch(name) is not None


def is_import_name(name: str) -> bool:
    """Whether an image to import may be called so, by the same rules; its ending says what it is."""
    return len(name) <= ISO_NAME_LENGTH and IMPORT_NAME.fullmatch(name) is not None


def backup_name(vmid: int, begun: datetime, *, packed: bool = True) -> str:
    """What the archive of a backup of VM ``vmid`` begun at ``begun`` is called; ``packed``: by zstd."""
    ending = "tar.zst" if packed else "tar"
    return f"vzdump-qemu-{vmid}-{begun.astimezone(UTC).strftime(_BEGUN)}.{ending}"


def backup_begun(name: str) -> tuple[int, datetime] | None:
    """Whose backup a file so called is, and when it was begun; ``None`` for another name or no such time."""
    found = BACKUP_NAME.fullmatch(name)
    if found is None:
        return None
    try:
        return int(found["vmid"]), datetime.strptime(found["begun"], _BEGUN).replace(tzinfo=UTC)
    except ValueError:
        return None


def backup_part(name: str) -> str:
    """What an archive is called while it is being written, in the same folder."""
    return f".{name}.part"


def is_backup_part(name: str) -> bool:
    """Whether a file so called is an archive that is being written, or was left over."""
    return name.startswith(".") and name.endswith(".part") and backup_begun(name[1:-5]) is not None


def image_name(name: str) -> re.Match[str] | None:
    """What a VM's volume is called, a disk, a base, a seed or a saved memory; ``None`` for another name."""
    found = DISK_NAME.fullmatch(name)
    if found and found["lower"] and found["fmt"] != "qcow2":
        return None  # only qcow2 can lie on something
    return found or SEED_NAME.fullmatch(name) or STATE_NAME.fullmatch(name)


def is_base(name: str) -> bool:
    """Whether a volume so called is a base: read-only, and clones may lie on it."""
    found = disk_name(name)
    return found is not None and found["kind"] == "base"


def disk_name(name: str) -> re.Match[str] | None:
    """What a disk or base is called, a file or a block device; ``None`` for another name."""
    return DISK_NAME.fullmatch(name) or BLOCK_DISK.fullmatch(name)


def is_seed(name: str) -> bool:
    """Whether a volume so called is a cloud-init drive's."""
    return bool(SEED_NAME.fullmatch(name) or BLOCK_SEED.fullmatch(name))


def base_below(backing: str) -> str:
    """The base's own two name parts when an image's ``backing`` is one of ours, else nothing.

    Only the spelling :meth:`DirectoryStorage.clone` writes counts: ``../900/base-900-disk-0.qcow2``.
    """
    name = backing.removeprefix("../")
    return name if name != backing and BASE_NAME.fullmatch(name) else ""


def oddity(found: os.stat_result) -> str:
    """What makes a file unfit to be a volume, or nothing."""
    if stat.S_ISLNK(found.st_mode):
        return "a symbolic link"
    if not stat.S_ISREG(found.st_mode):
        return "no plain file"
    if found.st_nlink > 1:
        return "a file with several names (hard links)"
    return ""


def gib(size: int) -> str:
    """Bytes as GiB for people: ``32``, ``0.5``, ``1000000000``."""
    return f"{size / (1 << 30):.2f}".rstrip("0").rstrip(".")
