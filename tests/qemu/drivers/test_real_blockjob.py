"""Mirrors of a real QEMU's drives: moved back and forth, split, cancelled, and out of room."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from guestkit.guest import Guest
from guestkit.lab import Lab

from vms.errors import MonitorError
from vms.qemu import blockjob, blocknodes
from vms.qemu.monitor import Monitor
from vms.storage.base import Volume

MIB = 1 << 20
SIZE = 64 * MIB
FROZEN = {"memory": "64", "ostype": "l26", "cpu": "qemu64", "freeze": "1", "scsihw": "virtio-scsi-single"}
"""A VM whose CPU never runs: its drives are all that is asked of it."""


def graph_of(lab: Lab, vmid: int, config: Mapping[str, str], key: str, top: str) -> dict[str, Any]:
    return blocknodes.drive_graph(config, lab.context(vmid), key, top)


async def filled(lab: Lab, fmt: str = "qcow2", mib: int = 8) -> str:
    volid = await lab.disk(101, SIZE, fmt=fmt)
    words = ["qemu-io", "-f", fmt, "-c", f"write -q -P 90 0 {mib}M", str(lab.storage.path(volid))]
    subprocess.run(words, check=True)
    return volid


def same(one: Path, two: Path) -> bool:
    words = ["qemu-img", "compare", "-U", "-q", "-f", one.suffix[1:], "-F", two.suffix[1:]]
    return subprocess.run([*words, str(one), str(two)], check=False).returncode == 0


async def opened(lab: Lab, guest: Guest, config: Mapping[str, str], key: str, fmt: Any) -> tuple[str, Volume]:
    """A target for the drive, open in QEMU; its top node and its volume."""
    volume = await lab.storage.allocate(101, SIZE, fmt)
    top = await blocknodes.free_top(guest.monitor, key)
    graph = graph_of(lab, 101, {**config, key: volume.volid}, key, top)
    assert await blockjob.open_target(guest.monitor, graph) == top
    return top, volume


@pytest.mark.parametrize("key", ["scsi0", "virtio1", "sata2", "ide3"])
async def test_a_drive_there_and_back(lab: Lab, key: str) -> None:
    """With an I/O thread where the bus has one; sparse stays sparse, and the second move finds its way."""
    thread = ",iothread=1" if key[:4] in ("scsi", "virt") else ""
    source = await filled(lab)
    config = {**FROZEN, key: f"{source}{thread}"}
    monitor = (guest := await lab.start(101, config)).monitor
    before = await blocknodes.nodes_of(monitor, key)
    assert (before.top, before.driver, before.size) == (f"drive-{key}", "qcow2", SIZE)
    assert before.filename == str(lab.storage.path(source))
    top, volume = await opened(lab, guest, config, key, "raw")
    assert top == f"drive-{key}-1"
    heard: list[float] = []

    async def progress(fraction: float) -> None:
        heard.append(fraction)

    await blockjob.mirror(monitor, key, before.top, top, progress)
    await blockjob.pivot(monitor, key)
    await blockjob.settle(monitor, graph_of(lab, 101, {**config, key: volume.volid}, key, top))
    await blocknodes.remove(monitor, before.top)
    await blocknodes.remove(monitor, before.top)
    now = await blocknodes.nodes_of(monitor, key)
    assert (now.top, now.driver, now.filename) == (top, "raw", str(volume.path))
    assert same(lab.storage.path(source), volume.path)
    assert (await lab.storage.find(volume.volid)).used < 10 * MIB
    assert await blocknodes.names(monitor) == {now.top, now.format, now.file}
    assert all(0 <= fraction <= 1 for fraction in heard)
    back, second = await opened(lab, guest, config, key, "qcow2")
    assert back == f"drive-{key}"
    await monitor.execute("block_resize", {"node-name": now.top, "size": SIZE})
    await blockjob.mirror(monitor, key, now.top, back)
    await blockjob.pivot(monitor, key)
    await blocknodes.remove(monitor, now.top)
    assert (await blocknodes.nodes_of(monitor, key)).filename == str(second.path)
    assert same(lab.storage.path(source), second.path)


async def test_the_uefi_variables_move_too(lab: Lab) -> None:
    """The flash chip has no device id; its size is the firmware's, in whichever format."""
    config = {**FROZEN, "bios": "ovmf", "efidisk0": await lab.efi_disk(101, keys=False)}
    monitor = (await lab.start(101, config)).monitor
    before = await blocknodes.nodes_of(monitor, "efidisk0")
    volume = await lab.storage.allocate(101, before.size, "raw")
    moved = {**config, "efidisk0": f"{volume.volid},efitype=4m"}
    graph = graph_of(lab, 101, moved, "efidisk0", await blocknodes.free_top(monitor, "efidisk0"))
    top = await blockjob.open_target(monitor, graph)
    await blockjob.mirror(monitor, "efidisk0", before.top, top)
    await blockjob.pivot(monitor, "efidisk0")
    await blockjob.settle(monitor, graph)
    await blocknodes.remove(monitor, before.top)
    now = await blocknodes.nodes_of(monitor, "efidisk0")
    assert (now.filename, now.size) == (str(volume.path), before.size)
    assert same(Path(before.filename), volume.path)


