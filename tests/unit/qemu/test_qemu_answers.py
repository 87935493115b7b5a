"""Reading what QEMU answers: machines, processor models, events, drives."""

from __future__ import annotations

from vms.qemu.capabilities import runnable_models, versioned_machines
from vms.qemu.events import Ask, reason
from vms.qemu.monitor import _block


def test_machines_are_pinned_types_newest_first() -> None:
    names = [
        "pc",
        "q35",
        "none",
        "microvm",
        "pc-q35-2.4",
        "pc-q35-7.2",
        "pc-q35-10.0",
        "pc-i440fx-7.2",
        "isapc",
    ]
    names += ["pc-q35-4.0", "pc-q35-4.0.1", "pc-i440fx-10.0"]
    assert versioned_machines([{"name": name} for name in names]) == (
        "pc-i440fx-10.0", "pc-i440fx-7.2",
        "pc-q35-10.0", "pc-q35-7.2", "pc-q35-4.0.1", "pc-q35-4.0", "pc-q35-2.4",
    )  # fmt: skip


def test_models_lacking_anything_are_not_offered() -> None:
    answer = [
        {"name": "qemu64", "unavailable-features": []},
        {"name": "EPYC", "unavailable-features": ["pcid"]},
        {"name": "untold"},
    ]
    assert runnable_models(answer) == ("qemu64",)


def test_events_say_what_to_ask() -> None:
    assert reason("STOP") is Ask.STATUS
    assert reason("SHUTDOWN") is Ask.END
    assert reason("VSERPORT_CHANGE") is Ask.AGENT
    assert reason("RTC_CHANGE") is None


def test_a_drive_and_an_empty_tray() -> None:
    inserted = {
        "node-name": "drive-scsi0", "file": "/x.qcow2", "drv": "qcow2", "ro": False, "detect_zeroes": "unmap",
        "cache": {"direct": True, "no-flush": False, "writeback": True},
    }  # fmt: skip
    full = _block({"device": "", "qdev": "scsi0", "inserted": inserted, "io-status": "nospace"})
    assert (full.device, full.driver, full.direct, full.writeback) == ("scsi0", "qcow2", True, True)
    assert (full.detect_zeroes, full.io_status) == ("unmap", "nospace")
    empty = _block({"device": "", "qdev": "ide2", "inserted": None})
    assert (empty.device, empty.filename, empty.node_name) == ("ide2", "", "")
