"""Storage kind ``zfspool``: each disk a ZFS volume ``/dev/zvol/POOL/vm-101-disk-0``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from vms.errors import StorageError
from vms.storage.base import StorageStatus
from vms.storage.block import Entry, tool
from vms.storage.blockstorage import BlockStorage
from vms.storage.names import BLOCK_DISK, BLOCK_SEED

DEVICES = "/dev/zvol"
BASE = "__base__"
"""The snapshot of a base that its clones lie on."""
NEARLY_FULL = 80
"""Percent that is worth a warning: ZFS becomes slow when it has little room to choose from."""


class ZfsStorage(BlockStorage):
    """Volumes below one data set. ``blocksize`` as zfs writes it (``16k``)."""

    granule = 1 << 20

    def __init__(
        self, name: str, pool: str, *, blocksize: str = "", sparse: bool = True, user: str | None = None
    ) -> None:
        """``sparse``: a new disk takes room as it is written, not at once."""
        super().__init__(name, user=user)
        self.pool = pool
        self.blocksize = blocksize
        self.sparse = sparse

    def place(self, name: str) -> str:
        return f"{DEVICES}/{self.pool}/{name}"

    def _set(self, name: str) -> str:
        return f"{self.pool}/{name}"

    # ---- looking

    async def entries(self) -> dict[str, Entry]:
        words = ["list", "-H", "-p", "-d", "1", "-t", "volume", "-o", "name,volsize,used,origin", self.pool]
        found = {}
        for line in (await tool("zfs", *words)).splitlines():
            path, size, used, origin = line.split("\t")
            name = path.rpartition("/")[2]
            lower = "" if origin == "-" else origin.partition("@")[0].rpartition("/")[2]
            found[name] = Entry(name=name, size=int(size), used=int(used), lower=lower)
        return found

    async def health(self) -> StorageStatus:
        text = await tool("zfs", "list", "-H", "-p", "-o", "used,available", self.pool)
        used, free = (int(word) for word in text.split())
        total = used + free
        percent = 100 * used // total if total else 0
        warning = f"The pool is {percent} % full and becomes slow." if percent >= NEARLY_FULL else ""
        return StorageStatus(active=True, total=total, used=used, available=free, warning=warning)

    # ---- volumes

    async def make(self, name: str, size: int) -> None:
        words = [*(["-s"] if self.sparse else []), *(["-b", self.blocksize] if self.blocksize else [])]
        await tool("zfs", "create", *words, "-V", str(size), self._set(name))

    async def erase(self, name: str) -> None:
        if not (BLOCK_DISK.fullmatch(name) or BLOCK_SEED.fullmatch(name)):
            raise StorageError(f"'{name}' is no volume of ours")
        if name in await self.entries():
            await tool("zfs", "destroy", "-r", self._set(name))

    async def move(self, before: str, after: str) -> None:
        await tool("zfs", "rename", self._set(before), self._set(after))

    async def grow(self, name: str, size: int) -> None:
        await tool("zfs", "set", f"volsize={size}", self._set(name))

    # ---- bases and clones

    async def lay_over(self, base: str, name: str) -> None:
        await tool("zfs", "clone", f"{self._set(base)}@{BASE}", self._set(name))

    async def seal(self, name: str, base: str) -> None:
        if base not in await self.entries():
            await self.move(name, base)
        if BASE not in await self._all_shots(base):
            await tool("zfs", "snapshot", f"{self._set(base)}@{BASE}")
        await tool("zfs", "set", "readonly=on", self._set(base))

    async def unseal(self, base: str, name: str) -> None:
        if BASE in await self._all_shots(base):
            await tool("zfs", "destroy", f"{self._set(base)}@{BASE}")
        await tool("zfs", "set", "readonly=off", self._set(base))
        await self.move(base, name)

    # ---- snapshots

    async def _all_shots(self, name: str) -> list[str]:
        words = ["list", "-H", "-d", "1", "-t", "snapshot", "-s", "createtxg", "-o", "name"]
        lines = (await tool("zfs", *words, self._set(name))).splitlines()
        return [line.partition("@")[2] for line in lines]

    async def shots(self, name: str) -> list[str]:
        return [shot for shot in await self._all_shots(name) if shot != BASE]

    async def shoot(self, name: str, shot: str) -> None:
        await tool("zfs", "snapshot", f"{self._set(name)}@{shot}")

    async def revert_refusal(self, volid: str, name: str) -> str:
        """ZFS goes back to the newest snapshot alone: the newer ones would be lost."""
        refusal = await super().revert_refusal(volid, name)
        shots = [] if refusal else await self.snapshots(volid)
        if refusal or shots[-1] == name:
            return refusal
        return (
            f"ZFS can go back to the newest snapshot only, and '{shots[-1]}' is newer than '{name}'; "
            f"delete the newer ones of '{volid}' first"
        )

    async def back_to(self, name: str, shot: str) -> None:
        await tool("zfs", "rollback", f"{self._set(name)}@{shot}")

    async def unshoot(self, name: str, shot: str) -> None:
        await tool("zfs", "destroy", f"{self._set(name)}@{shot}")

    @contextlib.asynccontextmanager
    async def shown(self, name: str, shot: str) -> AsyncIterator[None]:
        await tool("zfs", "set", "snapdev=visible", self._set(name))
        try:
            yield
        finally:
            await tool("zfs", "set", "snapdev=hidden", self._set(name))
