"""Taps on a bridge of the test's own, handed to a real QEMU; and user-mode networking."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from smallest import minimal

from vms.errors import NetworkError
from vms.host.paths import VMPaths
from vms.network import rate
from vms.network.bridge import bridges, read_bridge
from vms.network.tap import open_tap, remove_leftovers, replug
from vms.network.usermode import Forward, forwards
from vms.qemu import process

SYS = Path("/sys/class/net")
VMID = 987654
OTHER = 987655
"""The one whose taps are swept away; tests beside this one keep theirs."""
MAY_MAKE_LINKS = os.geteuid() == 0


def ip(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ip", *words], capture_output=True, check=False)


@pytest.fixture
def bridge() -> Iterator[str]:
    """A bridge that goes with the test. Whoever may make none is told so, which is the test then."""
    name = f"pvt{os.getpid() % 100000}"
    if MAY_MAKE_LINKS:
        made = ip("link", "add", name, "mtu", "1400", "type", "bridge")
        assert made.returncode == 0, made.stderr
        ip("link", "set", name, "up")
    yield name
    if MAY_MAKE_LINKS:
        ip("link", "del", name)


async def refused(bridge: str) -> bool:
    """Without the right to make links there is a clear error, and no more to see."""
    if MAY_MAKE_LINKS:
        return False
    with pytest.raises(NetworkError):
        await open_tap(VMID, 0, bridge)
    return True


async def test_a_tap_joins_its_bridge_and_goes_with_its_descriptor(bridge: str) -> None:
    if await refused(bridge):
        return
    tap = await open_tap(VMID, 0, bridge)
    assert tap.name == f"tap{VMID}i0"
    assert (SYS / tap.name / "master").resolve().name == bridge
    assert (SYS / tap.name / "mtu").read_text().strip() == "1400"
    assert int((SYS / tap.name / "flags").read_text(), 16) & 1
    found = read_bridge(bridge)
    assert found is not None
    assert (found.mtu, found.active, found.ports) == (1400, True, (tap.name,))
    assert bridge in {known.name for known in bridges()}
    with pytest.raises(NetworkError, match="in use"):
        await open_tap(VMID, 0, bridge)
    tap.close()
    tap.close()
    assert not (SYS / tap.name).exists()


async def test_qemu_takes_the_tap_and_takes_it_along(bridge: str, paths: VMPaths) -> None:
    if await refused(bridge):
        return
    tap = await open_tap(VMID, 1, bridge, mtu=1300)
    argv = minimal(
        paths, "-netdev", f"tap,id=net0,fd={tap.fd}", "-device", "virtio-net-pci,netdev=net0,id=net0"
    )  # fmt: skip
    launched = await process.launch(argv, qmp=paths.qmp, log=paths.log, pass_fds=[tap.fd])
    tap.close()
    assert (SYS / f"tap{VMID}i1" / "mtu").read_text().strip() == "1300"
    assert f"fd={argv[argv.index('-netdev') + 1].rpartition('=')[2]}" in await launched.monitor.human(
        "info network"
    )
    await process.terminate(launched.running)
    async with asyncio.timeout(10):
        while (SYS / f"tap{VMID}i1").exists():
            await asyncio.sleep(0.01)
    await launched.monitor.close()


async def test_a_tap_is_plugged_live(bridge: str, paths: VMPaths) -> None:
    if await refused(bridge):
        return
    launched = await process.launch(minimal(paths), qmp=paths.qmp, log=paths.log)
    tap = await open_tap(VMID, 2, bridge)
    await launched.monitor.send_fd("net2", tap.fd)
    tap.close()
    await launched.monitor.execute("netdev_add", {"type": "tap", "id": "net2", "fd": "net2"})
    assert (SYS / f"tap{VMID}i2").exists()
    await process.terminate(launched.running)
    await launched.monitor.close()


async def test_a_tag_needs_a_bridge_that_filters(bridge: str) -> None:
    if await refused(bridge):
        return
    with pytest.raises(NetworkError, match="does not filter VLANs") as caught:
        await open_tap(VMID, 3, bridge, tag=10)
    assert "vlan_filtering 1" in caught.value.hint
    with pytest.raises(NetworkError, match="so tag 30 cannot be kept apart"):
        await open_tap(VMID, 2, bridge, trunks=[30, 31])
    with pytest.raises(NetworkError, match="not between 1 and 4094"):
        await open_tap(VMID, 3, bridge, tag=4095)
    assert not (SYS / f"tap{VMID}i3").exists()
    if ip("link", "set", bridge, "type", "bridge", "vlan_filtering", "1").returncode == 0:
        tap = await open_tap(VMID, 3, bridge, tag=10)
        shown = subprocess.run(["bridge", "vlan", "show", "dev", tap.name], capture_output=True, text=True)
        assert "10 PVID Egress Untagged" in shown.stdout
        assert len(shown.stdout.split("PVID")) == 2
        tap.close()


async def test_what_the_kernel_refuses_leaves_no_tap(bridge: str) -> None:
    if await refused(bridge):
        return
    with pytest.raises(NetworkError, match="could not get MTU 70000"):
        await open_tap(VMID, 4, bridge, mtu=70000)
    ip("link", "set", bridge, "down")
    with pytest.raises(NetworkError, match="is down"):
        await open_tap(VMID, 4, bridge)
    assert not (SYS / f"tap{VMID}i4").exists()


async def test_leftovers_of_one_vm_are_removed(bridge: str) -> None:
    if await refused(bridge):
        return
    for name in (f"tap{OTHER}i5", f"tap{OTHER}0i5"[:15]):
        assert ip("tuntap", "add", "dev", name, "mode", "tap").returncode == 0
    assert await remove_leftovers(OTHER) == [f"tap{OTHER}i5"]
    assert (SYS / f"tap{OTHER}0i5").exists()
    assert await remove_leftovers(OTHER * 10) == [f"tap{OTHER}0i5"]
    assert await remove_leftovers(OTHER) == []


async def test_user_mode_forwardings_live(paths: VMPaths) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = minimal(paths, "-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,id=net0")
    launched = await process.launch(argv, qmp=paths.qmp, log=paths.log)
    monitor = launched.monitor
    forward = Forward("tcp", port, 22)
    await monitor.human(f"hostfwd_add net0 {forward.rule}")
    assert forwards(await monitor.human("info usernet")) == [forward]
    with socket.create_connection(("127.0.0.1", port), timeout=10):
        pass
    await monitor.human(f"hostfwd_remove net0 {forward.removal}")
    assert forwards(await monitor.human("info usernet")) == []
    await process.terminate(launched.running)
    await monitor.close()


async def test_a_tap_moves_to_another_bridge(bridge: str) -> None:
    """It keeps its packet size; a bridge that is not there changes nothing."""
    if await refused(bridge):
        return
    other = f"{bridge[:12]}b"
    assert ip("link", "add", other, "type", "bridge").returncode == 0
    ip("link", "set", other, "up")
    try:
        tap = await open_tap(VMID, 1, bridge, mtu=1300)
        await replug(VMID, 1, other)
        assert (SYS / tap.name / "master").resolve().name == other
        assert (SYS / tap.name / "mtu").read_text().strip() == "1300"
        with pytest.raises(NetworkError, match="does not exist"):
            await replug(VMID, 1, "nosuchbr")
        assert (SYS / tap.name / "master").resolve().name == other
        tap.close()
    finally:
        ip("link", "del", other)


async def test_a_card_is_slowed_down_both_ways(bridge: str) -> None:
    """The kernel says how fast; lifted or freed, nothing is left."""
    if await refused(bridge):
        return
    tap = await open_tap(VMID, 2, bridge)
    beside = rate.ifb_name(VMID, 2)

    def told(device: str) -> str:
        return subprocess.run(["tc", "qdisc", "show", "dev", device], capture_output=True, text=True).stdout

    await rate.limit(VMID, 2, 2)
    assert "tbf 1: root" in told(tap.name)
    assert "rate 16777Kbit" in told(tap.name)
    assert "ingress ffff:" in told(tap.name)
    assert "rate 16777Kbit" in told(beside)
    await rate.limit(VMID, 2, 0.5)
    assert "rate 4194Kbit" in told(beside)
    await rate.limit(VMID, 2, 0)
    assert "tbf" not in told(tap.name)
    assert not (SYS / beside).exists()
    await rate.limit(VMID, 2, 1)
    tap.close()
    assert await rate.free(VMID, 2) == [beside]
    assert await rate.free(VMID) == []
    with pytest.raises(NetworkError, match="cannot be limited"):
        await rate.limit(VMID, 9, 1)
