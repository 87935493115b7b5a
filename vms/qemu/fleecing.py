"""Disks of a running guest as they were at one moment, read while the guest goes on writing.

Below each drive's throttle filter goes a ``copy-before-write`` filter: before the guest overwrites something,
what was there is put into a temporary image, the fleece. A ``snapshot-access`` node reads from both and is
the view. When the fleece cannot take something, the view breaks and the guest's write goes on.

The filters are put in and taken out while the guest stands still: QEMU 7.2 ends itself when a node is
opened over one that its I/O thread works on just then. The throttle filter of a SCSI disk, which lives in
that thread always, has to be out of the way meanwhile; the drive stands on its image then and a filler holds
its place.

A job of QEMU's (``blockdev-backup``) reads the view and writes it to an NBD server of ours. Had we asked for
it from an NBD server of QEMU's, QEMU 7.2 would not survive our own end or a pause at the wrong moment.

``docs/adr/0004-reading-a-running-disk.md`` has what else was tried.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vms.errors import MonitorError, StateError
from vms.qemu import blockjob, blocknodes
from vms.qemu.monitor import Monitor

WORKERS = 8
"""Reads and writes of a job at once, each of at most 1 MiB."""
TIMEOUT = 45
"""Seconds QEMU tries to put something into the fleece; then the view breaks and the guest's write goes on."""
_MARK = "backup-"


@dataclass(frozen=True, kw_only=True)
class Filtered:
    """A drive to be read. ``top`` is the throttle filter its device is attached to, ``image`` the node below
    it, ``size`` in bytes, ``options`` what ``top`` was opened with, its child aside."""

    key: str
    top: str
    image: str
    size: int
    options: Mapping[str, Any]

    def node(self, part: str) -> str:
        """The name of a node of ours: ``fleece``, ``filter``, ``view``, ``filler``, ``target``."""
        return f"{_MARK}{part}-{self.key}"

    @property
    def in_thread(self) -> bool:
        """Whether its nodes may be an I/O thread's even while the guest stands still."""
        return self.key.startswith("scsi")

    @property
    def job(self) -> str:
        """The id of the job that reads it."""
        return f"{_MARK}{self.key}"


async def filtered(monitor: Monitor, key: str, graph: Mapping[str, Any]) -> Filtered:
    """What the drive ``key`` is made of now, for a backup. ``graph`` is what its configuration opens.

    Raises :class:`MonitorError` when there is none, :class:`StateError` when no filter can be put into it.
    """
    nodes = await blocknodes.nodes_of(monitor, key)
    below = (await _children(monitor)).get(nodes.top, {}).get("file", "")
    if graph.get("driver") != "throttle" or below != nodes.format:
        raise StateError(
            f"{key}: QEMU has it open in a way that cannot be read while it runs",
            hint="Shut the VM down and start it again, then back it up.",
        )
    options = {name: value for name, value in graph.items() if name != "file"} | {"node-name": nodes.top}
    return Filtered(key=key, top=nodes.top, image=nodes.format, size=nodes.size, options=options)


async def open_fleece(monitor: Monitor, drive: Filtered, descriptor: int) -> None:
    """Let QEMU open an empty qcow2 of the drive's size; the descriptor stays ours."""
    number = await monitor.add_fd(descriptor)
    try:
        lax = {"discard": "unmap", "cache": {"direct": False, "no-flush": True}}
        file = {"driver": "file", "filename": f"/dev/fdset/{number}", **lax}
        fleece = {"driver": "qcow2", "node-name": drive.node("fleece"), **lax, "file": file}
        await monitor.execute("blockdev-add", {**fleece, "detect-zeroes": "unmap"})
    finally:
        await monitor.execute("remove-fd", {"fdset-id": number})
    if drive.in_thread:
        filler = {"driver": "null-co", "node-name": drive.node("filler"), "size": drive.size}
        await monitor.execute("blockdev-add", filler)


@contextlib.asynccontextmanager
async def standing(monitor: Monitor) -> AsyncIterator[None]:
    """Let the guest stand still inside the block, unless it does anyway."""
    ran = await monitor.query_status() == "running"
    await monitor.stop()  # it also waits for requests that are under way
    try:
        yield
    finally:
        if ran:
            await monitor.cont()


async def insert(monitor: Monitor, drives: Sequence[Filtered]) -> None:
    """Put the filters in; the guest stands still. From here on each view is of this moment."""
    plain = [drive for drive in drives if not drive.in_thread]
    for drive in drives:
        if drive.in_thread:
            await _attach(monitor, drive, drive.image)
            await _rest_on(monitor, drive, drive.node("filler"))
        await monitor.execute(
            "blockdev-add",
            {
                "driver": "copy-before-write", "node-name": drive.node("filter"), "file": drive.image,
                "target": drive.node("fleece"), "on-cbw-error": "break-snapshot", "cbw-timeout": TIMEOUT,
            },
        )  # fmt: skip
        if drive.in_thread:
            await _attach(monitor, drive, drive.node("filter"))
            await _add_view(monitor, drive)
            await _rest_on(monitor, drive, drive.node("filter"))
            await _attach(monitor, drive, drive.top)
    if plain:
        tops = [_resting(drive, drive.node("filter")) for drive in plain]
        await monitor.execute("blockdev-reopen", {"options": tops})
    for drive in plain:
        await _add_view(monitor, drive)


