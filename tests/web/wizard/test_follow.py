"""The guest system proposes, nobody's choice is overwritten, and it can be taken back."""

from __future__ import annotations

import html

from tests.web.wizard.conftest import Hand


def choose(hand: Hand, group: str, version: str = "") -> Hand:
    hand.press("tab:os") if hand.tab != "os" else None
    hand.press("save", ostype_group=group)
    return hand.press("save", ostype=version) if version else hand


def test_windows_11_brings_its_hardware(hand: Hand) -> None:
    hand.to("os")
    choose(hand, "Microsoft Windows")
    config = hand.config
    assert config["ostype"] == "win11"
    wanted = {"machine": "q35", "bios": "ovmf", "memory": "4096", "scsihw": "virtio-scsi-single"}
    assert {key: config[key] for key in wanted} == wanted
    assert config["ide0"] == "local:32,format=qcow2"
    assert config["net0"] == "e1000,bridge=vmbr0,firewall=1"
    assert config["tpmstate0"] == "local:1,version=v2.0"
    assert config["efidisk0"].startswith("local:1,efitype=4m")
    assert "7 values follow Windows 11/2022/2025" in hand.html


def test_undo_puts_everything_back(hand: Hand) -> None:
    before = hand.to("os").config
    choose(hand, "Microsoft Windows")
    hand.press("undo")
    assert hand.config == {**before, "ostype": "win11"}
    choose(hand, "Other")
    kept = {key: text for key, text in before.items() if key != "machine"}
    assert hand.config == {**kept, "ostype": "other"}, "only the board was nobody's choice"


def test_what_a_person_set_is_never_touched(hand: Hand) -> None:
    hand.to("system").press("save", scsihw="megasas")
    hand.to("disks").press("save", bus="sata")
    hand.to("memory").press("save", memory__current="1024")
    hand.to("network").press("save", model="vmxnet3")
    choose(hand, "Microsoft Windows")
    config = hand.config
    assert (config["scsihw"], config["memory"]) == ("megasas", "1024")
    assert "sata0" in config
    assert config["net0"].startswith("vmxnet3")
    assert config["machine"] == "q35"


def test_old_windows(hand: Hand) -> None:
    hand.to("os")
    choose(hand, "Microsoft Windows", "wxp")
    config = hand.config
    assert config["net0"].startswith("rtl8139")
    assert "scsihw" not in config
    assert not {"machine", "bios", "efidisk0", "tpmstate0"} & set(config)


def test_back_to_linux(hand: Hand) -> None:
    before = hand.to("os").config
    choose(hand, "Microsoft Windows")
    choose(hand, "Linux")
    assert hand.config == before


def test_several_disks_keep_their_bus(hand: Hand) -> None:
    hand.to("disks").press("add")
    choose(hand, "Microsoft Windows")
    assert {"scsi0", "scsi1"} <= set(hand.config)


def test_switching_the_type_takes_its_first_version(hand: Hand) -> None:
    hand.to("os")
    choose(hand, "Solaris Kernel")
    assert hand.config["ostype"] == "solaris"


def test_virtio_drivers(hand: Hand, iso: object) -> None:
    hand.to("os")
    assert "Add additional drive" not in hand.html
    choose(hand, "Microsoft Windows", "win10")
    assert "Add additional drive" in hand.html
    hand.press("save", drivers="on", iso="local:iso/debian.iso")
    assert hand.config["net0"].startswith("virtio")
    assert "scsi0" in hand.config
    hand.next()
    assert hand.tab == "os"
    assert "missing" in hand.error("drivers_iso")
    hand.next(drivers_iso="local:iso/debian.iso")
    assert hand.config["ide0"].startswith("local:iso/debian.iso,media=cdrom")
    hand.press("tab:os").press("save", drivers=None)
    assert "ide0" in hand.config
    assert "media=cdrom" not in hand.config["ide0"]


def test_the_chip_names_what_follows(hand: Hand) -> None:
    page = html.unescape(hand.html)
    assert "4 values follow Linux" in page
    assert "<li>scsi0 bus: SCSI</li>" in page
    assert "<li>net0 model: virtio</li>" in page
    assert "<li>SCSI controller: virtio-scsi-single</li>" in page
    assert "<li>Machine: q35</li>" in page
