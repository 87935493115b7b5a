"""Storage kind ``lvmthin``: each disk a thin logical volume ``/dev/VG/vm-101-disk-0`` of one pool.

A snapshot is the thin volume ``snap_vm-101-disk-0_NAME``, a linked clone a thin snapshot of its base; its
volume name does not tell the base, LVM does.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from vms.errors import StorageError
from vms.storage.base import StorageStatus
from vms.storage.block import Entry, tool
from vms.storage.blockstorage import BlockStorage

DEVICES = "/dev"
FULL = 95.0
"""Percent of a pool's metadata above which nothing new is made: a pool out of metadata stops all its VMs."""
NEARLY_FULL = 80.0
"""Percent of data or metadata that is worth a warning."""
_FIELDS = "lv_name,lv_size,pool_lv,origin,data_percent,metadata_percent,thin_id"
_SNAPSHOT = re.compile(r"snap_(?P<name>.+?)_(?P<shot>[A-Za-z][A-Za-z0-9_-]*)")


class LvmThinStorage(BlockStorage):
    """Thin volumes of one pool of a volume group."""

    granule = 4 << 20
    names_base = False

    def __init__(self, name: str, group: str, pool: str, *, user: str | None = None) -> None:
        super().__init__(name, user=user)
        self.group = group
        self.pool = pool

    def place(self, name: str) -> str:
        return f"{DEVICES}/{self.group}/{name}"

    def _lv(self, name: str) -> str:
        return f"{self.group}/{name}"

    # ---- looking

    async def _rows(self) -> dict[str, dict[str, Any]]:
        words = ["--reportformat", "json", "--units", "b", "--nosuffix", "--options", _FIELDS]
        report = json.loads(await tool("lvs", *words, self.group))["report"]
        rows = [row for part in report for row in part["lv"]]
        rows.sort(key=lambda row: int(row["thin_id"] or 0))  # in the order they were made
        return {str(row["lv_name"]): row for row in rows}

    async def entries(self) -> dict[str, Entry]:
        found = {}
        for name, row in (await self._rows()).items():
            if row["pool_lv"] == self.pool:
                size = int(float(row["lv_size"]))
                used = int(size * _percent(row["data_percent"]) / 100)
                found[name] = Entry(name=name, size=size, used=used, lower=str(row["origin"]))
        return found

    async def health(self) -> StorageStatus:
        row = (await self._rows()).get(self.pool)
        if row is None or row["metadata_percent"] == "":
            raise StorageError(f"volume group '{self.group}' has no thin pool '{self.pool}'")
        total, data = int(float(row["lv_size"])), _percent(row["data_percent"])
        metadata = _percent(row["metadata_percent"])
        used = min(int(total * data / 100), total)
        free = 0 if metadata >= FULL else total - used
        worst = max(("data", data), ("metadata", metadata), key=lambda pair: pair[1])
        warning = (
            f"The pool's {worst[0]} is {worst[1]:.0f} % full; extend it." if worst[1] >= NEARLY_FULL else ""
        )
        return StorageStatus(active=True, total=total, used=used, available=free, warning=warning)

    # ---- volumes

    async def make(self, name: str, size: int) -> None:
        words = ["--yes", "--wipesignatures", "n", "--virtualsize", f"{size}b"]
        await tool("lvcreate", *words, "--thinpool", self._lv(self.pool), "--name", name)

    async def erase(self, name: str) -> None:
        there = await self.entries()
        for entry in [*(_shot(name, shot) for shot in _shots(there, name)), f"{name}.back", name]:
            if entry in there:
                await tool("lvremove", "--yes", "--force", self._lv(entry))

    async def move(self, before: str, after: str) -> None:
        await tool("lvrename", self.group, before, after)

    async def grow(self, name: str, size: int) -> None:
        await tool("lvextend", "--size", f"{size}b", self._lv(name))

    async def switch_on(self, name: str) -> None:
        await tool("lvchange", "--activate", "y", "--ignoreactivationskip", self._lv(name))

    # ---- bases and clones

    async def _over(self, lower: str, name: str, permission: str) -> None:
        """A thin volume that shares everything with another one."""
        words = ["--snapshot", "--setactivationskip", "n", "--permission", permission, "--name", name]
        await tool("lvcreate", *words, self._lv(lower))

    async def lay_over(self, base: str, name: str) -> None:
        await self._over(base, name, "rw")

    async def seal(self, name: str, base: str) -> None:
        if base not in await self.entries():
            await self.move(name, base)
        await tool("lvchange", "--permission", "r", self._lv(base))

    async def unseal(self, base: str, name: str) -> None:
        await tool("lvchange", "--permission", "rw", self._lv(base))
        await self.move(base, name)

    # ---- snapshots

    async def shots(self, name: str) -> list[str]:
        return _shots(await self.entries(), name)

    async def shoot(self, name: str, shot: str) -> None:
        await self._over(name, _shot(name, shot), "r")

    async def back_to(self, name: str, shot: str) -> None:
        """By way of a third volume, so that what was cut short can be done again."""
        there, made = await self.entries(), f"{name}.back"
        if name in there:
            if made in there:
                await tool("lvremove", "--yes", "--force", self._lv(made))
            await self._over(_shot(name, shot), made, "rw")
            await tool("lvremove", "--yes", "--force", self._lv(name))
        await self.move(made, name)

    async def unshoot(self, name: str, shot: str) -> None:
        await tool("lvremove", "--yes", "--force", self._lv(_shot(name, shot)))

    def shot_place(self, name: str, shot: str) -> str:
        return self.place(_shot(name, shot))

    @contextlib.asynccontextmanager
    async def shown(self, name: str, shot: str) -> AsyncIterator[None]:
        await self.switch_on(_shot(name, shot))
        yield


def _shot(name: str, shot: str) -> str:
    return f"snap_{name}_{shot}"


def _shots(entries: dict[str, Entry], name: str) -> list[str]:
    """The snapshots of a volume among all volumes, oldest first."""
    matches = (_SNAPSHOT.fullmatch(entry) for entry in entries)
    return [found["shot"] for found in matches if found and found["name"] == name]


def _percent(text: str) -> float:
    return float(text or 0)
