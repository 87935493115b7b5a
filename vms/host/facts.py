"""What this node is: the facts the wizard offers from, rules judge by and launches build on.

:func:`gather` answers a plain dictionary of JSON values, the form in which a node's row keeps it.
The parts QEMU and the network tell come from ``vms.qemu.capabilities`` and ``vms.network.bridge``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


async def gather(
    *,
    home: Path,
    qemu: Mapping[str, Any],
    bridges: Sequence[Mapping[str, Any]] = (),
    user: str | None = None,
    storages: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The facts of this node. ``qemu`` is ``(await capabilities.examine(…)).to_json()``."""
    return {**qemu, "bridges": list(bridges)}
