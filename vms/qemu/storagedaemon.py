"""Disks of a VM that is off, or of a template, read through QEMU's storage daemon: no guest is started.

It serves them read-only over NBD on a unix socket in the VM's run folder, and outlives the worker that
started it until somebody ends it.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Mapping
from typing import Any

from vms.errors import CommandError, QemuError
from vms.host.command import run
from vms.host.paths import VMPaths, remove_socket
from vms.qemu.process import adopt, terminate

PROGRAM = "qemu-storage-daemon"


async def start(
    paths: VMPaths, graphs: Mapping[str, Mapping[str, Any]], *, user: str | None = None, timeout: float = 60
) -> None:
    """Serve each graph as the export of its name on ``paths.backup``; answers when they can be read.

    A graph is a format node with all below it, as a start would open it; nothing of it is written. Raises
    :class:`QemuError` with the daemon's words; nothing is left then.
    """
    await stop(paths)
    address = {"type": "unix", "path": str(paths.backup)}
    argv = [PROGRAM]
    for number, graph in enumerate(graphs.values()):
        node = {**read_only(graph), "node-name": f"read-{number}"}
        argv += ["--blockdev", json.dumps(node)]
    argv += ["--nbd-server", json.dumps({"addr": address})]
    for number, name in enumerate(graphs):
        export = {"type": "nbd", "id": f"export-{number}", "node-name": f"read-{number}", "name": name}
        argv += ["--export", json.dumps({**export, "writable": False})]
    argv += ["--pidfile", str(paths.backup_pidfile), "--daemonize"]
    try:
        await run(argv, user=user, timeout=timeout)
    except CommandError as error:
        await stop(paths)
        hint = "apt install qemu-system-common" if error.exit_code == 127 else ""
        raise QemuError(f"the disks cannot be read: {error.output.strip() or error}", hint=hint) from error


def read_only(graph: Mapping[str, Any]) -> dict[str, Any]:
    """The graph opened for reading only, all the way down, without names and without what is for writes."""
    found = copy.deepcopy(dict(graph))
    node: Any = found
    while isinstance(node, dict):
        for word in ("node-name", "detect-zeroes", "discard"):
            node.pop(word, None)
        node["read-only"] = True
        node = node.get("file")
    return found


async def stop(paths: VMPaths) -> None:
    """End the VM's daemon, if one runs, and clear up after it."""
    running = await asyncio.to_thread(adopt, paths.backup_pidfile, paths.vmid)
    if running is not None:
        await terminate(running, grace=5)
    for left in (paths.backup, paths.backup_pidfile):
        await asyncio.to_thread(remove_socket, left)
