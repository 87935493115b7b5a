"""What is read about a node without starting anything."""

from __future__ import annotations

import json
from pathlib import Path

from vms.hardware.context import NodeFacts
from vms.host.facts import accessible, gather, machine, processor

CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz
flags\t\t: fpu vme vmx sse2
address sizes\t: 46 bits physical, 48 bits virtual

processor\t: 1
vendor_id\t: GenuineIntel
"""


def test_processor_from_text() -> None:
    found = processor(CPUINFO)
    assert found["cpu_vendor"] == "GenuineIntel"
    assert found["cpu_model"] == "Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz"
    assert found["cpu_flags"] == ["fpu", "vme", "vmx", "sse2"]
    assert found["phys_bits"] == 46


def test_a_processor_that_says_nothing() -> None:
    found = processor("")
    assert (found["cpu_vendor"], found["cpu_flags"], found["phys_bits"]) == ("", [], 36)


def test_this_machine() -> None:
    found = machine()
    assert found["threads"] >= 1
    assert 0 < found["memory_free"] <= found["memory"]
    for place in found["ovmf"].values():
        assert Path(place).is_file()


async def test_facts_are_json_and_read_back() -> None:
    bridges = [{"name": "vmbr0", "mtu": 1500, "active": True, "vlan_aware": False, "ports": []}]
    qemu = {
        "qemu_binary": "/usr/bin/qemu",
        "qemu_version": "7.2.22",
        "kvm": False,
        "machines": ["pc-q35-7.2"],
    }
    storages = {"local": {"type": "dir", "path": "/srv"}}
    found = await gather(qemu=qemu, bridges=bridges, user="pvelite", user_reason="", storages=storages)
    facts = NodeFacts.from_json(json.loads(json.dumps(found)))
    assert facts.kvm is False
    assert facts.machines == ("pc-q35-7.2",)
    assert facts.bridge("vmbr0") == bridges[0]
    assert facts.qemu_user == "pvelite"
    assert facts.storages["local"]["path"] == "/srv"
    assert facts.memory == found["memory"]


async def test_access_is_asked_as_the_user(tmp_path: Path) -> None:
    device = tmp_path / "device"
    assert not await accessible(device, None)
    device.touch()
    assert await accessible(device, None)
    assert not await accessible(device, "no-such-user-here")
