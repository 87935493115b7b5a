"""What a backup says of itself, read by the process that reads archives and nothing else."""

from __future__ import annotations

from dataclasses import replace

from asgiref.sync import async_to_sync

from vms.backup.extraction import extraction
from vms.backup.manifest import Manifest
from vms.config import conffile, importing
from vms.config.secrets import masked
from vms.errors import StorageError
from vms.models import Node, Volume
from vms.storage import open_storage
from vms.storage.folder import Folder


def head_of(volume: Volume, node: Node | None) -> tuple[Manifest, bytes]:
    """The manifest and the configuration in a backup that lies on ``node``, where we are.

    Blocks for as long as a process takes to start. Raises :class:`StorageError`.
    """
    if volume.node is not None and (node is None or volume.node_id != node.pk):
        raise StorageError(f"'{volume.volid}' lies on node {volume.node.name}, and only there it can be read")
    driver = open_storage(volume.storage.name, volume.storage.facts())
    if not isinstance(driver, Folder):
        raise StorageError(f"storage '{driver.name}' holds no backups")
    with driver.open(driver.path(volume.volid), volume.volid) as descriptor:
        return async_to_sync(_read)(descriptor, volume.label, volume.format)


async def _read(descriptor: int, name: str, fmt: str) -> tuple[Manifest, bytes]:
    async with extraction(descriptor, name, "head", compress=fmt.endswith("zst")) as found:
        return found.manifest, found.conf


def shown(conf: bytes) -> str:
    """The configuration's text for a person: secrets as asterisks. Raises :class:`ConfigError`."""
    found = conffile.parse(importing.decode(conf))
    return conffile.format(replace(found, main=masked(found.main)))
