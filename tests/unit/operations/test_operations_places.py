"""Drives on storages that are switched off or hold something else."""

from __future__ import annotations

import pytest

from vms.models import Storage
from vms.operations.places import place_errors

pytestmark = pytest.mark.django_db


def test_what_a_storage_takes() -> None:
    Storage.objects.create(name="disks", path="/srv/a", content=["images"])
    Storage.objects.create(name="discs", path="/srv/b", content=["iso"])
    Storage.objects.create(name="off", path="/srv/c", content=["images", "iso"], enabled=False)
    files = [
        ("scsi0", "disks:32"), ("scsi1", "disks:100/vm-100-disk-0.qcow2"), ("ide2", "discs:iso/a.iso"),
        ("sata0", "none"), ("sata1", "elsewhere:8"), ("ide0", "/dev/sr0"),
    ]  # fmt: skip
    assert place_errors(files) == []
    wrong = {
        "scsi0": ("discs:32", "takes no disk images"), "ide2": ("disks:iso/a.iso", "takes no ISO images"),
        "scsi1": ("off:100/vm-100-disk-0.raw", "is switched off"), "efidisk0": ("off:1", "is switched off"),
        "ide0": ("discs:cloudinit", "takes no disk images"),
    }  # fmt: skip
    found = place_errors((key, file) for key, (file, _) in wrong.items())
    assert {error.key: error.part for error in found} == dict.fromkeys(wrong, "file")
    for error in found:
        assert wrong[error.key][1] in error.text
