"""The node's facts decide: accelerator, network back end, firmware, drive syntax."""

from __future__ import annotations

import json

import pytest

from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError
from vms.hardware.boot import boot_indexes
from vms.hardware.context import LaunchContext, NodeFacts, RuntimePaths
from vms.qemu.cmdline import command

PATHS = RuntimePaths.of("/run/x", "/var/log/x", 100)
LOCAL = {"local": {"type": "dir", "path": "/srv"}}


def words(facts: NodeFacts, taps: dict[str, int] | None = None, **mapping: str) -> list[str]:
    return command(
        VMConfig.parse(mapping), LaunchContext(vmid=100, facts=facts, paths=PATHS, taps=taps or {})
    )


def value(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


def test_without_kvm_there_is_no_trace_of_it() -> None:
    argv = words(NodeFacts(kvm=False), cpu="host", ostype="win10", machine="pc-i440fx-7.2")
    assert value(argv, "-cpu") == "max"
    assert "accel=tcg" in value(argv, "-machine")
    assert not any("kvm-pit" in word for word in argv)


@pytest.mark.parametrize(
    ("model", "wanted"), [("x86-64-v2", "qemu64"), ("EPYC", "max"), ("Westmere", "Westmere")]
)
def test_models_fall_back_under_emulation(model: str, wanted: str) -> None:
    assert value(words(NodeFacts(kvm=False), cpu=model), "-cpu").split(",")[0] == wanted


def test_a_tap_is_handed_over_and_no_bridge_means_user_mode() -> None:
    argv = words(NodeFacts(), {"net0": 7}, net0="virtio,bridge=vmbr0", net1="e1000")
    nets = [argv[i + 1] for i, word in enumerate(argv) if word == "-netdev"]
    assert nets == ["tap,id=net0,fd=7,vhost=on", "user,id=net1,hostname=vm100"]


def test_no_io_uring_falls_back() -> None:
    facts = NodeFacts(aio_io_uring=False, storages=LOCAL)
    argv = words(facts, virtio0="local:100/a.qcow2", virtio1="local:100/b.qcow2,cache=writeback")
    graphs = [json.loads(argv[i + 1]) for i, word in enumerate(argv) if word == "-blockdev"]
    assert [graph["file"]["file"]["aio"] for graph in graphs] == ["native", "threads"]


def test_an_own_node_gets_graphs_even_for_old_machines() -> None:
    own = NodeFacts.from_json({"qemu_version": "7.2.22", "qemu_binary": "/usr/bin/q", "storages": LOCAL})
    assert "-drive" not in words(own, scsi0="local:100/a.qcow2")
    peer = NodeFacts(qemu_version="9.2", storages=LOCAL)
    assert "-drive" in words(peer, scsi0="local:100/a.qcow2")
    assert NodeFacts.from_json(own.to_json()) == own


def test_secure_boot_protects_its_variables() -> None:
    facts = NodeFacts(storages=LOCAL, ovmf={"code-4m-secboot": "/fw/CODE.secboot.fd"})
    efi = "local:100/e.raw,efitype=4m,pre-enrolled-keys=1"
    argv = words(facts, bios="ovmf", machine="q35", efidisk0=efi)
    assert "driver=cfi.pflash01,property=secure,value=on" in argv
    assert any("/fw/CODE.secboot.fd" in word for word in argv)


def test_errors_are_on_the_key_at_fault() -> None:
    for mapping, key in (
        ({"scsi0": "nowhere:100/a.raw"}, "scsi0"),
        ({"cores": "9"}, "cores"),
        ({"net0": "virtio,bridge=vmbr0,mtu=9000"}, "net0"),
        ({"memory": "2048", "hotplug": "memory"}, "hotplug"),
    ):
        with pytest.raises(ConfigError) as caught:
            words(NodeFacts(threads=8), **mapping)
        assert caught.value.key == key


def test_old_boot_letters() -> None:
    disk, disc = "local:100/a.raw", "none,media=cdrom"
    disks = {"scsi4": disk, "virtio0": disk, "virtio1": disk, "ide2": disc}
    config = VMConfig.parse({"boot": "ndca", "bootdisk": "virtio1", "net0": "virtio", **disks})
    assert boot_indexes(config) == {"net0": 100, "ide2": 200, "virtio1": 302}
    assert boot_indexes(VMConfig.parse({"boot": " ", "ide2": disc})) == {}


def test_a_node_with_kvm_keeps_the_model_of_a_machine_that_does_without() -> None:
    assert value(words(NodeFacts(), kvm="0", cpu="EPYC"), "-cpu").split(",")[0] == "EPYC"
    assert value(words(NodeFacts(), kvm="0", cpu="host"), "-cpu") == "max"
    own = NodeFacts(cpu_models=("kvm64", "Haswell"))
    assert value(words(own, kvm="0", cpu="EPYC"), "-cpu").split(",")[0] == "max"


@pytest.mark.parametrize(("hotplug", "plugged"), [("1", False), ("0", False), ("disk; cpu", True)])
def test_hotplug_words_may_be_separated_by_anything(hotplug: str, plugged: bool) -> None:
    argv = words(NodeFacts(), cores="2", hotplug=hotplug)
    assert any("kvm64-x86_64-cpu" in word for word in argv) is plugged


def test_a_passed_through_graphics_card_replaces_only_an_absent_one() -> None:
    device = "0000:01:00.0,x-vga=1"
    assert "-nographic" in words(NodeFacts(), hostpci0=device)
    assert any('"VGA"' in word for word in words(NodeFacts(), hostpci0=device, vga="memory=16"))
    plain, uefi = words(NodeFacts(), hostpci0=device), words(NodeFacts(), hostpci0=device, bios="ovmf")
    assert [any('"x-vga"' in word for word in argv) for argv in (plain, uefi)] == [True, False]


def test_a_real_disk_answers_for_itself() -> None:
    facts = NodeFacts(scsi_devices=("/dev/sdx",))
    disk = "/dev/sdx,scsiblock=1,serial=S1,wwn=0x5000c50015ea71ac,ssd=1"
    (device,) = [word for word in words(facts, scsi0=disk, scsihw="virtio-scsi-pci") if "scsi-block" in word]
    assert set(json.loads(device)) == {
        *("driver", "id", "drive", "rotation_rate", "bus", "channel", "scsi-id", "lun")
    }
