"""What this node could use as a storage: volume groups, thin pools, ZFS pools and data sets."""

from __future__ import annotations

import json

from vms.storage.block import tool


async def volume_groups() -> list[tuple[str, int, int]]:
    """LVM's volume groups: name, bytes in all, bytes in no volume. Raises :class:`StorageError`."""
    words = ["--reportformat", "json", "--units", "b", "--nosuffix", "--options", "vg_name,vg_size,vg_free"]
    report = json.loads(await tool("vgs", *words))["report"]
    rows = [row for part in report for row in part["vg"]]
    return [(str(row["vg_name"]), int(float(row["vg_size"])), int(float(row["vg_free"]))) for row in rows]


async def thin_pools(group: str) -> list[str]:
    """The thin pools of a volume group. Raises :class:`StorageError`."""
    words = ["--reportformat", "json", "--options", "lv_name,lv_attr"]
    report = json.loads(await tool("lvs", *words, "--", group))["report"]
    rows = [row for part in report for row in part["lv"]]
    return [str(row["lv_name"]) for row in rows if str(row["lv_attr"]).startswith("t")]


async def data_sets() -> list[str]:
    """ZFS pools and the file systems in them. Raises :class:`StorageError`."""
    lines = await tool("zfs", "list", "-H", "-t", "filesystem", "-o", "name")
    return [line.strip() for line in lines.splitlines() if line.strip()]
