"""A guest whose disk moves and grows under it: what it writes meanwhile, and what it sees."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

from guestkit.guest import Guest
from guestkit.lab import Lab

from vms.qemu import blockjob, blocknodes
from vms.storage.base import DiskFormat, Volume

MIB = 1 << 20
SIZE = 16 * MIB
KEY = "scsi5"
WRITER = """
i=0; while [ ! -e /tmp/stop ]; do i=$((i+1))
yes "block $i of the guest" | head -c 65536 | dd of=/dev/sda bs=64k seek=$((i % 200)) conv=notrunc 2>/dev/null
[ $((i % 20)) = 0 ] && sync; echo $i >/tmp/count; done; sync; touch /tmp/ended
"""


async def plugged(lab: Lab, guest: Guest) -> Volume:
    """A disk behind the graph the product would open, on the warm guest's controller."""
    volume = await lab.storage.allocate(guest.vmid, SIZE, "qcow2")
    throttle = {"qom-type": "throttle-group", "id": f"throttle-drive-{KEY}", "limits": {}}
    await guest.monitor.execute("object-add", throttle)
    await guest.monitor.execute("blockdev-add", graph(lab, guest, volume, f"drive-{KEY}"))
    device = {"driver": "scsi-hd", "id": KEY, "bus": "warmscsi.0", "drive": f"drive-{KEY}"}
    await guest.monitor.execute("device_add", device)
    await guest.shell("while [ ! -b /dev/sda ]; do mdev -s; done")
    return volume


def graph(lab: Lab, guest: Guest, volume: Volume, top: str) -> dict[str, object]:
    config = {"ostype": "l26", "scsihw": "virtio-scsi-pci", KEY: volume.volid}
    return blocknodes.drive_graph(config, lab.context(guest.vmid), KEY, top)


async def moved(lab: Lab, guest: Guest, fmt: DiskFormat) -> Volume:
    """The disk on another volume, as the product's task does it."""
    monitor = guest.monitor
    before = await blocknodes.nodes_of(monitor, KEY)
    target = await lab.storage.allocate(guest.vmid, before.size, fmt)
    top = await blocknodes.free_top(monitor, KEY)
    await blockjob.open_target(monitor, graph(lab, guest, target, top))
    await blockjob.mirror(monitor, KEY, before.top, top)
    await monitor.stop()
    await blockjob.pivot(monitor, KEY)
    await monitor.cont()
    await blockjob.settle(monitor, graph(lab, guest, target, top))
    await blocknodes.remove(monitor, before.top)
    return target


def digest(path: Path, to: Path) -> str:
    """SHA-256 of all a volume holds. Stop the guest first: QEMU keeps tables of a qcow2 in its memory."""
    words = ["qemu-img", "convert", "-U", "-f", path.suffix[1:], "-O", "raw", str(path), str(to)]
    subprocess.run(words, check=True)
    return hashlib.sha256(to.read_bytes()).hexdigest()


async def test_a_disk_that_moves_and_grows_while_the_guest_writes(
    lab: Lab, warm_guest: Callable[[int], Awaitable[Guest]]
) -> None:
    guest = await warm_guest(108)
    first = await plugged(lab, guest)
    await guest.agent.run(["/bin/sh", "-c", WRITER])
    await guest.shell("while [ ! -s /tmp/count ]; do :; done")
    raw = await moved(lab, guest, "raw")
    begun = int(await guest.shell("cat /tmp/count"))
    qcow2 = await moved(lab, guest, "qcow2")
    await guest.shell(f"while [ $(cat /tmp/count) -le {begun} ]; do :; done")
    await guest.shell("touch /tmp/stop; while [ ! -e /tmp/ended ]; do :; done")
    inside = (await guest.shell("echo 3 >/proc/sys/vm/drop_caches; sha256sum /dev/sda")).split()[0]
    await guest.monitor.stop()
    assert digest(qcow2.path, lab.root / "now") == inside
    assert digest(raw.path, lab.root / "old") != inside  # nothing goes there any more
    await guest.monitor.cont()
    assert (await blocknodes.nodes_of(guest.monitor, KEY)).filename == str(qcow2.path)
    await lab.storage.free(raw.volid)
    await lab.storage.free(first.volid)
    nodes = await blocknodes.nodes_of(guest.monitor, KEY)
    await guest.monitor.execute("block_resize", {"node-name": nodes.top, "size": 24 * MIB})
    await guest.shell(f"while [ $(cat /sys/block/sda/size) != {24 * MIB // 512} ]; do :; done")
    assert (await lab.storage.find(qcow2.volid)).size == 24 * MIB


async def test_a_move_that_is_given_up_leaves_the_guest_alone(
    lab: Lab, warm_guest: Callable[[int], Awaitable[Guest]]
) -> None:
    guest = await warm_guest(109)
    first = await plugged(lab, guest)
    await guest.shell("yes kept | head -c 2097152 >/dev/sda; sync")
    target = await lab.storage.allocate(guest.vmid, SIZE, "raw")
    top = await blocknodes.free_top(guest.monitor, KEY)
    await blockjob.open_target(guest.monitor, graph(lab, guest, target, top))
    nodes = await blocknodes.nodes_of(guest.monitor, KEY)
    await blockjob.mirror(guest.monitor, KEY, nodes.top, top)
    await blockjob.abandon(guest.monitor, KEY, top)
    await lab.storage.free(target.volid)
    await guest.shell("yes more | head -c 65536 >/dev/sda; sync")
    inside = (await guest.shell("sha256sum /dev/sda")).split()[0]
    await guest.monitor.stop()
    assert digest(first.path, lab.root / "now") == inside
