"""Which templates can be kept warm, and when their memory no longer fits."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from vms.config.identity import IDENTITY, READY, SETTINGS, host_name, machine_id
from vms.config.relations import check_config
from vms.config.warmth import lean, misfits, node_words, refusals, shape
from vms.hardware.context import NodeFacts

FACTS = NodeFacts(qemu_version="7.2.22", cpu_model="EPYC", kvm=True)
TEMPLATE = {
    "name": "gold",
    "template": "1",
    "ostype": "l26",
    "agent": "1",
    "memory": "2048",
    "cores": "2",
    "cpu": "host",
    "machine": "q35",
    "scsi0": "local:900/base-900-disk-0.qcow2,size=4G",
    "ide2": "local:900/vm-900-cloudinit.qcow2,media=cdrom",
    "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
    "net1": "e1000=BC:24:11:00:00:02",
    "boot": "order=net0;scsi0",
    "smbios1": "uuid=6cf17dc3-8341-4ecc-aebd-7503f2583fb3",
    "vmgenid": "6cf17dc3-8341-4ecc-aebd-7503f2583fb4",
    "cipassword": "$6$secret",
    "serial0": "socket",
}


def test_the_saved_machine_has_no_cards() -> None:
    found = lean(TEMPLATE)
    check_config(found)
    assert found.keys() == TEMPLATE.keys() - {"template", "net0", "net1"}
    assert found["boot"] == "order=scsi0"
    assert "boot" not in lean({"boot": "order=net0", "net0": "virtio"})


def test_no_secret_and_no_name_is_part_of_its_shape() -> None:
    assert shape(lean(TEMPLATE)).keys() == {
        "ostype", "agent", "memory", "cores", "cpu", "machine", "scsi0", "ide2", "serial0"
    }  # fmt: skip


def saved(**more: str) -> dict[str, object]:
    return {
        "shape": shape(lean(TEMPLATE)),
        "node": node_words(FACTS),
        "runningcpu": "host,+kvm_pv_eoi",
        **more,
    }


def test_what_leaves_the_memory_as_it_is() -> None:
    now = {
        **TEMPLATE,
        "name": "x",
        "tags": "a",
        "onboot": "1",
        "description": "d",
        "net2": "virtio",
        "vmgenid": "1",
    }
    assert misfits(saved(), lean(now), FACTS) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cores": "4"}, "cores changed"),
        ({"machine": "pc", "scsi1": "local:900/base-900-disk-1.raw"}, "machine, scsi1 changed"),
        ({"usb0": "spice"}, "usb0 changed"),
    ],
)
def test_what_makes_it_useless(change: dict[str, str], words: str) -> None:
    assert words in misfits(saved(), lean(TEMPLATE | change), FACTS)[0]


def test_another_node_is_another_processor() -> None:
    other = NodeFacts(qemu_version="7.2.22", cpu_model="Xeon", kvm=True)
    assert "the node's own (host)" in misfits(saved(), lean(TEMPLATE), other)[0]
    assert misfits(saved(runningcpu="x86-64-v2"), lean(TEMPLATE), other) == []
    assert "saved under kvm" in misfits(saved(), lean(TEMPLATE), NodeFacts(kvm=False))[0]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"ostype": "win11"}, "ostype"),
        ({"agent": "0"}, "agent"),
        ({"vmgenid": "0"}, "vmgenid"),
        ({"tpmstate0": "local:900/base-900-disk-1.raw,version=v2.0"}, "tpmstate0"),
        ({"hostpci0": "0000:01:00.0"}, "hostpci0"),
        ({"usb1": "host=1234:5678"}, "usb1"),
        ({"serial0": "/dev/ttyS0"}, "serial0"),
        ({"args": "-device x"}, "args"),
        ({"freeze": "1"}, "freeze"),
        ({"net3": "ne2k_isa"}, "net3"),
    ],
)
def test_what_cannot_be_kept_warm(change: dict[str, str], key: str) -> None:
    assert refusals(TEMPLATE) == []
    assert [error.key for error in refusals(TEMPLATE | change)] == [key]


def test_the_scripts_are_shell() -> None:
    for script in (IDENTITY, READY, SETTINGS):
        subprocess.run(["/bin/sh", "-n"], input=script.encode(), check=True)


@pytest.mark.parametrize(
    ("there", "done"),
    [
        ([], []),
        (
            ["cloud-init", "netplan", "udevadm"],
            ["udevadm settle -t 10", "cloud-init clean", "cloud-init init --local", "netplan apply"],
        ),
        (["cloud-init", "ifup"], ["cloud-init clean", "cloud-init init --local", "ifup -a"]),
        (
            ["cloud-init", "systemctl"],
            ["cloud-init clean", "cloud-init init --local",
             "systemctl try-restart systemd-networkd NetworkManager"],
        ),
    ],
)  # fmt: skip
def test_cloud_init_settings_are_applied_as_at_a_boot(
    tmp_path: Path, there: list[str], done: list[str]
) -> None:
    """Its stages in their order, the network set up after the first by what the guest has for it."""
    for name in there:
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/log\n')
        program.chmod(0o755)
    said = subprocess.run(
        ["/bin/sh", "-c", SETTINGS],
        env={"PATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    later = ["cloud-init init", "cloud-init modules --mode=config", "cloud-init modules --mode=final"]
    lines = (tmp_path / "log").read_text().splitlines() if there else []
    assert lines == (done + later if there else [])
    assert said.stdout == ("cloud-init: settings applied\n" if there else "")


def test_a_stage_of_cloud_init_that_fails_is_told(tmp_path: Path) -> None:
    program = tmp_path / "cloud-init"
    program.write_text('#!/bin/sh\n[ "$1" != modules ]\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", SETTINGS], env={"PATH": str(tmp_path)}, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 9
    assert "a stage of cloud-init failed" in done.stderr


def test_names_and_numbers() -> None:
    assert [host_name(name) for name in ("web-1", "web-1.example.org", "", "-x")] == [
        "web-1",
        "web-1",
        "",
        "",
    ]
    assert re.fullmatch(r"[0-9a-f]{32}", machine_id())
    assert machine_id() != machine_id()
