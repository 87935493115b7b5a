"""What creation adds, and what the rules say."""

from __future__ import annotations

import pytest

from vms.config.creation import complete
from vms.config.relations import check_config
from vms.config.rules import findings
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigErrors
from vms.hardware.context import NodeFacts

FACTS = NodeFacts(
    qemu_version="7.2.22",
    threads=4,
    memory=8 << 30,
    machines=("pc-i440fx-7.1", "pc-i440fx-7.2", "pc-q35-7.2"),
    bridges=({"name": "vmbr0", "mtu": 1500},),
    storages={"local": {"type": "dir", "path": "/srv", "free": 10 << 30}},
)
UUID = "6cf17dc3-8341-4ecc-aebd-7503f2583fb3"
MAC = "BC:24:11:00:00:01"


def test_creation_adds_what_is_missing_and_nothing_else() -> None:
    given = {
        "ide2": "local:iso/a.iso,media=cdrom",
        "scsi0": "local:100/vm-100-disk-0.qcow2",
        "net0": "virtio",
    }
    made = complete(given, FACTS, uuid=lambda: UUID, macs=lambda: MAC, now=1700000000)
    assert made == {
        **given,
        "boot": "order=scsi0;ide2;net0",
        "smbios1": f"uuid={UUID}",
        "vmgenid": UUID,
        "meta": "creation-qemu=7.2.22,ctime=1700000000",
        "net0": f"virtio={MAC}",
        "machine": "pc-i440fx-7.2",
    }
    assert complete(made, FACTS, uuid=lambda: "x", macs=lambda: "y", now=1) == made


def test_uefi_that_boots_from_the_network_gets_random_numbers() -> None:
    given = {"bios": "ovmf", "net0": "virtio", "efidisk0": "local:1"}
    assert complete(given, FACTS)["rng0"] == "source=/dev/urandom"
    assert complete({**given, "rng0": "/dev/random"}, FACTS)["rng0"] == "/dev/random"
    assert "rng0" not in complete({**given, "scsi0": "local:8"}, FACTS)
    assert "rng0" not in complete({"net0": "virtio"}, FACTS)


def test_two_cards_get_two_addresses() -> None:
    made = complete({"net0": "virtio", "net1": "e1000"}, FACTS)
    assert made["net0"].partition("=")[2] != made["net1"].partition("=")[2]
    assert made["net0"].startswith("virtio=BC:24:11:")


def test_a_node_without_kvm_says_so() -> None:
    facts = NodeFacts(kvm=False, accel_reason="no /dev/kvm")
    told = findings(VMConfig.parse({"cpu": "host"}), facts)
    texts = [finding.text for finding in told if finding.rule == "R11"]
    assert "no /dev/kvm" in texts[0]
    assert "'max'" in texts[1]


def test_errors_name_every_key() -> None:
    with pytest.raises(ConfigErrors) as caught:
        check_config({"name": "web_01", "cores": "0", "net0": "virtio,tag=5000", "nonsense": "1"})
    assert set(caught.value.by_key()) == {"name", "cores", "net0", "nonsense"}
    with pytest.raises(ConfigErrors) as caught:
        check_config({"vcpus": "3", "cores": "2", "balloon": "1024", "boot": "order=scsi0", "vga": "serial0"})
    assert set(caught.value.by_key()) == {"vcpus", "balloon", "boot", "vga"}
