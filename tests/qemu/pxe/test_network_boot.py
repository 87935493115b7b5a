"""Guests that boot from the network, served for real: by QEMU's own TFTP and by dnsmasq on a bridge.

The card's own loader is iPXE on both firmwares; it fetches a script, the script a kernel and its ram disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from guestkit.guest import Guest
from guestkit.lab import Lab
from guestkit.media import KERNEL_WORDS, Media

from vms.config.vmconfig import VMConfig
from vms.network.tap import open_tap
from vms.network.usermode import netboot
from vms.qemu.cmdline import command

BOOT = 150
"""Seconds on a busy box; an idle one needs ten (SeaBIOS) to fifteen (OVMF)."""
MAC = "BC:24:11:00:00:0C"
BASE = {
    "memory": "384", "ostype": "l26", "serial0": "socket", "name": "netboot", "boot": "order=net0",
    "net0": f"virtio={MAC}",
}  # fmt: skip
FIRMWARE = ("seabios", "ovmf")


@pytest.fixture
def tftp(tmp_path_factory: pytest.TempPathFactory, guest_media: Media) -> Iterator[Path]:
    """A boot server's folder with the test guest in it, readable by dnsmasq's user."""
    folder = Path("/tmp") / f"pvtftp-{os.getpid()}"
    folder.mkdir(mode=0o755)
    shutil.copy(guest_media.kernel, folder / "vmlinuz")
    shutil.copy(guest_media.initrd, folder / "initrd.img")
    (folder / "boot.ipxe").write_text(
        f"#!ipxe\nkernel vmlinuz initrd=initrd.img {KERNEL_WORDS} pvelite.from=network\n"
        "initrd initrd.img\nboot\n"
    )
    for path in folder.iterdir():
        path.chmod(0o644)
    yield folder
    shutil.rmtree(folder)


async def configured(lab: Lab, firmware: str, net: str = "") -> Mapping[str, str]:
    """The machine; UEFI boots from the network only with a source of random numbers."""
    found = BASE | ({"net0": net} if net else {})
    if firmware == "ovmf":
        found |= {"bios": "ovmf", "efidisk0": await lab.efi_disk(100, keys=False)}
        found |= {"rng0": "source=/dev/urandom"}
    return found


async def booted(guest: Guest, firmware: str) -> None:
    facts = await guest.facts_by_serial(BOOT)
    assert facts.words["booted_from"] == "network"
    assert facts.words["firmware"] == ("uefi" if firmware == "ovmf" else "bios")
    assert facts.nic(MAC)["driver"] == "virtio_net"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("firmware", FIRMWARE)
async def test_user_mode_networking_boots_from_the_nodes_folder(lab: Lab, tftp: Path, firmware: str) -> None:
    lab.facts = replace(lab.facts, netboot=netboot(tftp))
    guest = await lab.start(100, await configured(lab, firmware))
    await booted(guest, firmware)


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@pytest.fixture
def server(tftp: Path) -> Iterator[str]:
    """A bridge, and dnsmasq on it in a network namespace of its own; the bridge's name."""
    number = os.getpid() % 10000
    space, bridge, here, there = f"pvns{number}", f"pvbr{number}", f"pvh{number}", f"pvt{number}"
    ip("netns", "add", space)
    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", space)
        ip("link", "set", here, "master", bridge, "up")
        ip("link", "set", bridge, "up")
        ip("-n", space, "addr", "add", "192.168.77.1/24", "dev", there)
        ip("-n", space, "link", "set", there, "up")
        dnsmasq = subprocess.Popen(
            ["ip", "netns", "exec", space, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
             "--port=0", f"--interface={there}", "--bind-interfaces",
             "--dhcp-range=192.168.77.50,192.168.77.99",
             "--dhcp-boot=boot.ipxe", "--enable-tftp", f"--tftp-root={tftp}", "--leasefile-ro", "--pid-file",
             "--user=root", "--log-facility=-"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield bridge
        finally:
            assert dnsmasq.poll() is None, "dnsmasq ended by itself"
            dnsmasq.terminate()
            dnsmasq.wait(10)
    finally:
        subprocess.run(["ip", "link", "del", bridge], check=False)
        ip("netns", "del", space)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("firmware", FIRMWARE)
async def test_a_bridge_with_a_boot_server(lab: Lab, server: str, firmware: str) -> None:
    lab.facts = replace(lab.facts, bridges=({"name": server, "mtu": 1500},), vhost_net=False)
    config = await configured(lab, firmware, f"virtio={MAC},bridge={server}")
    tap = await open_tap(100, 0, server)
    try:
        context = replace(lab.context(100), taps={"net0": tap.fd})
        argv = command(VMConfig.parse(config), context)
        guest = await lab.start_argv(100, argv, pass_fds=[tap.fd])
    finally:
        tap.close()
    await booted(guest, firmware)


def test_only_a_folder_with_a_loader_counts(tmp_path: Path) -> None:
    assert netboot(tmp_path) == {}
    (tmp_path / "pxelinux.0").write_bytes(b"x")
    assert netboot(tmp_path) == {"folder": str(tmp_path), "file": "pxelinux.0"}
    (tmp_path / "boot.ipxe").write_bytes(b"x")
    assert netboot(tmp_path)["file"] == "boot.ipxe"