async def _add_view(monitor: Monitor, drive: Filtered) -> None:
    view = {"driver": "snapshot-access", "node-name": drive.node("view"), "file": drive.node("filter")}
    await monitor.execute("blockdev-add", view)


async def _attach(monitor: Monitor, drive: Filtered, node: str) -> None:
    """Let the drive's device use ``node``."""
    device = {"path": f"/machine/peripheral/{drive.key}", "property": "drive", "value": node}
    await monitor.execute("qom-set", device)


async def _rest_on(monitor: Monitor, drive: Filtered, child: str) -> None:
    """Let the drive's throttle filter lie on ``child``."""
    await monitor.execute("blockdev-reopen", {"options": [_resting(drive, child)]})


def _resting(drive: Filtered, child: str) -> dict[str, Any]:
    return {**drive.options, "file": child}


async def begin_copy(monitor: Monitor, drive: Filtered, path: Path) -> None:
    """Begin to write the drive's view to the NBD server on the socket at ``path``."""
    server = {"type": "unix", "path": str(path)}
    target = {"driver": "nbd", "node-name": drive.node("target"), "server": server, "export": drive.key}
    await monitor.execute("blockdev-add", target)
    await monitor.execute(
        "blockdev-backup",
        {
            "job-id": drive.job, "device": drive.node("view"), "target": drive.node("target"),
            "sync": "full", "auto-dismiss": False, "x-perf": {"max-workers": WORKERS},
        },
    )  # fmt: skip


async def hold_copy(monitor: Monitor, drive: Filtered, held: bool) -> None:
    """Pause the drive's job, or let it go on. One that has ended is no error."""
    with contextlib.suppress(MonitorError):
        await monitor.execute("job-pause" if held else "job-resume", {"id": drive.job})


async def end_copy(monitor: Monitor, drive: Filtered) -> None:
    """End the drive's job wherever it is, and let go of the server."""
    await blockjob.end(monitor, drive.job)
    await blocknodes.remove(monitor, drive.node("target"))


async def withdraw(monitor: Monitor, drives: Sequence[Filtered]) -> bool:
    """Take away all of it, whatever there is of it; answers whether there was anything."""
    there = await blocknodes.names(monitor)
    ours = [drive for drive in drives if any(drive.node(part) in there for part in _PARTS)]
    for drive in ours:
        await end_copy(monitor, drive)
    if ours:
        async with standing(monitor):
            for drive in ours:
                await _take_out(monitor, drive)
    return bool(ours)


_PARTS = ("fleece", "filler", "filter", "view", "target")


async def _take_out(monitor: Monitor, drive: Filtered) -> None:
    """The drive's graph as it was, from whichever state it is in."""
    filter_, filler, top = drive.node("filter"), drive.node("filler"), drive.top
    there = await blocknodes.names(monitor)
    if drive.node("view") in there:
        await blocknodes.remove(monitor, drive.node("view"))
    below = (await _children(monitor)).get(top, {}).get("file", "")
    if not drive.in_thread:
        if below == filter_:
            await _rest_on(monitor, drive, drive.image)
    else:
        at = await blocknodes.top_of(monitor, drive.key)
        if below == filter_:
            if at == top:
                await _attach(monitor, drive, filter_)
                at = filter_
            await _rest_on(monitor, drive, filler)
        if at == filter_:
            await _attach(monitor, drive, drive.image)
    await blocknodes.remove(monitor, filter_)
    if drive.in_thread:
        if (await _children(monitor)).get(top, {}).get("file") != drive.image:
            await _rest_on(monitor, drive, drive.image)
        if await blocknodes.top_of(monitor, drive.key) != top:
            await _attach(monitor, drive, top)
        await blocknodes.remove(monitor, filler)
    await blocknodes.remove(monitor, drive.node("fleece"))


async def _children(monitor: Monitor) -> dict[str, dict[str, str]]:
    """Node → its children: what it is to them → which node."""
    graph = await monitor.execute("x-debug-query-block-graph")
    names = {node["id"]: str(node["name"]) for node in graph["nodes"]}
    found: dict[str, dict[str, str]] = {}
    for edge in graph["edges"]:
        if edge["parent"] in names:
            found.setdefault(names[edge["parent"]], {})[str(edge["name"])] = names.get(edge["child"], "")
    return found
