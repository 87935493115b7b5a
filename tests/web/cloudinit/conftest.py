"""The pages' little house with a cloud-init drive in it, and people with single rights."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

PAGES = Path(__file__).resolve().parents[1] / "pages" / "conftest.py"
_spec = importlib.util.spec_from_file_location("pages_house", PAGES)
assert _spec is not None
assert _spec.loader is not None
house = importlib.util.module_from_spec(_spec)
sys.modules["pages_house"] = house
_spec.loader.exec_module(house)
scene, operator, boss = house.scene, house.operator, house.boss


@pytest.fixture
def cloudy(scene: Any) -> Any:
    """VM 101 as a cloud guest: a SCSI cloud-init drive, a card, a user."""
    from vms.models import Disk, Nic, Volume

    volume = Volume.objects.create(
        storage=scene.storage, node=scene.node, name="101/vm-101-cloudinit.raw", content="images",
        format="raw", size=4 << 20, vmid=101,
    )  # fmt: skip
    Disk.objects.create(vm=scene.vm, slot="scsi1", volume=volume, media="cdrom", size=4 << 20)
    Nic.objects.create(vm=scene.vm, slot="net0", model="virtio", mac="BC:24:11:00:00:01", bridge="vmbr0")
    scene.vm.options |= {"ciuser": "ada", "cipassword": "$5$salt$hash", "ipconfig0": "ip=dhcp"}
    scene.vm.save(update_fields=["options"])
    Disk.objects.filter(vm=scene.vm, slot="ide2").update(size=600 << 20)
    scene.folder.mkdir(parents=True, exist_ok=True)
    return scene