async def test_a_split_leaves_the_device_where_it_was(lab: Lab) -> None:
    config = {**FROZEN, "scsi0": f"{await filled(lab)},iothread=1"}
    monitor = (guest := await lab.start(101, config)).monitor
    before = await blocknodes.nodes_of(monitor, "scsi0")
    top, volume = await opened(lab, guest, config, "scsi0", "qcow2")
    await blockjob.mirror(monitor, "scsi0", before.top, top)
    await blockjob.split(monitor, "scsi0")
    await blocknodes.remove(monitor, top)
    assert await blocknodes.nodes_of(monitor, "scsi0") == before
    assert same(Path(before.filename), volume.path)
    assert await monitor.execute("query-jobs") == []


async def test_a_cancelled_mirror_leaves_no_job(lab: Lab) -> None:
    config = {**FROZEN, "scsi0": await filled(lab)}
    monitor = (guest := await lab.start(101, config)).monitor
    before = await blocknodes.nodes_of(monitor, "scsi0")
    top, _ = await opened(lab, guest, config, "scsi0", "qcow2")
    under_way = asyncio.Event()

    async def progress(fraction: float) -> None:
        under_way.set()

    slow = blockjob.mirror(monitor, "scsi0", before.top, top, progress, speed=MIB)
    work = asyncio.create_task(slow)
    async with asyncio.timeout(20):
        await under_way.wait()
    assert await blockjob.query(monitor, blockjob.job_name("scsi0"))
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert await monitor.execute("query-jobs") == []
    for _ in range(2):
        await blockjob.abandon(monitor, "scsi0", top)
    assert await blocknodes.nodes_of(monitor, "scsi0") == before
    assert top not in await blocknodes.names(monitor)


async def test_a_full_target_is_told(lab: Lab) -> None:
    """The target has less room than the data; the job says so and the device never left its source."""
    config = {**FROZEN, "scsi0": await filled(lab)}
    monitor = (await lab.start(101, config)).monitor
    before = await blocknodes.nodes_of(monitor, "scsi0")
    small = {
        "driver": "blkdebug", "node-name": "target", "image": {"driver": "null-co", "size": SIZE},
        "inject-error": [{"event": "none", "iotype": "write", "errno": 28}],
    }  # fmt: skip
    await monitor.execute("blockdev-add", small)
    with pytest.raises(MonitorError, match="No space left on device"):
        await blockjob.mirror(monitor, "scsi0", before.top, "target")
    await blockjob.abandon(monitor, "scsi0", "target")
    assert await blocknodes.nodes_of(monitor, "scsi0") == before
    with pytest.raises(MonitorError, match="no longer knows") as caught:
        await blockjob.wait_job(monitor, "mirror-scsi0")
    assert caught.value.error_class == blockjob.GONE


async def test_a_drive_that_is_empty_or_missing(lab: Lab) -> None:
    monitor = (await lab.start(101, {**FROZEN, "ide2": "none,media=cdrom"})).monitor
    for key in ("ide2", "scsi0"):
        with pytest.raises(MonitorError, match="nothing in drive") as caught:
            await blocknodes.nodes_of(monitor, key)
        assert caught.value.error_class == "DeviceNotFound"


class Late:
    """A monitor through which a cancelling comes when the job has ended by itself a moment before."""

    def __init__(self, monitor: Monitor, job_id: str) -> None:
        self._monitor = monitor
        self._job_id = job_id
        self.refused = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._monitor, name)

    async def execute(self, command: str, arguments: Any = None) -> Any:
        if command != "job-cancel":
            return await self._monitor.execute(command, arguments)
        async with asyncio.timeout(30):
            while (await blockjob.query(self._monitor, self._job_id) or {}).get("status") != "concluded":
                await asyncio.sleep(0.01)
        try:
            return await self._monitor.execute(command, arguments)
        except MonitorError as error:
            self.refused = error.description
            raise


async def test_a_job_that_ends_just_before_it_is_cancelled(lab: Lab) -> None:
    source = await filled(lab)
    config = {**FROZEN, "scsi0": source}
    monitor = (guest := await lab.start(101, config)).monitor
    top, _ = await opened(lab, guest, config, "scsi0", "raw")
    device = (await blocknodes.nodes_of(monitor, "scsi0")).top
    job = {"job-id": "copy", "device": device, "target": top, "sync": "full", "auto-dismiss": False}
    await monitor.execute("blockdev-backup", {**job, "speed": 32 * MIB})
    late = Late(monitor, "copy")
    assert await blockjob.end(late, "copy")  # type: ignore[arg-type]
    assert "concluded" in late.refused
    assert await blockjob.query(monitor, "copy") is None
    await blocknodes.remove(monitor, top)
