"""The medium of a CD drive, changed while the guest runs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from vms.errors import MonitorError
from vms.qemu.monitor import Monitor


async def change(monitor: Monitor, device: str, node: Mapping[str, Any] | None) -> None:
    """Open the tray of ``device`` (``ide2``), take out what is in it, put ``node`` in and close it.

    ``node`` is what ``blockdev-add`` gets, the one of a cold start; None leaves the drive empty. A guest that
    has locked the tray is not asked. The old node goes first, so the new one may have its names and its file:
    that is how a file that was replaced under its name is read again. Raises :class:`MonitorError`; the drive
    is empty then.
    """
    before = await _inserted(monitor, device)
    await monitor.execute("blockdev-open-tray", {"id": device, "force": True})
    if before:
        await monitor.execute("blockdev-remove-medium", {"id": device})
        await monitor.execute("blockdev-del", {"node-name": before})
    try:
        if node is not None:
            with contextlib.suppress(
                MonitorError
            ):  # what somebody left who died between adding and inserting
                await monitor.execute("blockdev-del", {"node-name": str(node["node-name"])})
            await monitor.execute("blockdev-add", node)
            await _insert(monitor, device, str(node["node-name"]))
    finally:
        await monitor.execute("blockdev-close-tray", {"id": device})


async def _insert(monitor: Monitor, device: str, node_name: str) -> None:
    try:
        await monitor.execute("blockdev-insert-medium", {"id": device, "node-name": node_name})
    except MonitorError:
        with contextlib.suppress(MonitorError):
            await monitor.execute("blockdev-del", {"node-name": node_name})
        raise


async def _inserted(monitor: Monitor, device: str) -> str:
    """The node in the drive, "" when it is empty. Raises :class:`MonitorError` without such a drive."""
    for entry in await monitor.execute("query-block"):
        if entry.get("qdev") in (device, f"/machine/peripheral/{device}"):
            return str((entry.get("inserted") or {}).get("node-name", ""))
    raise MonitorError("query-block", "DeviceNotFound", f"there is no drive '{device}'")
