"""When a change of each option takes effect on a machine that runs."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from vms.config.pending import (
    CLASSES,
    COLD_PARTS,
    LIMIT_PARTS,
    NOTED_PARTS,
    REPLUG_PARTS,
    Class,
    all_keys,
    class_of,
    hotplugged,
    joined_pending,
    split_pending,
    verdict,
)
from vms.hardware.buses import DRIVES
from vms.hardware.net import Net
from vms.schema.option import options_of

ALL = {"hotplug": "network,disk,cpu,memory,usb,cloudinit", "numa": "1"}
DISK = "local:100/vm-100-disk-0.qcow2"
CARD = "virtio=BC:24:11:00:00:01,bridge=vmbr0"


def test_every_option_has_a_class() -> None:
    assert set(CLASSES) == all_keys()


def test_every_part_of_a_drive_and_a_card_is_spoken_for() -> None:
    """A part that waits, a limit, a description, or one of those that are noted at once."""
    at_once = {"backup", "replicate", "shared", "detect_zeroes", "snapshot", "rerror", "werror", "serial",
               "wwn", "model", "scsiblock"}  # fmt: skip
    parts = {option.name for kind in DRIVES.values() for option in options_of(kind)}
    assert parts == COLD_PARTS | LIMIT_PARTS | NOTED_PARTS | at_once | {"file", "media"}
    card = {option.name for option in options_of(Net)}
    assert card == REPLUG_PARTS | {"bridge", "tag", "trunks", "firewall", "link_down", "rate"}


@pytest.mark.parametrize(
    ("key", "old", "new", "how"),
    [
        ("name", "a", "b", "now"),
        ("description", None, "text", "now"),
        ("description", "text", None, "now"),
        ("tags", None, "web", "now"),
        ("onboot", None, "1", "now"),
        ("protection", None, "1", "now"),
        ("startup", None, "order=1", "now"),
        ("shares", None, "0", "now"),
        ("vmstatestorage", None, "local", "now"),
        ("hookscript", None, "local:snippets/x", "now"),
        ("ciuser", None, "anna", "now"),
        ("ipconfig0", None, "ip=dhcp", "now"),
        ("unused0", DISK, None, "now"),
        ("cores", None, "2", "wait"),
        ("memory", "512", "512", "same"),
        ("cpuunits", None, "200", "tell"),
        ("cpulimit", "1", None, "tell"),
        ("balloon", "512", "256", "tell"),
        ("balloon", None, "256", "tell"),
        ("balloon", "256", "0", "wait"),
        ("balloon", "0", None, "wait"),
        ("agent", "1", "1,fstrim_cloned_disks=1", "now"),
        ("agent", None, "0", "now"),
        ("agent", "1", "1,type=isa", "wait"),
        ("agent", "0", "1", "wait"),
        ("hotplug", None, "disk,usb", "now"),
        ("hotplug", None, "disk,cpu", "wait"),
        ("hotplug", "memory", None, "wait"),
        ("boot", "order=scsi0", "order=scsi0;net0", "wait"),
        ("efidisk0", None, "local:100/vm-100-disk-3.qcow2", "wait"),
        ("serial0", None, "socket", "wait"),
        ("vga", None, "qxl", "wait"),
        # disks
        ("scsi1", None, DISK, "plug"),
        ("virtio1", DISK, None, "unplug"),
        ("scsi1", DISK, "local:100/vm-100-disk-9.qcow2", "replug"),
        ("sata1", None, DISK, "wait"),
        ("ide0", DISK, None, "wait"),
        ("scsi1", DISK, f"{DISK},cache=writeback", "wait"),
        ("scsi1", DISK, f"{DISK},cache=writeback,mbps=5", "wait"),
        ("scsi1", DISK, f"{DISK},mbps=5,iops_rd=100", "tell"),
        ("sata1", f"{DISK},mbps=5", DISK, "tell"),
        ("scsi1", DISK, f"{DISK},backup=0,serial=x", "now"),
        ("scsi1", f"{DISK},size=8G", DISK, "same"),
        # discs
        ("ide2", "none,media=cdrom", "local:iso/a.iso,media=cdrom", "tell"),
        ("ide2", "local:iso/a.iso,media=cdrom", "none,media=cdrom", "tell"),
        ("ide2", "none,media=cdrom", None, "wait"),
        ("scsi2", None, "none,media=cdrom", "plug"),
        ("scsi2", "local:iso/a.iso,media=cdrom", DISK, "replug"),
        ("scsi2", "local:100/vm-100-cloudinit.raw,media=cdrom", "none,media=cdrom", "replug"),
        # cards
        ("net0", None, CARD, "plug"),
        ("net0", CARD, None, "unplug"),
        ("net0", CARD, CARD.replace("vmbr0", "vmbr1"), "tell"),
        ("net0", CARD, f"{CARD},tag=5", "tell"),
        ("net0", CARD, f"{CARD},link_down=1,rate=5,firewall=1,trunks=5", "tell"),
        ("net0", CARD, CARD.replace(",bridge=vmbr0", ""), "replug"),
        ("net0", CARD, CARD.replace("virtio", "e1000"), "replug"),
        ("net0", CARD, CARD.replace(":01", ":02"), "replug"),
        ("net0", CARD, f"{CARD},queues=2", "replug"),
        ("net0", CARD, f"{CARD},mtu=1400", "replug"),
        # the rest that can be plugged
        ("usb0", None, "spice", "plug"),
        ("usb0", "spice", None, "unplug"),
        ("tablet", None, "0", "tell"),
        ("vcpus", None, "2", "tell"),
        ("memory", "1024", "2048", "tell"),
    ],
)
def test_with_everything_plugged(key: str, old: str | None, new: str | None, how: str) -> None:
    running = ALL | ({key: old} if old is not None else {})
    if key == "hotplug" and old is None:
        del running["hotplug"]
    assert verdict(key, new, running).how == how


@pytest.mark.parametrize(
    ("key", "old", "new", "words"),
    [
        ("scsi1", None, DISK, "disk"),
        ("virtio1", DISK, None, "disk"),
        ("net0", None, CARD, "network"),
        ("net0", CARD, CARD.replace("virtio", "e1000"), "network"),
        ("usb0", None, "spice", "usb"),
        ("tablet", None, "0", "usb"),
        ("vcpus", None, "2", "cpu"),
        ("memory", "1024", "2048", "memory"),
    ],
)
@pytest.mark.parametrize("hotplug", ["0", None])
def test_with_nothing_or_the_usual(
    key: str, old: str | None, new: str | None, words: str, hotplug: str | None
) -> None:
    """What may not be plugged waits and says why; network, disk and USB are allowed unless switched off."""
    running = {key: old} if old is not None else {}
    running |= {"hotplug": hotplug} if hotplug else {}
    found = verdict(key, new, running)
    usual = hotplug is None and words in ("disk", "network", "usb")
    assert found.waits is not usual
    assert usual or f"'{words}'" in found.why


def test_memory_needs_numa() -> None:
    assert "NUMA" in verdict("memory", "2048", {"memory": "1024", "hotplug": "memory"}).why


def test_what_the_host_side_changes_needs_no_hotplug() -> None:
    """A medium, a limit, a cable, a bridge."""
    bare: Mapping[str, str] = {"hotplug": "0"}
    assert verdict("net0", f"{CARD},tag=5", {**bare, "net0": CARD}).on_node
    assert verdict("scsi0", f"{DISK},mbps=1", {**bare, "scsi0": DISK}).on_node
    medium = {**bare, "ide2": "none,media=cdrom"}
    assert verdict("ide2", "local:iso/a.iso,media=cdrom", medium).on_node


def test_words_of_hotplug() -> None:
    assert hotplugged("0") == frozenset()
    assert hotplugged("1") == hotplugged(None) == {"network", "disk", "usb"}
    assert hotplugged("disk;cpu") == {"disk", "cpu"}


def test_pending_round_trip() -> None:
    pending = {"cores": "2", "net1": None, "!scsi1": None}
    changes, forced = split_pending(pending)
    assert changes == {"cores": "2", "net1": None, "scsi1": None}
    assert forced == {"scsi1"}
    assert joined_pending(changes, forced) == pending


def test_slots_go_by_their_kind() -> None:
    assert class_of("net31") is Class.NETWORK
    assert class_of("scsi30") is Class.DISK
    with pytest.raises(KeyError):
        class_of("nonsense")
