"""Storage kind ``rbd``: each disk an image of a Ceph pool, which QEMU opens by itself through librbd.

The cluster is described by a ``ceph.conf`` that names its monitors and a keyring; QEMU's user must be able to
read both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vms.errors import StorageError
from vms.storage.base import StorageStatus, Volume
from vms.storage.block import Entry, tool
from vms.storage.blockstorage import BlockStorage
from vms.storage.image import pour

BASE = "__base__"
"""The protected snapshot of a base that its clones lie on."""
NEARLY_FULL = 85
"""Percent from which a cluster warns of itself."""


class RbdStorage(BlockStorage):
    """Images of one pool. Their used bytes are not told: asking a cluster for them reads all of its maps."""

    granule = 1 << 20
    paths = False

    def __init__(
        self, name: str, pool: str, *, username: str = "admin", conf: str = "/etc/ceph/ceph.conf",
        namespace: str = "", user: str | None = None,
    ) -> None:  # fmt: skip
        """``username`` is the cluster's, ``user`` whom QEMU runs as."""
        super().__init__(name, user=user)
        self.pool = pool
        self.username = username
        self.conf = conf
        self.namespace = namespace

    @property
    def _space(self) -> str:
        return f"{self.pool}/{self.namespace}" if self.namespace else self.pool

    def _image(self, name: str) -> str:
        return f"{self._space}/{name}"

    def place(self, name: str) -> str:
        return f"rbd:{self._image(name)}:id={_escaped(self.username)}:conf={_escaped(self.conf)}"

    def path(self, volid: str) -> Path:
        """A name to show: no file is there."""
        return Path(f"/rbd/{self._image(self.leaf(volid))}")

    def describe(self, entry: Entry, entries: dict[str, Entry]) -> Volume | None:
        found = super().describe(entry, entries)
        return found and replace(found, path=Path(f"/rbd/{self._image(entry.name)}"))

    def opened_as(self, volid: str, filename: str) -> bool:
        name = self.leaf(volid)
        if filename.startswith("json:"):
            told = json.loads(filename.removeprefix("json:"))
            where: Mapping[str, Any] = told if isinstance(told, dict) else {}
            space = (where.get("pool"), where.get("namespace") or "", where.get("image"))
            return space == (self.pool, self.namespace, name)
        return filename.split(":")[:2] == ["rbd", self._image(name)]

    def _access(self) -> list[str]:
        return ["--id", self.username, "--conf", self.conf]

    async def _rbd(self, *words: str, timeout: float = 120) -> str:
        return await tool("rbd", words[0], *self._access(), *words[1:], timeout=timeout)

    # ---- looking

    async def entries(self) -> dict[str, Entry]:
        rows = json.loads(await self._rbd("ls", "--long", "--format", "json", self._space) or "[]")
        found = {}
        for row in rows:
            if "snapshot" not in row:
                name = str(row["image"])
                lower = str((row.get("parent") or {}).get("image", ""))
                found[name] = Entry(name=name, size=int(row["size"]), lower=lower)
        return found

    async def health(self) -> StorageStatus:
        told = json.loads(await tool("ceph", "df", *self._access(), "--format", "json", timeout=20))
        stats = next((pool["stats"] for pool in told["pools"] if pool["name"] == self.pool), None)
        if stats is None:
            raise StorageError(f"the cluster has no pool '{self.pool}'")
        used, free = int(stats.get("stored", stats["bytes_used"])), int(stats["max_avail"])
        total = used + free
        percent = 100 * used // total if total else 0
        warning = f"The pool is {percent} % full; add storage." if percent >= NEARLY_FULL else ""
        return StorageStatus(active=True, total=total, used=used, available=free, warning=warning)

    # ---- volumes

    async def make(self, name: str, size: int) -> None:
        await self._rbd("create", "--image-format", "2", "--size", f"{size >> 20}M", self._image(name))

    async def erase(self, name: str) -> None:
        if name not in await self.entries():
            return
        shots = await self._shots(name)
        if any(shot["name"] == BASE for shot in shots):
            await self._loosen(name)
        if shots:
            await self._rbd("snap", "purge", "--no-progress", self._image(name))
        await self._rbd("rm", "--no-progress", self._image(name), timeout=3600)

    async def move(self, before: str, after: str) -> None:
        await self._rbd("rename", self._image(before), self._image(after))

    async def grow(self, name: str, size: int) -> None:
        await self._rbd("resize", "--no-progress", "--size", f"{size >> 20}M", self._image(name))

    async def put(self, volume: Volume, content: bytes) -> None:
        await pour(content, volume.location, user=self.user)

    # ---- bases and clones

    async def lay_over(self, base: str, name: str) -> None:
        await self._rbd("clone", f"{self._image(base)}@{BASE}", self._image(name))

    async def seal(self, name: str, base: str) -> None:
        if base not in await self.entries():
            await self.move(name, base)
        shots = {shot["name"]: shot for shot in await self._shots(base)}
        if BASE not in shots:
            await self._rbd("snap", "create", "--no-progress", f"{self._image(base)}@{BASE}")
        if not _is_protected(shots.get(BASE, {})):
            await self._rbd("snap", "protect", f"{self._image(base)}@{BASE}")

    async def unseal(self, base: str, name: str) -> None:
        if any(shot["name"] == BASE for shot in await self._shots(base)):
            await self._loosen(base)
            await self._rbd("snap", "rm", "--no-progress", f"{self._image(base)}@{BASE}")
        await self.move(base, name)

    async def _loosen(self, base: str) -> None:
        shots = {shot["name"]: shot for shot in await self._shots(base)}
        if _is_protected(shots.get(BASE, {})):
            await self._rbd("snap", "unprotect", f"{self._image(base)}@{BASE}")

    # ---- snapshots

    async def _shots(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            await self._rbd("snap", "ls", "--format", "json", self._image(name)) or "[]"
        )
        return sorted(found, key=lambda shot: int(shot["id"]))

    async def shots(self, name: str) -> list[str]:
        return [str(shot["name"]) for shot in await self._shots(name) if shot["name"] != BASE]

    async def shoot(self, name: str, shot: str) -> None:
        await self._rbd("snap", "create", "--no-progress", f"{self._image(name)}@{shot}")

    async def back_to(self, name: str, shot: str) -> None:
        await self._rbd("snap", "rollback", "--no-progress", f"{self._image(name)}@{shot}", timeout=3600)

    async def unshoot(self, name: str, shot: str) -> None:
        await self._rbd("snap", "rm", "--no-progress", f"{self._image(name)}@{shot}")

    def shot_place(self, name: str, shot: str) -> str:
        return self.place(f"{name}@{shot}")


def _is_protected(shot: Mapping[str, Any]) -> bool:
    return str(shot.get("protected", "")).lower() == "true"


def _escaped(value: str) -> str:
    """A value as QEMU's ``rbd:`` names want it."""
    return "".join(f"\\{char}" if char in ":@=\\" else char for char in value)
