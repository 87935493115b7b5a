"""Asked in the wizard, seen inside the guest: one test for each tab.

A machine's fields that no guest can see (name, start order, pool, shares, limits, backup marks) are proven on
the command line and in the configuration elsewhere; here is only what arrives.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from guestkit.media import Media, build_media
from insidekit import Seen
from machines_inside import MAC

pytestmark = [
    pytest.mark.django_db,  # the database is set up only where a test says that it wants one
    pytest.mark.timeout(500),  # the first test of each machine boots it
]

KIB_OF_FIRMWARE = 100 << 10
"""What kernel and firmware keep for themselves of the memory a guest was given, at most."""


def test_general(linux: Seen, uefi: Seen) -> None:
    """Every machine made in the wizard has an identity of its own, which its guest reads from SMBIOS."""
    for seen in (linux, uefi):
        wanted = re.search(r"uuid=([0-9a-f-]{36})", seen.config["smbios1"])
        assert wanted is not None
        assert seen.word("product_uuid").lower() == wanted[1]
        assert seen.word("vmgenid") == "present"
        assert seen.word("arch") == "x86_64"
    assert linux.word("product_uuid") != uefi.word("product_uuid")


def test_os(windows: Seen, linux: Seen) -> None:
    """The chosen image is in one drive, the drivers' image in a second, and no media means an empty one.

    That the image boots is shown in the browser, where the first guest is installed from one.
    """
    full = build_media("full")
    discs = {name: row for name, row in windows.facts.disks.items() if name.startswith("sr")}
    assert {int(row["bytes"]) for row in discs.values()} == {
        full.iso.stat().st_size, full.memtest_iso.stat().st_size
    }  # fmt: skip
    assert {row["driver"] for row in discs.values()} == {"ata_piix"}
    assert not [
        row for row in linux.facts.disks.values() if int(row["bytes"]) > 0 and row["model"] == "QEMU_DVD-ROM"
    ]


def test_system(uefi: Seen, linux: Seen, windows: Seen) -> None:
    """Firmware, Secure Boot, TPM, board, graphics card, SCSI controller; the agent told all this."""
    assert (uefi.word("firmware"), uefi.word("secureboot"), uefi.word("tpm")) == ("uefi", "1", "2")
    assert set(uefi.word("pcr0")) > {"0"}, "the firmware measured itself into the TPM"
    assert uefi.word("product_version").startswith("pc-q35-")
    assert uefi.has_pci("1af4:1050"), "the VirtIO graphics card"
    assert not uefi.has_pci("1234:1111")
    assert linux.word("firmware") == windows.word("firmware") == "bios"
    assert not {"tpm", "secureboot"} & set(linux.facts.words)
    assert linux.word("product_version").startswith("pc-q35-")
    assert linux.has_pci("1234:1111"), "the standard graphics card"
    assert windows.word("product_version").startswith("pc-i440fx-")
    assert windows.has_pci("1000:0012"), "the LSI controller"


def test_disks(linux: Seen, windows: Seen, uefi: Seen, guest_media: Media) -> None:
    """Bus, size, rotational flag, cache, read-only, and a discard that reaches the image or does not."""
    fast, plain, fixed, block = (linux.disk(size) for size in (1, 0.5, 0.375, 0.25))
    assert [row["driver"] for row in (fast, plain, fixed)] == ["virtio_scsi"] * 3
    assert block["driver"] == "virtio_blk"
    assert (fast["rotational"], plain["rotational"]) == ("0", "1")
    assert [row["ro"] for row in (fast, plain, fixed, block)] == ["0", "0", "1", "0"]
    assert (fast["cache"], block["cache"]) == ("write_back", "write_through")
    assert int(fast["discard"]) > 0
    assert linux.notes["scsi0 kept"] < 4 << 20 < 8 << 20 <= linux.notes["scsi1 kept"]
    alone = {linux.facts.disks[name]["pci"] for name in linux.facts.disks if name.startswith("sd")}
    assert len(alone) == 3, "VirtIO SCSI single: a controller for each disk"
    sata, ide, scsi = (windows.disk(size) for size in (0.25, 0.5, 0.75))
    assert (sata["driver"], ide["driver"], scsi["driver"]) == ("ahci", "ata_piix", "sym53c8xx")
    assert (sata["rotational"], ide["rotational"], scsi["rotational"]) == ("0", "1", "1")
    imported = uefi.block(Path(guest_media.disk).stat().st_size)
    assert (uefi.word("booted_from"), imported["driver"]) == ("disk", "virtio_scsi")


def test_cpu(linux: Seen, uefi: Seen, windows: Seen) -> None:
    """Topology, NUMA nodes, processors still unplugged, type and flags."""
    assert [linux.word(name) for name in ("cpus", "sockets", "cores")] == ["4", "2", "4"]
    assert linux.word("numa_nodes") == "2"
    assert [linux.word(f"numa_node{n}").split()[0] for n in (0, 1)] == ["0-1", "2-3"]
    assert [uefi.word(name) for name in ("cpus", "sockets", "cores", "numa_nodes")] == ["2", "1", "2", "1"]
    assert windows.word("cpus") == "1", "one of two is plugged in"
    assert "Nehalem" in windows.word("cpu_model")
    flags = {name: set(seen.word("cpu_flags").split()) for name, seen in (("linux", linux), ("uefi", uefi))}
    level = {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}
    assert level <= flags["linux"] & flags["uefi"], "x86-64-v2"
    assert ("aes" in flags["linux"], "aes" in flags["uefi"]) == (False, True)
    assert ("pdpe1gb" in flags["linux"], "pdpe1gb" in flags["uefi"]) == (True, False)


def test_memory(linux: Seen, uefi: Seen, windows: Seen) -> None:
    """Size, its half in each NUMA node, and a balloon that takes down to the minimum, or none."""
    for seen, size in ((linux, 1024), (uefi, 512), (windows, 768)):
        given, kept = size << 10, int(seen.word("memory_kib"))
        assert given - 2 * KIB_OF_FIRMWARE < kept <= given, f"{size} MiB"
    halves = [int(linux.word(f"numa_node{n}").split()[1]) for n in (0, 1)]
    assert all((512 << 10) - KIB_OF_FIRMWARE < half <= 512 << 10 for half in halves), halves
    assert linux.notes["memory left"] <= 512 << 20
    assert linux.has_pci("1af4:1002"), "the balloon"
    assert not windows.has_pci("1af4:1002"), "no balloon"


def test_network(linux: Seen, windows: Seen, uefi: Seen) -> None:
    """Driver, address, packet size, queues, a pulled plug, several cards and none."""
    first, second = (linux.facts.nic(MAC[name]) for name in ("first", "second"))
    assert first["driver"] == second["driver"] == "virtio_net"
    assert (first["mtu"], second["mtu"]) == ("1400", "1500")
    assert linux.word(f"queues_{first['name']}") == "2"
    assert linux.word(f"queues_{second['name']}") == "1"
    assert second["carrier"] == "0"
    drivers = {windows.facts.nic(address)["driver"] for address in MAC.values()}
    assert drivers - {"8139too"} == {"e1000", "e1000e", "8139cp", "vmxnet3"}
    assert uefi.facts.nics == {}
