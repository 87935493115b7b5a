"""A backup's file as the verbs read it: found, opened, and given to the process that looks into it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from vms.backup.extraction import Extraction, Mode, extraction
from vms.errors import StateError
from vms.models import Node, Volume
from vms.operations.archives import find_backup
from vms.operations.base import Context
from vms.operations.drives import driver_of


def present_backup(volid: str, node: Node) -> Volume:
    """The row of a backup whose file is there. Raises :class:`NotFound` or :class:`StateError`."""
    row = find_backup(volid, node)
    if not row.present:
        raise StateError(f"The file of '{row.volid}' is missing.", hint="Rescan its storage.")
    return row


@contextlib.asynccontextmanager
async def reading(ctx: Context, backup: Volume, mode: Mode, *, limit: int = 0) -> AsyncIterator[Extraction]:
    """Read the backup in a process of its own; its head is read. Raises :class:`StorageError`."""
    driver: Any = driver_of(ctx, backup.storage)
    with contextlib.ExitStack() as stack:
        place = driver.path(backup.volid)
        descriptor = await asyncio.to_thread(stack.enter_context, driver.open(place, backup.volid))
        compressed = backup.name.endswith(".zst")
        async with extraction(descriptor, backup.volid, mode, compress=compressed, limit=limit) as found:
            yield found
