"""What files on a directory storage are called, and which files are no volumes at all.

A linked clone's volume name is two file names, its base's and its own, as in Proxmox VE::

    900/base-900-disk-0.qcow2/101/vm-101-disk-0.qcow2       file images/101/vm-101-disk-0.qcow2
"""

from __future__ import annotations

import os
import re
import stat

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
IMPORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.(qcow2|raw|img|vmdk)", re.IGNORECASE)
ISO_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.[iI][sS][oO]")
ISO_NAME_LENGTH = 120
IMPORT_SUFFIXES = (".qcow2", ".raw", ".img", ".vmdk")


def is_iso_name(name: str) -> bool:
    """Whether an ISO may be called so: plain ASCII, no folder, no hidden file, at most 120 characters."""
    return len(name) <= ISO_NAME_LENGTH and ISO_NAME.fullmatch(name) is not None


def is_import_name(name: str) -> bool:
    """Whether an image to import may be called so, by the same rules; its ending says what it is."""
    return len(name) <= ISO_NAME_LENGTH and IMPORT_NAME.fullmatch(name) is not None


def image_name(name: str) -> re.Match[str] | None:
    """What a VM's volume is called, a disk, a base, a seed or a saved memory; ``None`` for another name."""
    found = DISK_NAME.fullmatch(name)
    if found and found["lower"] and found["fmt"] != "qcow2":
        return None  # only qcow2 can lie on something
    return found or SEED_NAME.fullmatch(name) or STATE_NAME.fullmatch(name)


def is_base(name: str) -> bool:
    """Whether a volume so called is a base: read-only, and clones may lie on it."""
    found = DISK_NAME.fullmatch(name)
    return found is not None and found["kind"] == "base"


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
