"""Storage drivers: where disks and ISOs lie. :func:`open_storage` is the list of kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vms.errors import StorageError
from vms.storage.base import Storage
from vms.storage.directory import DirectoryStorage

KINDS: Mapping[str, Callable[[str, Mapping[str, Any], str | None], Storage]] = {
    "dir": lambda name, facts, user: DirectoryStorage(name, str(facts["path"]), user=user),
}


def open_storage(name: str, facts: Mapping[str, Any], *, user: str | None = None) -> Storage:
    """The driver of a storage. ``facts``: its ``type`` and what that type needs (``path``).

    ``user`` is whom QEMU runs as. Raises :class:`StorageError` for a kind nobody wrote.
    """
    make = KINDS.get(str(facts.get("type")))
    if make is None:
        raise StorageError(
            f"storage '{name}' is of kind '{facts.get('type')}', which this version cannot use"
        )
    return make(name, facts, user)
