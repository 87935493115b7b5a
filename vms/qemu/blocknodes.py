"""What stands behind a drive of a running VM, by QEMU's own account.

A drive begins as throttle filter ``drive-scsi0`` over a format node over a file node. A move that ends on
another volume leaves a whole new graph behind the device, with other names; whoever resizes, mirrors or
unplugs a drive asks here what it is made of now. Deleting the top node deletes the nodes below it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vms.config.vmconfig import VMConfig
from vms.errors import MonitorError
from vms.hardware.block import Graph
from vms.hardware.context import LaunchContext
from vms.hardware.parts import Blockdev
from vms.hardware.plan import Plan
from vms.qemu.monitor import Monitor

_EFI_VARIABLES = "/machine/system.flash1"
"""How QEMU calls the flash chip that ``efidisk0`` is."""


@dataclass(frozen=True, kw_only=True)
class BlockNodes:
    """The nodes of one drive. ``key`` is the configuration key, which is the device's id too.

    ``top`` is what the device is attached to (the throttle filter), ``format`` the image (``driver``: raw or
    qcow2), ``file`` what opens ``filename``. ``size`` is what the guest sees, in bytes.
    """

    key: str
    top: str
    format: str
    file: str
    driver: str
    filename: str
    size: int


async def nodes_of(monitor: Monitor, key: str) -> BlockNodes:
    """What the drive ``key`` is made of now.

    Raises :class:`MonitorError` (class ``DeviceNotFound``) when there is no such drive or nothing in it.
    """
    top = await top_of(monitor, key)
    graph = await monitor.execute("x-debug-query-block-graph")
    return _drive(graph, {str(node["node-name"]): node for node in await _nodes(monitor)}, key, top)


async def drives(monitor: Monitor) -> list[BlockNodes]:
    """What every drive that has something in it is made of now; ``key`` is how QEMU calls its device."""
    graph = await monitor.execute("x-debug-query-block-graph")
    named = {str(node["node-name"]): node for node in await _nodes(monitor)}
    found = []
    for entry in await monitor.execute("query-block"):
        top = str((entry.get("inserted") or {}).get("node-name", ""))
        if top in named:
            found.append(_drive(graph, named, str(entry.get("qdev") or entry.get("device") or ""), top))
    return found


def _drive(graph: Mapping[str, Any], named: Mapping[str, Any], key: str, top: str) -> BlockNodes:
    chain = _chain(graph, top)
    image = next((name for name in chain if named[name]["drv"] not in _FILTERS), top)
    below = chain[chain.index(image) + 1 :]
    lowest = below[0] if below else image
    return BlockNodes(
        key=key, top=top, format=image, file=lowest, driver=str(named[image]["drv"]),
        filename=str(named[lowest].get("file", "")), size=int(named[top]["image"]["virtual-size"]),
    )  # fmt: skip


_FILTERS = ("throttle", "copy-on-read", "copy-before-write", "mirror_top")


def drive_graph(config: Mapping[str, str], ctx: LaunchContext, key: str, top: str) -> dict[str, Any]:
    """What ``blockdev-add`` opens behind the drive ``key`` of a configuration, its top node called ``top``.

    ``ctx.machine`` should be the machine that runs. Raises :class:`ConfigError`.
    """
    parsed = VMConfig.parse(config)
    graph = Graph(Plan(parsed, ctx))
    if key == "efidisk0":
        found = next(part for part in graph.efi_variables(parsed.get(key)) if isinstance(part, Blockdev))
    else:
        drive = next(drive for slot, _, drive in parsed.drives() if slot == key)
        found = graph.graph(key, drive)
    return {**found.qmp(), "node-name": top}


def cut_to(graph: Mapping[str, Any], size: int) -> dict[str, Any]:
    """The graph with its raw image no longer than ``size``.

    A block device may be larger than the disk mirrored to it, and QEMU mirrors only to the same size.
    """
    if graph["driver"] == "raw":
        return {**graph, "size": size}
    return (
        {**graph, "file": cut_to(graph["file"], size)}
        if isinstance(graph.get("file"), Mapping)
        else dict(graph)
    )


async def top_of(monitor: Monitor, key: str) -> str:
    """The name of the node that the drive's device is attached to. Raises as :func:`nodes_of` does."""
    wanted = {key, f"/machine/peripheral/{key}/virtio-backend", f"/machine/peripheral/{key}"}
    if key == "efidisk0":
        wanted.add(_EFI_VARIABLES)
    for entry in await monitor.execute("query-block"):
        if entry.get("qdev") in wanted or entry.get("device") == f"drive-{key}":
            inserted: Mapping[str, Any] = entry.get("inserted") or {}
            if inserted.get("node-name"):
                return str(inserted["node-name"])
    raise MonitorError(
        "query-block", "DeviceNotFound", f"there is nothing in drive '{key}' of the running VM"
    )


def _chain(graph: Mapping[str, Any], top: str) -> list[str]:
    """From a node down along its ``file`` children, by name."""
    names = {node["id"]: str(node["name"]) for node in graph["nodes"]}
    below = {edge["parent"]: edge["child"] for edge in graph["edges"] if edge["name"] == "file"}
    number = next((number for number, name in names.items() if name == top), None)
    found = []
    while number is not None:
        found.append(names[number])
        number = below.get(number)
    return found


async def names(monitor: Monitor) -> set[str]:
    """Every block node's name."""
    return {str(node["node-name"]) for node in await _nodes(monitor)}


async def _nodes(monitor: Monitor) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await monitor.execute("query-named-block-nodes", {"flat": True})
    return found


async def free_top(monitor: Monitor, key: str) -> str:
    """A name for a new top node of the drive: ``drive-scsi0``, or with a number while that one is taken."""
    taken = await names(monitor)
    wanted = (f"drive-{key}{f'-{number}' if number else ''}" for number in range(len(taken) + 1))
    return next(name for name in wanted if name not in taken)


async def graphs_of(monitor: Monitor, first: str) -> list[str]:
    """The top nodes a drive may have: the one it began with (``drive-scsi0``) and those of its moves."""
    pattern = re.compile(rf"{re.escape(first)}(-[0-9]+)?")
    return sorted(name for name in await names(monitor) if pattern.fullmatch(name))


async def remove(monitor: Monitor, top: str) -> None:
    """Close a graph no device uses, with all below it. One that is gone already is no error."""
    if top in await names(monitor):
        await monitor.execute("blockdev-del", {"node-name": top})


async def remove_left(monitor: Monitor, key: str) -> None:
    """Close every graph made for the drive ``key``, whose device is gone: a move gives it another name."""
    for top in await graphs_of(monitor, f"drive-{key}"):
        await remove(monitor, top)
