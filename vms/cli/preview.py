"""What a preview assumes about storages that nobody described. Only a preview guesses; a start refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vms.hardware import is_drive, part_of

USUAL: dict[str, dict[str, Any]] = {
    "local": {"type": "dir", "path": "/var/lib/vz"},
    "local-lvm": {"type": "lvmthin", "vg": "pve", "thinpool": "data"},
    "local-zfs": {"type": "zfspool", "pool": "rpool/data"},
    "local-btrfs": {"type": "btrfs", "path": "/var/lib/pve/local-btrfs"},
}
"""The storages the peer's installer makes, where it makes them."""

_FILES = ("cephfs", "cifs", "nfs", "btrfs")


def guessed_storages(
    mapping: Mapping[str, str], described: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Name → facts of every storage a configuration names and nobody ``described``, as names suggest."""
    found: dict[str, dict[str, Any]] = {}
    for key, text in mapping.items():
        if not (is_drive(key) or key in ("efidisk0", "tpmstate0")) or part_of(key) is None:
            continue
        match = re.match(r"(?:file=|volume=)?([A-Za-z][A-Za-z0-9._-]*):([^,]+)", text)
        if match and match[1] not in described:
            twin = described.get(match[1].removeprefix("k"), {})
            # 'krbd-x' is what people call the storage 'rbd-x' reached through the kernel.
            kernel = {**twin, "krbd": True} if twin.get("type") == "rbd" else None
            found.setdefault(match[1], kernel or guess(match[1], match[2]))
    return found


def guess(name: str, volume: str) -> dict[str, Any]:
    """What a storage called ``name`` that holds ``volume`` most likely is."""
    if name in USUAL:
        return USUAL[name]
    if "/" not in volume:
        block = _block_storage(name.lower(), name)
        if block:
            return block
    kind = next((kind for kind in _FILES if kind in name.lower()), "dir")
    # A second directory beside the usual one is called after it.
    beside = name.startswith("local") and kind == "dir"
    path = f"/var/lib/vz{name.removeprefix('local')}" if beside else f"/mnt/pve/{name}"
    chained = {"snapshot-as-volume-chain": True} if "snapext" in name.lower() else {}
    return {"type": kind, "path": path, **chained}


def _block_storage(lower: str, name: str) -> dict[str, Any] | None:
    if "rbd" in lower or "ceph" in lower:
        return {"type": "rbd", "pool": name, "krbd": "krbd" in lower}
    if "zfs" in lower:
        return {"type": "zfspool", "pool": name}
    if "lvm" in lower or "thin" in lower:
        return {"type": "lvmthin" if "thin" in lower else "lvm", "vg": name}
    return None
