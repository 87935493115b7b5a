"""``qm showcmd``: what it prints, and how it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vms.cli.preview import guessed_storages
from vms.cli.qm import main
from vms.cli.showcmd import build

ROOT = Path(__file__).resolve().parents[3]


def test_prints_json_and_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "101.conf"
    file.write_text("memory: 768\nnet0: virtio=BC:24:11:00:00:01,bridge=vmbr0\n")
    assert main(["showcmd", "--file", str(file), "--json"]) == 0
    words = json.loads(capsys.readouterr().out)
    assert words[words.index("-m") + 1] == "768"
    assert any("tap101i0" in word for word in words)
    assert main(["showcmd", "--file", str(file)]) == 0
    assert "  -m 768 \\\n" in capsys.readouterr().out


def test_errors_name_the_key_one_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.conf"
    file.write_text("net0: virtio,tag=5000\nscsi0: local:1/a.raw,file=/etc/shadow\n")
    assert main(["showcmd", "--file", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0].split(".")[0] for line in lines] == ["net0", "scsi0"]


def test_a_key_nobody_knows_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.conf"
    file.write_text("memory: 768\nhyper-drive: 9\n")
    assert main(["showcmd", "--file", str(file), "--json"]) == 2
    assert capsys.readouterr().err.startswith("hyper-drive: ")


def test_missing_file_and_bad_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["showcmd", "--file", str(tmp_path / "none.conf")]) == 2
    file, facts = tmp_path / "a.conf", tmp_path / "facts.json"
    file.write_text("")
    facts.write_text("[1")
    assert main(["showcmd", "--file", str(file), "--facts", str(facts)]) == 2
    assert "facts" in capsys.readouterr().err


def test_it_needs_no_django() -> None:
    code = "import sys, vms.cli.qm, vms.cli.showcmd; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=30).returncode == 0


REFUSED = {
    "machine: pc-q35-42.9": "machine",
    "machine: pc-i440fx-9.2+pve77": "machine",
    "machine: pc,viommu=intel": "machine",
    "machine: q35,viommu=intel,aw-bits=50": "machine",
    "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,mtu=9000": "net0",
    "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,mtu=200": "net0",
    "hotplug: memory": "hotplug",
    "hugepages: 2": "hugepages",
    "memory: 1030\nhotplug: memory\nnuma: 1": "memory",
    "memory: 512\nhotplug: memory\nnuma: 1": "memory",
    "memory: 1024\nnuma: 1\nnuma0: cpus=0,memory=512": "numa0",
    "numa: 1\nnuma0: cpus=0,memory=512,hostnodes=0": "numa0",
    "bios: ovmf\ncpu: qemu32": "bios",
    "cores: 1024": "cores",
    "vcpus: 2": "vcpus",
    "hostpci0: 01:00.0,pcie=1": "hostpci0",
    "hostpci0: mapping=none": "hostpci0",
    "usb0: mapping=none": "usb0",
    "usb5: host=1234:abcd\nostype: other": "usb5",
    "cpu: custom-none": "cpu",
    "cpu: host,flags=+no-such-flag": "cpu",
    "vga: serial0,clipboard=vnc": "vga",
    "scsi0: local:100/a.raw,snapshot=1": "scsi0",
    "scsi14: local:100/a.raw\nmachine: pc-i440fx-4.0": "scsi14",
    "scsi0: local:100/a.raw,iops=5,iops_max=3": "scsi0",
    "arch: aarch64": "arch",
    "amd-sev: snp": "amd-sev",
    "args: 'open": "args",
}


@pytest.mark.parametrize(("text", "key"), REFUSED.items())
def test_what_cannot_run_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, key: str
) -> None:
    file, facts = tmp_path / "100.conf", tmp_path / "facts.json"
    file.write_text(text + "\n")
    facts.write_text('{"qemu_version": "11.0", "bridges": [{"name": "vmbr0", "mtu": 1500}]}')
    assert main(["showcmd", "--file", str(file), "--facts", str(facts)]) == 2
    assert re.match(rf"{key}[:.]", capsys.readouterr().err)


def test_an_old_qemu_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, facts = tmp_path / "100.conf", tmp_path / "facts.json"
    file.write_text("")
    facts.write_text('{"qemu_version": "5.0.1"}')
    assert main(["showcmd", "--file", str(file), "--facts", str(facts)]) == 2
    assert capsys.readouterr().err.startswith("machine: QEMU 5.0.1 is too old")


def test_a_chain_of_snapshots_and_pinned_cpus(tmp_path: Path) -> None:
    file = tmp_path / "100.conf"
    drive = "scsi0: localsnapext:100/vm-100-disk-0.qcow2\n"
    file.write_text(
        f"affinity: 0,2-3\nparent: two\n{drive}[one]\n{drive}[two]\nparent: one\n{drive}[aside]\n{drive}"
    )
    argv = build(file, None, None)
    assert argv[:5] == ["/usr/bin/taskset", "--cpu-list", "--all-tasks", "0,2-3", "/usr/bin/kvm"]
    node = json.loads(argv[argv.index("-blockdev") + 1])["file"]
    names = []
    while node:
        names.append(node["file"]["filename"].removeprefix("/var/lib/vzsnapext/images/100/"))
        node = node.get("backing")
    assert names == ["vm-100-disk-0.qcow2", "two-vm-100-disk-0.qcow2", "one-vm-100-disk-0.qcow2"]


def test_undescribed_storages_are_what_their_names_say() -> None:
    mapping = {
        "scsi0": "local-zfs:vm-100-disk-0",
        "scsi1": "my-cifs:100/vm-100-disk-0.raw",
        "scsi2": "krbd-fast:vm-100-disk-1",
        "scsi3": "thin-pool:vm-100-disk-2",
        "scsi4": "elsewhere:100/vm-100-disk-3.qcow2",
        "scsi5": "rbd-fast:vm-100-disk-4",
        "scsi6": "btrfs-fast:100/vm-100-disk-5.raw",
        "ide2": "none,media=cdrom",
    }
    known = {"rbd-fast": {"type": "rbd", "pool": "p", "fsid": "x"}}
    assert guessed_storages(mapping, known) == {
        "local-zfs": {"type": "zfspool", "pool": "rpool/data"},
        "my-cifs": {"type": "cifs", "path": "/mnt/pve/my-cifs"},
        "krbd-fast": {"type": "rbd", "pool": "p", "fsid": "x", "krbd": True},
        "thin-pool": {"type": "lvmthin", "vg": "thin-pool"},
        "elsewhere": {"type": "dir", "path": "/mnt/pve/elsewhere"},
        "btrfs-fast": {"type": "btrfs", "path": "/mnt/pve/btrfs-fast"},
    }
