"""A file QEMU cannot open is named together with the folder that is in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vms.config.rules import findings
from vms.config.vmconfig import VMConfig
from vms.hardware.context import NodeFacts
from vms.operations.reach import unreadable


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(0o755)
    file = tmp_path / "closed" / "old.qcow2"
    file.parent.mkdir(mode=0o700)
    file.touch()
    return file


def test_the_closed_folder_is_named_and_blocks_the_start(disk: Path) -> None:
    mapping = {
        "sata0": f"{disk},cache=none",
        "scsi0": "local:100/vm-100-disk-0.raw",
        "ide2": "none,media=cdrom",
    }
    found = unreadable(mapping, "nobody")
    assert found == {str(disk): f"the folder {disk.parent} is closed to it"}
    facts = NodeFacts(unreadable=found, qemu_user="nobody")
    (told,) = [one for one in findings(VMConfig.parse(mapping), facts) if one.rule == "R35"]
    assert (told.severity, told.keys) == ("block", ("sata0",))
    assert str(disk.parent) in told.text


def test_what_is_open_or_absent(disk: Path) -> None:
    assert unreadable({"sata0": str(disk)}, None) == {}
    absent = disk.with_name("none.raw")
    assert unreadable({"sata0": str(absent)}, None) == {str(absent): "there is no such file"}
