"""Storage drivers: where disks and ISOs lie. :data:`vms.storage.kinds.KINDS` is the list of kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vms.errors import StorageError
from vms.storage.base import Storage
from vms.storage.kinds import KINDS


def open_storage(name: str, facts: Mapping[str, Any], *, user: str | None = None) -> Storage:
    """The driver of a storage. ``facts``: its ``type`` and what that type needs (``path``).

    ``user`` is whom QEMU runs as. Raises :class:`StorageError` for a kind nobody wrote, or one of whose facts
    is missing.
    """
    kind = KINDS.get(str(facts.get("type")))
    if kind is None:
        raise StorageError(
            f"storage '{name}' is of kind '{facts.get('type')}', which this version cannot use"
        )
    try:
        return kind.make(name, facts, user)
    except KeyError as error:
        raise StorageError(f"storage '{name}' has no '{error.args[0]}'", hint="Edit the storage.") from error
