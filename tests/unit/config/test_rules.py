"""Every rule: where it speaks, where it is silent, and that its fix ends what it found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from vms.config import creation
from vms.config.rules import RULES, Case, Finding, findings
from vms.config.vmconfig import VMConfig
from vms.hardware.context import NodeFacts

FACTS = NodeFacts(
    qemu_version="9.2.0",
    threads=4,
    memory=8 << 30,
    memory_free=6 << 30,
    machines=("pc-i440fx-9.1", "pc-i440fx-9.2", "pc-q35-9.2"),
    cpu_models=("host", "kvm64", "qemu64", "Nehalem", "Skylake-Client"),
    cpu_flags=("popcnt", "pni", "sse4_1", "sse4_2", "ssse3", "aes", "pcid"),
    bridges=(
        {"name": "vmbr0", "mtu": 1500, "vlan_aware": False, "active": True},
        {"name": "down0", "active": False},
    ),
    storages={
        "local": {"type": "dir", "path": "/srv", "free": 10 << 30},
        "thick": {"type": "lvm", "vg": "vg0"},
    },
    ovmf={"code-4m": "/fw/CODE.fd", "code-4m-secboot": "/fw/CODE.secboot.fd"},
    vcpus_used=9,
    used_macs={"BC:24:11:00:00:99": "VM 105"},
    used_ids=(100, 101, 103),
    unreadable={"/srv/secret.raw": "the folder /srv/private is closed"},
    huge_pages={"2": 512, "1024": 1},
    pci_devices={
        "0000:01:00.0": {"class": "0x030000", "iommu_group": 1},
        "0000:02:00.0": {"class": "0x020000", "iommu_group": 2},
        "0000:04:00.0": {"class": "0x020000", "iommu_group": None},
    },
    usb_mappings={"stick": "1234:abcd"},
)
NO_KVM = replace(FACTS, kvm=False, accel_reason="no /dev/kvm", cpu_models=("qemu64", "max"))
NO_IO_URING = replace(FACTS, aio_io_uring=False)
NO_SECURE_BOOT = replace(FACTS, ovmf={"code-4m": "/fw/CODE.fd"})
UPS = replace(FACTS, power_backup=True)

EFI = {"bios": "ovmf", "efidisk0": "local:1,efitype=4m,pre-enrolled-keys=1"}
WINDOWS = {"ostype": "win10", "ide2": "local:iso/win.iso,media=cdrom"}
DRIVERS = {"ide0": "local:iso/virtio-win-0.1.266.iso,media=cdrom"}

Config = dict[str, str]
FIRES: list[tuple[str, str, Config, NodeFacts]] = [
    ("R1", "block", {"ostype": "win11"}, FACTS),
    ("R1", "block", {"ostype": "win11", "machine": "pc-i440fx-9.2", "tpmstate0": "local:1"}, FACTS),
    ("R2", "warn", {**WINDOWS, "virtio0": "local:8,iothread=1", "net0": "virtio"}, FACTS),
    ("R2", "warn", {**WINDOWS, "scsi0": "local:8", "scsihw": "virtio-scsi-single"}, FACTS),
    ("R3", "warn", {**WINDOWS, **DRIVERS, "sata0": "local:8", "boot": "order=ide0;ide2;sata0"}, FACTS),
    ("R5", "block", {"bios": "ovmf"}, FACTS),
    ("R6", "warn", {**EFI, "ide2": "local:iso/alpine-virt-3.20.iso,media=cdrom"}, FACTS),
    ("R6", "warn", {**EFI, "machine": "q35"}, NO_SECURE_BOOT),
    ("R7", "info", {**EFI, "net0": "virtio", "boot": "order=net0"}, FACTS),
    ("R7", "info", {**EFI, "net0": "virtio", "scsi0": "local:8", "ide2": "none,media=cdrom"}, FACTS),
    ("R8", "warn", {"ostype": "l26"}, FACTS),
    ("R9", "block", {"cpu": "EPYC-Genoa,hidden=1"}, FACTS),
    ("R9", "block", {"cpu": "x86-64-v3"}, FACTS),
    ("R9", "block", {"cpu": "Nehalem,flags=+pdpe1gb;+pcid"}, FACTS),
    ("R9", "block", {"cpu": "custom-none"}, FACTS),
    ("R10", "info", {"cpu": "host"}, FACTS),
    ("R11", "warn", {}, NO_KVM),
    ("R12", "block", {"sockets": "2", "cores": "4", "vcpus": "6"}, FACTS),
    ("R12", "warn", {"cores": "4"}, FACTS),
    ("R13", "block", {"memory": "16384"}, FACTS),
    ("R13", "warn", {"memory": "7168"}, FACTS),
    ("R13", "block", {"memory": "4096", "hugepages": "2", "numa": "1"}, FACTS),
    ("R14", "info", {"ostype": "win10", "balloon": "512", "memory": "1024"}, FACTS),
    ("R15", "warn", {"scsi0": "local:1,cache=unsafe"}, FACTS),
    ("R16", "info", {"scsi0": "local:1,cache=writeback"}, FACTS),
    ("R17", "block", {"scsi0": "local:1,aio=native,cache=writeback"}, FACTS),
    ("R17", "block", {"scsi0": "local:1,aio=io_uring"}, NO_IO_URING),
    ("R18", "warn", {"scsi0": "local:1,iothread=1", "scsihw": "virtio-scsi-pci"}, FACTS),
    ("R19", "info", {"scsi0": "thick:1,discard=on"}, FACTS),
    ("R19", "info", {"ide2": "none,media=cdrom,discard=on"}, FACTS),
    ("R20", "info", {"scsi0": "local:1,format=raw"}, FACTS),
    ("R20", "info", {"scsi0": "local:100/vm-100-disk-0.raw"}, FACTS),
    ("R21", "block", {"scsi0": "local:11"}, FACTS),
    ("R21", "warn", {"scsi0": "local:6", "scsi1": "local:6"}, FACTS),
    ("R22", "warn", {"ide1": "local:1,model=x", "machine": "q35", "boot": "order=ide1"}, FACTS),
    ("R23", "warn", {"hostpci0": "0000:01:00.0"}, FACTS),
    ("R23", "warn", {"hostpci0": "0000:02:00.0,x-vga=1"}, FACTS),
    ("R24", "warn", {"net0": "virtio,bridge=vmbr0,tag=5"}, FACTS),
    ("R25", "block", {"net0": "virtio,bridge=vmbr7"}, FACTS),
    ("R25", "warn", {"net0": "virtio,bridge=down0"}, FACTS),
    ("R26", "block", {"net0": "virtio=BC:24:11:00:00:99"}, FACTS),
    ("R26", "block", {"net0": "virtio=BC:24:11:00:00:01", "net1": "e1000=bc:24:11:00:00:01"}, FACTS),
    ("R26", "info", {"net0": "virtio=AA:BB:CC:DD:EE:FF"}, FACTS),
    ("R27", "info", {"net0": "virtio,rate=12.5"}, FACTS),
    ("R28", "info", {}, FACTS),
    ("R29", "block", {}, FACTS),
    ("R30", "info", {"agent": "1"}, FACTS),
    ("R31", "info", {"vga": "std,clipboard=vnc"}, FACTS),
    ("R32", "info", {"machine": "pc-i440fx-9.1"}, FACTS),
    ("R33", "warn", {}, FACTS),
    ("R33", "warn", {"boot": "order=", "scsi0": "local:1"}, FACTS),
    ("R33", "warn", {"boot": "order=ide2", "ide2": "none,media=cdrom"}, FACTS),
    ("R34", "block", {"vga": "serial1"}, FACTS),
    ("R34", "info", {"vga": "serial0", "serial0": "socket"}, FACTS),
    ("R35", "block", {"scsi0": "/srv/secret.raw"}, FACTS),
    ("hostpci", "block", {"hostpci0": "0000:09:00.0"}, FACTS),
    ("hostpci", "block", {"hostpci0": "0000:04:00.0"}, FACTS),
    ("hostpci", "block", {"hostpci0": "mapping=none"}, FACTS),
    ("usb", "block", {"usb0": "mapping=none"}, FACTS),
    ("virtiofs", "block", {"virtiofs0": "documents"}, FACTS),
    ("virtiofs", "block", {"virtiofs1": "papers"}, replace(FACTS, folder_mappings={"papers": "/srv"})),
]  # fmt: skip

QUIET: Config = {
    "name": "quiet",
    "ostype": "l26",
    "cpu": "x86-64-v2-AES",
    "machine": "pc-q35-9.2",
    "memory": "512",
    "scsihw": "virtio-scsi-single",
    "scsi0": "local:4,iothread=1,discard=on,format=qcow2",
    "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
    "boot": "order=scsi0;net0",
    "agent": "0",
}
SILENT: list[tuple[str, Config, NodeFacts]] = [
    ("R1", {"ostype": "win11", "machine": "q35", "tpmstate0": "local:1,version=v2.0", **EFI}, FACTS),
    ("R2", {**WINDOWS, **DRIVERS, "virtio0": "local:8", "net0": "virtio"}, FACTS),
    ("R2", {"ostype": "win10", "virtio0": "local:100/vm-100-disk-0.qcow2"}, FACTS),
    ("R2", {**WINDOWS, "sata0": "local:8", "net0": "e1000"}, FACTS),
    ("R3", {**WINDOWS, **DRIVERS, "boot": "order=ide2;ide0"}, FACTS),
    ("R5", EFI, FACTS),
    ("R6", {**EFI, "ide2": "local:iso/debian-12.iso,media=cdrom"}, FACTS),
    ("R7", {**EFI, "net0": "virtio", "boot": "order=net0", "rng0": "/dev/urandom"}, FACTS),
    ("R7", {**EFI, "net0": "virtio", "ide2": "local:iso/x.iso,media=cdrom"}, FACTS),
    ("R7", {**EFI, "net0": "virtio", "scsi0": "local:1/a.raw", "boot": "order=scsi0;net0"}, FACTS),
    ("R8", {"ostype": "win10"}, FACTS),
    ("R9", {"cpu": "Nehalem,flags=+pcid"}, FACTS),
    ("R9", {"cpu": "custom-own"}, replace(FACTS, custom_cpus={"own": "reported-model=Nehalem"})),
    ("R9", {"cpu": "EPYC-Genoa", "kvm": "0"}, FACTS),
    ("R12", {"cores": "3"}, FACTS),
    ("R13", {"memory": "1024", "hugepages": "any", "numa": "1"}, FACTS),
    ("R16", {"scsi0": "local:1,cache=writeback"}, UPS),
    ("R23", {"hostpci0": "0000:02:00.0"}, FACTS),
    ("R26", {"net0": "virtio"}, FACTS),
    ("R31", {"vga": "std,clipboard=vnc"}, replace(FACTS, qemu_version="10.1.0")),
    ("R32", {"machine": "q35"}, FACTS),
]


def ask(mapping: Config, facts: NodeFacts = FACTS, vmid: int | None = 101) -> list[Finding]:
    return findings(VMConfig.parse(mapping), facts, vmid)


def changed(mapping: Config, finding: Finding) -> Config:
    merged: dict[str, str | None] = {**mapping, **(finding.fix or {})}
    return {key: text for key, text in merged.items() if text is not None}


@pytest.mark.parametrize(("rule", "severity", "mapping", "facts"), FIRES)
def test_a_rule_speaks_and_its_fix_ends_it(
    rule: str, severity: str, mapping: Config, facts: NodeFacts
) -> None:
    found = [one for one in ask(mapping, facts) if (one.rule, one.severity) == (rule, severity)]
    assert found
    assert found[0].keys
    assert found[0].text.endswith((".", ")"))
    if found[0].fix:
        after = ask(changed(mapping, found[0]), facts)
        same = (rule, severity, found[0].keys)
        assert not [one for one in after if (one.rule, one.severity, one.keys) == same]


@pytest.mark.parametrize(("rule", "mapping", "facts"), SILENT)
def test_a_rule_is_silent_where_all_is_well(rule: str, mapping: Config, facts: NodeFacts) -> None:
    assert rule not in {one.rule for one in ask(mapping, facts)}


def test_a_sound_machine_hears_nothing() -> None:
    facts = replace(FACTS, vcpus_used=0)
    assert ask(QUIET, facts, vmid=102) == []


def test_every_rule_of_the_registry_is_tried_and_can_be_silent() -> None:
    def spoken(rule: Any, cases: list[tuple[Config, NodeFacts]]) -> Iterator[Finding]:
        for mapping, facts in cases:
            yield from rule(Case(VMConfig.parse(mapping), facts, 101))

    tried = [(mapping, facts) for _, _, mapping, facts in FIRES]
    assert [rule.__name__ for rule in RULES if not list(spoken(rule, tried))] == []
    quiet = [(QUIET, replace(FACTS, vcpus_used=0, used_ids=()))]
    assert [rule.__name__ for rule in RULES if list(spoken(rule, quiet))] == []
    numbers = {rule for rule, _, _, _ in FIRES if rule.startswith("R")}
    # R4 is how the wizard treats what a user set, not something to be found in a configuration.
    assert numbers == {f"R{number}" for number in range(1, 36)} - {"R4"}


def test_rules_agree_with_what_creation_writes() -> None:
    made = creation.complete({**QUIET, "net1": "virtio"}, FACTS, now=1)
    assert [one.rule for one in ask(made, replace(FACTS, vcpus_used=0), vmid=102)] == []


def test_a_driver_change_keeps_the_boot_order() -> None:
    mapping = {**WINDOWS, "scsi0": "local:8,ssd=1,iothread=1", "scsihw": "virtio-scsi-single",
               "boot": "order=scsi0;ide2"}  # fmt: skip
    finding = next(one for one in ask(mapping) if one.rule == "R2")
    after = changed(mapping, finding)
    assert after["sata0"] == "local:8,ssd=1"
    assert after["boot"] == "order=sata0;ide2"
    assert "scsi0" not in after
