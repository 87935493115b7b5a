"""What a change adds to a machine and takes from it, told from two cold starts."""

from __future__ import annotations

import pytest

from vms.config.vmconfig import VMConfig
from vms.hardware.context import LaunchContext, NodeFacts, RuntimePaths
from vms.hardware.parts import Part
from vms.qemu.cmdline import parts
from vms.qemu.hotplug import difference, name_of, ordered, refusal

FACTS = NodeFacts.from_json(
    {"qemu_version": "7.2.22", "qemu_binary": "/usr/bin/qemu-system-x86_64",
     "storages": {"local": {"type": "dir", "path": "/var/lib/vz"}}}
)  # fmt: skip
BASE = {"machine": "q35", "ostype": "l26", "scsihw": "virtio-scsi-single", "scsi0": "local:100/a.qcow2"}


def machine(config: dict[str, str]) -> list[Part]:
    context = LaunchContext(vmid=100, facts=FACTS, paths=RuntimePaths.of("/run/x", "/var/log/x", 100))
    return parts(VMConfig.parse(config), context)


def names(config: dict[str, str], **more: str) -> tuple[list[str], list[str]]:
    found = difference(machine(config), machine({**config, **more}))
    return [name_of(part) for part in ordered(found.added)], [name_of(part) for part in found.removed]


@pytest.mark.parametrize(
    ("base", "more", "added"),
    [
        ({}, {"scsi1": "local:100/b.qcow2,iothread=1"},
         ["iothread-virtioscsi1", "throttle-drive-scsi1", "drive-scsi1", "virtioscsi1", "scsi1"]),
        ({"scsihw": "virtio-scsi-pci"}, {"scsi1": "local:100/b.qcow2"},
         ["throttle-drive-scsi1", "drive-scsi1", "scsi1"]),
        ({}, {"virtio3": "local:100/b.qcow2"}, ["throttle-drive-virtio3", "drive-virtio3", "virtio3"]),
        ({}, {"net2": "virtio=BC:24:11:00:00:01"}, ["net2", "net2"]),
        ({"tablet": "0"}, {"tablet": "1"}, ["tablet"]),
        ({"hotplug": "cpu", "cores": "4", "vcpus": "1"}, {"vcpus": "3"}, ["cpu2", "cpu3"]),
        ({"hotplug": "memory", "numa": "1", "memory": "1024"}, {"memory": "2048"},
         ["mem-dimm0", "mem-dimm1", "dimm0", "dimm1"]),
        # Another boot index is no other device.
        ({"boot": "order=scsi0"}, {"boot": "order="}, []),
    ],
)  # fmt: skip
def test_what_comes(base: dict[str, str], more: dict[str, str], added: list[str]) -> None:
    assert names(BASE | base, **more) == (added, [])
    back = difference(machine({**BASE, **base, **more}), machine(BASE | base))
    assert sorted(name_of(part) for part in back.removed) == sorted(added)


def test_a_usb_device_brings_its_controller() -> None:
    added, _ = names(BASE, vga="qxl", usb3="spice")
    assert "xhci" in added
    assert "usbredirdev3" in added


@pytest.mark.parametrize(
    ("info", "refused"),
    [
        ({"device": "dimm0", "source": 3, "status": 1}, True),
        ({"device": "dimm0", "source": 3, "status": 0}, False),
        ({"device": "dimm0", "source": 3, "status": 0x84}, False),
        ({"device": "dimm0", "source": 1, "status": 1}, False),
        ({"device": "dimm1", "source": 3, "status": 1}, False),
        ("nonsense", False),
    ],
)
def test_a_guest_that_refuses_says_so(info: object, refused: bool) -> None:
    assert refusal(info, "dimm0") is refused
