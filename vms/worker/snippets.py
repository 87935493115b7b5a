"""The folders of snippets on this node: what lies there is noted, what is missing is written again."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from vms.errors import StorageError
from vms.models import Node, SnippetFile, SnippetVersion, Storage
from vms.operations.snippets import note_file
from vms.storage import snippets as folder
from vms.worker.database import Database

log = logging.getLogger(__name__)


async def settle(storage: Storage, node: Node, database: Database) -> bool:
    """Look at one storage's folder; answers whether anything in it is new."""
    if "snippets" not in storage.content:
        return False
    root = Path(storage.path)
    try:
        found = await asyncio.to_thread(folder.listing, root)
        stale = await database(outdated, storage, {one.name: one.sha256 for one in found})
        for name, text in stale:
            await asyncio.to_thread(folder.write, root, name, text)
            log.info("storage %s: wrote the file of snippet %s", storage.name, name)
        if stale:
            found = await asyncio.to_thread(folder.listing, root)
    except StorageError as error:
        log.warning("storage %s: snippets: %s", storage.name, error)
        return False
    return bool(await database(store, storage, node, found))


def outdated(storage: Storage, there: dict[str, str]) -> list[tuple[str, str]]:
    """Snippets whose file is missing or holds one of their older versions, each with its newest text.

    A file somebody else has changed is left alone: its page offers to keep the change.
    """
    versions = SnippetVersion.objects.filter(snippet__storage=storage).order_by("snippet", "-number")
    sums: dict[str, list[str]] = {}
    for name, checksum in versions.values_list("snippet__name", "sha256"):
        sums.setdefault(name, []).append(checksum)
    wanted = [
        name
        for name, (newest, *older) in sums.items()
        if there.get(name, "none") in ("none", *older) and there.get(name) != newest
    ]
    return [(name, versions.filter(snippet__name=name)[0].text) for name in wanted]


def store(storage: Storage, node: Node, found: list[folder.Found]) -> bool:
    """Bring the rows in line with the folder."""
    rows = SnippetFile.objects.filter(storage=storage, node=node)
    gone, _ = rows.exclude(name__in=[one.name for one in found]).delete()
    changed = [note_file(storage, node, one) for one in found]
    return bool(gone) or any(changed)
