"""Disk images that are made and removed by themselves, and backups pruned by hand: ``pvesm``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from enginekit import ROOT, Engine, until
from faultkit import deaths
from restorekit import backup

from vms.errors import StateError
from vms.models import VM, Snapshot, Task, Volume
from vms.operations.base import submit_on

PVESM = Path(sys.executable).parent / "pvesm"
Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def pvesm(engine: Engine) -> Shell:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(PVESM), *words], cwd=ROOT, env=engine.environ, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return call


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def test_made_listed_taken_by_a_vm_and_removed(engine: Engine, pvesm: Shell) -> None:
    """By name and without one, for a VM that is there and for one that is not."""
    vm = engine.vm({"name": "plain", "memory": "16", "freeze": "1"}, 101)
    assert "successfully created 'local:101/vm-101-disk-0.raw'" in good(
        pvesm("alloc", "local", "101", "", "4096")
    )
    named = good(pvesm("alloc", "local", "400", "vm-400-disk-7.qcow2", "8M"))
    assert "'local:400/vm-400-disk-7.qcow2'" in named
    listed = good(pvesm("list", "local", "--vmid", "400")).splitlines()
    assert listed[1].split() == ["local:400/vm-400-disk-7.qcow2", "qcow2", "images", str(8 << 20), "400"]
    path = Path(good(pvesm("path", "local:400/vm-400-disk-7.qcow2")).strip())
    assert path.read_bytes()[:4] == b"QFI\xfb"
    engine.do("rescan", vm)
    for words, said in (
        (("alloc", "local", "400", "vm-400-disk-7.qcow2", "8M"), "already"),
        (("alloc", "local", "400", "vm-401-disk-0.raw", "8M"), "is no name for a disk of VM 400"),
        (("alloc", "local", "400", "vm-400-disk-1.raw", "8M", "--format", "qcow2"), "ends in '.raw'"),
        (("alloc", "local", "400", "", "much"), "is not a size"),
        (("alloc", "nowhere", "400", "", "8M"), "does not exist; there are: local"),
        (("alloc", "local", "400", "", "900T"), "no room"),
        (("free", "local:101/vm-101-disk-0.raw"), "is used by VM 101 (unused0)"),
        (("scan", "lvmthin"), "pvesm scan lvm"),
        (("prune-backups", "local"), "say what stays"),
    ):
        refused = pvesm(*words)
        assert refused.returncode == 1, (words, refused.stdout)
        assert said in refused.stderr, (words, refused.stderr)
        assert "Traceback" not in refused.stderr
    assert Volume.objects.filter(vmid=400).count() == 1
    good(pvesm("free", "local:400/vm-400-disk-7.qcow2"))
    assert not path.exists()
    assert not Volume.objects.filter(vmid=400).exists()


def test_what_is_needed_is_not_removed(engine: Engine) -> None:
    volid = "local:101/vm-101-disk-0.raw"
    vm = engine.vm({"name": "plain", "memory": "16", "freeze": "1"}, 101)
    ask = {"storage": "local", "vmid": "101", "size": "4M"}
    assert engine.end(submit_on("imgalloc", node=engine.node, user=None, params=ask)).status == "ok"
    VM.objects.filter(pk=vm.pk).update(pending={"scsi3": volid})
    with pytest.raises(StateError, match="a waiting change of VM 101"):
        submit_on("imgdel", node=engine.node, user=None, params={"volume": volid})
    VM.objects.filter(pk=vm.pk).update(pending={})
    kept = Snapshot.objects.create(vm=vm, name="old", config={"scsi0": volid})
    with pytest.raises(StateError, match="snapshot old of VM 101"):
        submit_on("imgdel", node=engine.node, user=None, params={"volume": volid})
    kept.delete()
    waits = Task.objects.create(
        type="qmmove", node=engine.node, vm=vm, vmid=101, label="Move", status="running"
    )
    with pytest.raises(StateError, match="'Move' is not finished"):
        submit_on("imgdel", node=engine.node, user=None, params={"volume": volid})
    waits.delete()
    task = submit_on("imgdel", node=engine.node, user=None, params={"volume": volid})
    assert engine.end(task).status == "ok"
    assert engine.images() == []


def test_killed_while_it_is_made(engine: Engine) -> None:
    """A worker that dies leaves no image nobody knows."""

    def ask() -> Task:
        params = {"storage": "local", "vmid": "300", "filename": "vm-300-disk-5.qcow2", "size": "4M"}
        return submit_on("imgalloc", node=engine.node, user=None, params=params)

    for border, task in deaths(engine, "imgalloc", ["noted", "made"], engine.home / "borders", ask):
        assert task.status == "error", border
        assert "Nothing of it is left" in task.message
        assert engine.images() == [], border
        until(lambda: not Volume.objects.filter(vmid=300).exists(), "no row of it is left")


def test_backups_are_pruned_by_hand(engine: Engine, pvesm: Shell) -> None:
    archives = [backup(engine), backup(engine)]
    told = good(pvesm("prune-backups", "local", "--keep-last", "1", "--dry-run"))
    assert [line.split()[1] for line in told.splitlines()] == ["keep", "remove"]
    assert len(list((engine.home / "local" / "dump").glob("*.zst"))) == len(set(archives)) == 2
    assert "1 backup removed" in good(pvesm("prune-backups", "local", "--prune-backups", "keep-last=1"))
    assert len(list((engine.home / "local" / "dump").glob("*.zst"))) == 1
