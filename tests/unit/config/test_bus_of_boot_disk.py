"""The boot disk's way to a faster bus, worked out on configurations alone."""

from __future__ import annotations

import pytest

from vms.config.busmove import (
    HELPER_SERIAL,
    Changes,
    Move,
    begun,
    boot_disk,
    slow_boot_disk,
    switched,
    undone,
)
from vms.config.relations import check_config
from vms.errors import ConfigError

WINDOWS = {
    "ostype": "win10", "machine": "q35", "boot": "order=sata0;ide2;net0", "net0": "e1000=BC:24:11:00:00:01",
    "sata0": "local:101/vm-101-disk-0.qcow2,cache=writeback,discard=on,size=64G,ssd=1",
    "sata1": "local:101/vm-101-disk-1.qcow2,size=100G", "ide2": "none,media=cdrom",
}  # fmt: skip
DISC = "local:iso/virtio-win.iso"


def after(mapping: dict[str, str], changes: Changes) -> dict[str, str]:
    """The configuration with ``changes``; one that stands."""
    merged: Changes = {**mapping, **changes}
    result = {key: text for key, text in merged.items() if text is not None}
    check_config(result)
    return result


def made(mapping: dict[str, str], move: Move) -> dict[str, str]:
    """The helper's volume exists by now."""
    return {**mapping, move.helper: f"local:101/vm-101-disk-9.qcow2,backup=0,serial={HELPER_SERIAL},size=1G"}


def test_the_boot_disk_is_the_orders_first_else_proxmoxs_first() -> None:
    assert boot_disk(WINDOWS) == "sata0"
    assert boot_disk({**WINDOWS, "boot": "order=net0;sata1"}) == "sata1"
    assert boot_disk({"scsi3": "local:1", "sata0": "local:1"}) == "scsi3"
    assert boot_disk({"ide2": "none,media=cdrom"}) == ""
    assert slow_boot_disk({"scsi3": "local:1", "sata0": "local:1"}) == ""


@pytest.mark.parametrize(("target", "to"), [("scsi", "scsi0"), ("virtio", "virtio0")])
def test_there_and_back_again(target: str, to: str) -> None:
    changes, move = begun(WINDOWS, target, "local", DISC)
    assert changes[move.helper] == f"local:1,backup=0,serial={HELPER_SERIAL}"
    assert changes["ide2"] == f"{DISC},media=cdrom"
    assert changes.get("scsihw") == ("virtio-scsi-single" if target == "scsi" else None)
    helped = made(after(WINDOWS, changes), move)

    changes, move = switched(helped, move)
    moved = after(helped, changes)
    assert (move.to, moved["boot"]) == (to, f"order={to};ide2;net0")
    assert "sata0" not in moved
    assert move.helper not in moved
    assert moved[to].startswith("local:101/vm-101-disk-0.qcow2,cache=writeback,discard=on,iothread=1")
    # SSD emulation is nothing VirtIO Block knows.
    assert ("ssd=1" in moved[to]) == (target == "scsi")
    assert moved["sata1"] == WINDOWS["sata1"]

    back = after(moved, undone(moved, move))
    assert {key: back[key] for key in ("boot", "sata0")} == {key: WINDOWS[key] for key in ("boot", "sata0")}
    assert to not in back


def test_the_driver_disc_goes_where_there_is_room() -> None:
    full = {**WINDOWS, "ide2": "local:iso/windows.iso,media=cdrom"}
    assert begun(full, "scsi", "local", DISC)[0]["ide0"] == f"{DISC},media=cdrom"
    there = {**WINDOWS, "ide2": f"{DISC},media=cdrom"}
    assert set(begun(there, "scsi", "local", DISC)[0]) == {"scsi1", "scsihw"}
    assert set(begun(WINDOWS, "virtio", "local")[0]) == {"virtio1"}


def test_what_cannot_be_begun_says_why() -> None:
    for mapping, target, words in (
        ({"scsi0": "local:1"}, "scsi", "does not boot from a disk on IDE or SATA"),
        (WINDOWS, "floppy", "is not one of"),
        (
            {**WINDOWS, **{f"virtio{n}": f"local:9/vm-9-disk-{n}.raw" for n in range(15)}},
            "virtio",
            "is taken",
        ),
    ):
        with pytest.raises(ConfigError, match=words):
            begun(mapping, target, "local")


def test_a_disk_somebody_changed_by_hand_is_left_alone() -> None:
    changes, move = begun(WINDOWS, "scsi", "local")
    helped = made(after(WINDOWS, changes), move)
    with pytest.raises(ConfigError, match="begin again"):
        switched({**helped, "sata0": "local:101/vm-101-disk-7.qcow2"}, move)
    changes, done = switched(helped, move)
    moved = after(helped, changes)
    with pytest.raises(ConfigError, match="no way back"):
        undone({key: text for key, text in moved.items() if key != done.to}, done)
    with pytest.raises(ConfigError, match="is taken by now"):
        undone({**moved, "sata0": "local:101/vm-101-disk-8.qcow2"}, done)


def test_the_record_survives_its_row() -> None:
    _, move = begun(WINDOWS, "scsi", "local")
    assert Move.read(move.record()) == move
    assert Move.read({**move.record(), "unheard": "of"}) == move
    for nothing in (None, {}, {"disk": "sata0"}, "x", 3):
        assert Move.read(nothing) is None
