"""What creation adds, and what the rules say."""

from __future__ import annotations

import pytest

from vms.config.creation import complete
from vms.config.rules import Finding, findings
from vms.config.vmconfig import VMConfig, check_config
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


def found(facts: NodeFacts = FACTS, **mapping: str) -> dict[str, Finding]:
    return {finding.rule: finding for finding in findings(VMConfig.parse(mapping), facts)}


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


def test_two_cards_get_two_addresses() -> None:
    made = complete({"net0": "virtio", "net1": "e1000"}, FACTS)
    assert made["net0"].partition("=")[2] != made["net1"].partition("=")[2]
    assert made["net0"].startswith("virtio=BC:24:11:")


def test_windows_11_needs_three_things_and_the_fix_brings_them() -> None:
    finding = found(ostype="win11")["R1"]
    assert finding.severity == "block"
    assert finding.fix is not None
    fixed = {"ostype": "win11", **{key: text for key, text in finding.fix.items() if text is not None}}
    assert "R1" not in found(**fixed)


@pytest.mark.parametrize(
    ("mapping", "rule", "severity"),
    [
        ({"bios": "ovmf"}, "R5", "block"),
        ({"cores": "5"}, "R12", "block"),
        ({"memory": "16384"}, "R13", "block"),
        ({"scsi0": "local:1,cache=unsafe"}, "R15", "warn"),
        ({"scsi0": "local:1,aio=native,cache=writeback"}, "R17", "block"),
        ({"scsi0": "local:1,iothread=1", "scsihw": "virtio-scsi-pci"}, "R18", "warn"),
        ({"scsi0": "local:11"}, "R21", "block"),
        ({"scsi0": "local:6", "scsi1": "local:6"}, "R21", "warn"),
        ({"ide1": "local:1", "machine": "q35"}, "R22", "warn"),
        ({"net0": "virtio,bridge=vmbr7"}, "R25", "block"),
        ({"net0": f"virtio={MAC}", "net1": f"virtio={MAC}"}, "R26", "block"),
        ({}, "R28", "info"),
        ({"boot": "order=ide2", "ide2": "none,media=cdrom"}, "R33", "warn"),
        ({"cpu": "host"}, "R10", "info"),
    ],
)
def test_rule(mapping: dict[str, str], rule: str, severity: str) -> None:
    assert found(**mapping)[rule].severity == severity


def test_every_offered_fix_ends_its_finding() -> None:
    wrong = {"scsi0": "local:1,cache=unsafe,aio=native,iothread=1", "cores": "9", "bios": "ovmf", "name": "x"}
    for finding in findings(VMConfig.parse(wrong), FACTS):
        if finding.fix:
            fixed = {k: v for k, v in {**wrong, **finding.fix}.items() if v is not None}
            assert finding.rule not in found(**fixed)


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
