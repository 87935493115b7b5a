"""The ISO image a cloud image reads at its first boot.

ISO 9660 with Joliet and Rock Ridge, its label telling the format (``cidata``: NoCloud). The image carries a
fingerprint of its files in the field ECMA-119 leaves to applications, so that a start sees in one read
whether it has to be written again.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path

import pycdlib

from vms.errors import StorageError

SIZE = 4 << 20
"""Bytes of the drive."""

LIMIT = 3 << 20
"""Bytes the files may have together, as in Proxmox."""

_MARK = "pvelite-seed-"
_MARK_AT = 16 * 2048 + 883
"""Where the primary volume descriptor's application use begins."""


def fingerprint(label: str, files: Mapping[str, bytes]) -> str:
    """The same for the same label, names and contents."""
    digest = hashlib.sha256(label.encode())
    for name, content in sorted(files.items()):
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return _MARK + digest.hexdigest()


def build(label: str, files: Mapping[str, bytes]) -> bytes:
    """The image of ``files`` (path → content), :data:`SIZE` bytes long. Raises :class:`StorageError`."""
    total = sum(len(content) for content in files.values())
    if total > LIMIT:
        raise StorageError(
            f"Cloud-Init sum of snippets too big (> {LIMIT >> 20} MiB): the files have {total} bytes together"
        )
    image = pycdlib.PyCdlib()
    image.new(
        interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=label,
        app_use=fingerprint(label, files),
    )  # fmt: skip
    folders: dict[str, str] = {"": ""}
    for number, (name, content) in enumerate(sorted(files.items())):
        folder = _folder(image, folders, name.rpartition("/")[0])
        leaf = name.rpartition("/")[2]
        image.add_fp(
            io.BytesIO(content), len(content), f"{folder}/FILE{number}.;1", rr_name=leaf,
            joliet_path=f"/{name}",
        )  # fmt: skip
    target = io.BytesIO()
    image.write_fp(target)
    image.close()
    return target.getvalue().ljust(SIZE, b"\0")


def _folder(image: pycdlib.PyCdlib, known: dict[str, str], name: str) -> str:
    """The ISO 9660 path of a folder (``openstack/latest``), made with its parents when it is new."""
    if name in known:
        return known[name]
    above, _, leaf = name.rpartition("/")
    path = f"{_folder(image, known, above)}/DIR{len(known)}"
    image.add_directory(path, rr_name=leaf, joliet_path=f"/{name}")
    known[name] = path
    return path


def read_mark(path: Path) -> str:
    """The fingerprint a raw seed carries; empty when there is none, or no such file."""
    if path.parts[:2] == ("/", "dev"):  # a volume's name there is a link to its device
        path = path.resolve()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        found = os.pread(descriptor, len(_MARK) + 64, _MARK_AT).decode("ascii", errors="replace")
    finally:
        os.close(descriptor)
    return found if found.startswith(_MARK) else ""
