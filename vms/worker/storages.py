"""What lies on the storages, kept in rows."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass

from vms.errors import StorageError
from vms.models import Node, Storage, StorageStatus, Volume
from vms.operations.volumes import keep_volume, needed
from vms.storage import base, open_storage
from vms.tasks import notify
from vms.worker import snippets
from vms.worker.database import Database

log = logging.getLogger(__name__)

CONTENTS: tuple[base.Content, ...] = ("iso", "import", "images", "backup")


@dataclass(frozen=True)
class Seen:
    """A storage as it was just found."""

    storage: Storage
    status: base.StorageStatus
    volumes: tuple[base.Volume, ...]


def known(storage: Storage, node: Node) -> dict[str, Volume]:
    """The rows of a storage's volumes that this node is to keep, by name."""
    rows = Volume.objects.filter(storage=storage, node=None if storage.shared else node)
    return {row.name: row for row in rows}


async def look(storage: Storage, driver: base.Storage) -> Seen:
    """Read one storage. Never raises for a storage that is broken: that is an answer."""
    with contextlib.suppress(OSError, StorageError):  # what is wrong with it, status() says
        await driver.prepare()
    status = await driver.status()
    if not status.active:
        return Seen(storage, status, ())
    volumes: list[base.Volume] = []
    try:
        for content in CONTENTS:
            if content in storage.content:
                listing = await driver.list(content)
                volumes += listing.volumes
                for finding in listing.findings:
                    log.debug("storage %s: %s: %s", storage.name, finding.path, finding.text)
    except (OSError, StorageError) as error:
        return Seen(storage, base.StorageStatus(active=False, text=str(error)), ())
    return Seen(storage, status, tuple(volumes))


def store(node: Node, seen: Seen, before: dict[str, Volume]) -> bool:
    """Bring the rows in line; answers whether anything changed. ``before``: the rows read before looking.

    A row whose file is gone stays while a drive, a snapshot or a clone refers to it, marked as not present,
    so that its VM can say what it misses; other rows go. Rows made while we looked are left alone.
    """
    status, storage = seen.status, seen.storage
    StorageStatus.objects.update_or_create(
        storage=storage, node=node,
        defaults={
            "total": status.total, "used": status.used, "available": status.available,
            "error": "" if status.active else status.text[:500], "warning": status.warning[:500],
        },
    )  # fmt: skip
    if not status.active:
        return False
    changed = False
    found = {volume.volid.partition(":")[2]: volume for volume in seen.volumes}
    # Bases first, so that a clone's row finds the one it lies on.
    for name, volume in sorted(found.items(), key=lambda pair: _depth(pair[1], found)):
        changed |= _store_volume(node, storage, name, volume, before.get(name))
    for name in before.keys() - found.keys():
        changed |= _miss(before[name])
    return changed


def _depth(volume: base.Volume, found: dict[str, base.Volume]) -> int:
    """On how many bases a volume lies."""
    lower = found.get(volume.base.partition(":")[2])
    return 0 if lower is None else 1 + _depth(lower, found)


def _store_volume(node: Node, storage: Storage, name: str, volume: base.Volume, row: Volume | None) -> bool:
    same = row is not None and row.present and row.size == volume.size and row.format == volume.format
    if same and row is not None and volume.content == "backup":
        same = (row.notes, row.protected, row.made) == (volume.notes, volume.protected, volume.made)
    if same and row is not None and bool(row.base_id) == bool(volume.base):
        return False
    kept = keep_volume(storage, node, volume)
    return not same or bool(kept.base_id)


def _miss(row: Volume) -> bool:
    if needed(row):
        # By its name too: it may have been given another one since the storage was looked at.
        return bool(Volume.objects.filter(pk=row.pk, name=row.name, present=True).update(present=False))
    deleted, _ = Volume.objects.filter(pk=row.pk, name=row.name, disks=None).delete()
    return bool(deleted)


def news(seen: Seen, before: dict[str, Volume]) -> list[base.Volume]:
    """What a look has found that the rows ``before`` did not tell."""
    found = []
    for volume in seen.volumes:
        row = before.get(volume.volid.partition(":")[2])
        if row is None or (row.present, row.size, row.format) != (True, volume.size, volume.format):
            found.append(volume)
    return found


def unsay(node: Node, storage: Storage, volume: base.Volume) -> bool:
    """The row of a volume that is gone again goes, too."""
    row = known(storage, node).get(volume.volid.partition(":")[2])
    return row is not None and _miss(row)


class Scanner:
    """Reads this node's storages; one scan at a time."""

    def __init__(self, node: Node, database: Database, user: str | None) -> None:
        self._node = node
        self._db = database
        self.user = user

    def driver(self, storage: Storage) -> base.Storage:
        """The driver of a storage. Raises :class:`StorageError`."""
        return open_storage(storage.name, storage.facts(), user=self.user)

    async def scan(self, name: str = "") -> int:
        """Look at all enabled storages, or the one; answers how many volumes were found."""
        count, changed = 0, False
        for storage in await self._db(self._storages, name):
            before = await self._db(known, storage, self._node)
            seen = await self._seen(storage)
            changed |= await self._db(store, self._node, seen, before)
            for volume in news(seen, before):
                changed |= await self._look_again(storage, volume)
            count += len(seen.volumes)
            if seen.status.active:
                changed |= await snippets.settle(storage, self._node, self._db)
        if changed or name:
            notify.changed("storage")
        return count

    async def _look_again(self, storage: Storage, volume: base.Volume) -> bool:
        """Whoever removes a volume removes its file, then its row. Of a file that was removed after we looked
        the row may have come only then: it is ours to remove."""
        try:
            await self.driver(storage).find(volume.volid)
        except StorageError:
            return bool(await self._db(unsay, self._node, storage, volume))
        return False

    async def _seen(self, storage: Storage) -> Seen:
        try:
            driver = self.driver(storage)
        except StorageError as error:
            return Seen(storage, base.StorageStatus(active=False, text=str(error)), ())
        return await look(storage, driver)

    @staticmethod
    def _storages(name: str) -> list[Storage]:
        rows = Storage.objects.filter(enabled=True)
        return list(rows.filter(name=name) if name else rows)
