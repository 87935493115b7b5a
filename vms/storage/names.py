"""What files on a directory storage are called, and which files are no volumes at all."""

from __future__ import annotations

import os
import re
import stat

DISK_NAME = re.compile(
    r"(?P<vmid>[1-9][0-9]{2,8})/vm-(?P=vmid)-disk-(?P<number>[0-9]{1,4})\.(?P<fmt>qcow2|raw)"
)
SEED_NAME = re.compile(r"(?P<vmid>[1-9][0-9]{2,8})/vm-(?P=vmid)-cloudinit\.(?P<fmt>qcow2|raw)")
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
