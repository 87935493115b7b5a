"""Disks of a VM through the real worker and a real QEMU: they grow, move and change hands."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from diskkit import (
    compressed,
    config,
    created,
    files,
    fill,
    holds_pattern,
    left_in_qemu,
    lines,
    path_of,
    second,
)
from enginekit import Engine, until

from vms.errors import VMError

if TYPE_CHECKING:
    from vms.models import VM, Storage


@pytest.fixture
def bench(engine: Engine) -> Iterator[Engine]:
    """The engine with a second storage."""
    from vms.models import Storage

    second(engine)
    yield engine
    shutil.rmtree(engine.home / "second", ignore_errors=True)
    Storage.objects.filter(name="second", volumes=None).delete()


def refused(engine: Engine, verb: str, vm: VM, words: str, **params: str) -> None:
    """Asked for, it is refused at once with these words."""
    with pytest.raises(VMError, match=words):
        engine.submit(verb, vm, **params)


def test_a_disk_grows_stopped_and_running(engine: Engine) -> None:
    vm = created(engine)
    engine.do("resize", vm, disk="scsi0", size="+32M")
    text = "local:100/vm-100-disk-0.qcow2,iothread=1,size"
    assert config(vm)["scsi0"] == f"{text}=96M"
    engine.do("qmstart", vm)
    engine.do("resize", vm, disk="scsi0", size="128M")
    vm.refresh_from_db()
    assert config(vm)["scsi0"] == vm.launch["config"]["scsi0"] == f"{text}=128M"
    assert vm.draft == {}
    refused(engine, "resize", vm, "shrinking disks is not supported", disk="scsi0", size="64M")
    refused(engine, "resize", vm, "does not exist", disk="scsi1", size="+1G")
    refused(engine, "resize", vm, "is no size", disk="scsi0", size="much")
    refused(engine, "resize", vm, "changed by somebody else", disk="scsi0", size="+1G", digest="0" * 40)
    task = engine.end(engine.submit("resize", vm, disk="scsi0", size="+100T"))
    assert "has no room" in task.message
    engine.do("qmstop", vm)
    assert holds_pattern("local:100/vm-100-disk-0.qcow2")


def test_a_stopped_disk_moves(bench: Engine) -> None:
    vm = created(bench)
    refused(bench, "qmmove", vm, "same storage with same format", disk="scsi0", storage="local")
    refused(bench, "qmmove", vm, "storage 'nowhere' does not exist", disk="scsi0", storage="nowhere")
    bench.do("qmmove", vm, disk="scsi0", storage="second", format="raw")
    now = config(vm)
    assert now["scsi0"] == "second:100/vm-100-disk-0.raw,iothread=1,size=64M"
    assert now["unused0"] == "local:100/vm-100-disk-0.qcow2"
    assert holds_pattern("second:100/vm-100-disk-0.raw")
    bench.do("qmmove", vm, disk="scsi0", storage="second", format="qcow2", delete="1")
    now = config(vm)
    assert now["scsi0"] == "second:100/vm-100-disk-0.qcow2,iothread=1,size=64M" or "disk-1" in now["scsi0"]
    assert "unused1" not in now
    assert holds_pattern(now["scsi0"].split(",")[0])
    task = bench.do("qmmove", vm, disk="unused0", format="raw", delete="1")
    now = config(vm)
    assert now["unused0"] == "local:100/vm-100-disk-1.raw", lines(task)
    assert files(bench) == ["local:100/vm-100-disk-1.raw", now["scsi0"].split(",")[0]]
    assert now["boot"] == "order=scsi0"


def test_a_running_disk_moves(bench: Engine) -> None:
    """There and back, with an I/O thread; the guest runs on, the old volume is kept or deleted."""
    vm = created(bench)
    bench.do("qmstart", vm)
    pid, since = bench.qemus()[100], vm.status_since
    task = bench.do("qmmove", vm, disk="scsi0", storage="second", format="raw")
    assert "mirroring" in lines(task)
    now = config(vm)
    assert now["scsi0"] == "second:100/vm-100-disk-0.raw,iothread=1,size=64M"
    assert now["unused0"] == "local:100/vm-100-disk-0.qcow2"
    vm.refresh_from_db()
    assert (vm.launch["config"]["scsi0"], vm.draft) == (now["scsi0"], {})
    assert (vm.status, vm.status_since) == ("running", since)  # no page tells of the moment it stood still
    assert holds_pattern("second:100/vm-100-disk-0.raw")
    assert path_of("second:100/vm-100-disk-0.raw").stat().st_blocks * 512 < 8 << 20
    bench.do("qmmove", vm, disk="scsi0", storage="local", format="qcow2", delete="1")
    bench.do("resize", vm, disk="scsi0", size="+1M")
    now = config(vm)
    assert now["scsi0"] == "local:100/vm-100-disk-1.qcow2,iothread=1,size=65M"
    assert files(bench) == ["local:100/vm-100-disk-0.qcow2", "local:100/vm-100-disk-1.qcow2"]
    assert bench.qemus()[100] == pid
    bench.do("qmstop", vm)
    assert holds_pattern("local:100/vm-100-disk-1.qcow2")
    bench.do("qmstart", vm)


def test_a_moved_disk_is_unplugged_and_plugged_in_again(bench: Engine) -> None:
    """Whatever its nodes are called by then."""
    from vms.operations.configure import change

    agent = "1,fstrim_cloned_disks=1"
    vm = created(bench, scsihw="virtio-scsi-pci", scsi1="local:0.0625", scsi0="local:0.0625", agent=agent)
    bench.do("qmstart", vm)
    task = bench.do("qmmove", vm, disk="scsi1", storage="second", delete="1")
    assert "the guest agent does not answer" in lines(task)  # it would have been asked to trim
    moved = "second:100/vm-100-disk-0.qcow2"
    assert bench.end(change(vm, None, delete=["scsi1"])).status == "ok"
    assert config(vm)["unused0"] == moved
    assert left_in_qemu(bench, 100, "scsi1") == ([], set())
    assert bench.end(change(vm, None, set={"scsi1": moved})).status == "ok"
    assert left_in_qemu(bench, 100, "scsi1") == ([], {"drive-scsi1"})
    vm.refresh_from_db()
    assert (config(vm)["scsi1"].partition(",")[0], vm.pending) == (moved, {})


def test_a_move_is_cancelled(bench: Engine) -> None:
    """Running and stopped: nothing of it is left, and the guest goes on."""
    from vms.tasks import queue

    vm = created(bench, mib=16)
    for state in ("running", "stopped"):
        if state == "running":
            bench.do("qmstart", vm)
        task = bench.submit("qmmove", vm, disk="scsi0", storage="second", bwlimit="512")
        until(lambda: "second:100/vm-100-disk-0.qcow2" in files(bench), "the move is under way")
        queue.request_cancel(task)
        assert bench.end(task).status == "cancelled", lines(task)
        assert files(bench) == ["local:100/vm-100-disk-0.qcow2"]
        vm.refresh_from_db()
        assert config(vm)["scsi0"].startswith("local:100/vm-100-disk-0.qcow2")
        assert (vm.draft, vm.lock) == ({}, "")
        bench.status(vm, state)
        if state == "running":
            bench.do("qmmove", vm, disk="scsi0", format="raw", delete="1")
            bench.do("qmmove", vm, disk="scsi0", format="qcow2", delete="1")
            bench.do("qmstop", vm)
    assert holds_pattern("local:100/vm-100-disk-0.qcow2", 16)


def test_the_small_disks_move_too(bench: Engine) -> None:
    """UEFI variables while the guest runs; a TPM's state and a cloud-init drive once it is off."""
    vm = created(
        bench, mib=0, bios="ovmf", machine="q35", scsi0="local:0.0625", efidisk0="local:1,efitype=4m",
        tpmstate0="local:1,version=v2.0", ide2="local:cloudinit,media=cdrom",
    )  # fmt: skip
    bench.do("qmstart", vm, 60)
    size = dict(pair.split("=") for pair in config(vm)["efidisk0"].split(",")[1:])["size"]
    bench.do("qmmove", vm, disk="efidisk0", storage="second", format="raw", delete="1")
    assert config(vm)["efidisk0"] == f"second:100/vm-100-disk-0.raw,efitype=4m,size={size}"
    for key, words in (("tpmstate0", "its TPM has"), ("ide2", "is written anew")):
        refused(bench, "qmmove", vm, words, disk=key, storage="second")
    bench.do("qmstop", vm)
    refused(bench, "qmmove", vm, "TPM's state is raw", disk="tpmstate0", storage="second", format="qcow2")
    for key in ("tpmstate0", "ide2"):
        bench.do("qmmove", vm, disk=key, storage="second", delete="1")
        assert config(vm)[key].startswith("second:100/vm-100-")
    assert config(vm)["ide2"].startswith("second:100/vm-100-cloudinit.")
    assert not list((bench.home / "local" / "images" / "100").glob("*cloudinit*"))
    bench.do("qmstart", vm, 60)
    for key in ("efidisk0", "ide2"):
        refused(bench, "resize", vm, "cannot be resized|can't resize", disk=key, size="+1G")


def test_a_linked_clone_moves_off_its_base(bench: Engine) -> None:
    """Stopped it grows on its base; moved while it runs it stands alone, and the base is free."""
    from vms.models import VM, Volume
    from vms.operations.clone import clone

    bench.do("qmtemplate", created(bench))
    assert bench.end(clone(VM.objects.get(vmid=100), None, newid=101, params={})).status == "ok"
    vm = VM.objects.get(vmid=101)
    assert config(vm)["scsi0"].startswith("local:100/base-100-disk-0.qcow2/101/vm-101-disk-0.qcow2,")
    bench.do("resize", vm, disk="scsi0", size="+16M")
    bench.do("qmstart", vm)
    bench.do("qmmove", vm, disk="scsi0", storage="second", delete="1")
    assert config(vm)["scsi0"] == "second:101/vm-101-disk-0.qcow2,iothread=1,size=80M"
    assert not Volume.objects.exclude(base=None).exists()
    assert holds_pattern("second:101/vm-101-disk-0.qcow2")
    bench.do("qmstop", vm)
    assert holds_pattern("second:101/vm-101-disk-0.qcow2")
    assert files(bench) == ["second:101/vm-101-disk-0.qcow2"]
    refused(bench, "qmmove", VM.objects.get(vmid=100), "is a template", disk="scsi0", storage="second")


def test_a_guest_that_ends_while_its_disk_moves(bench: Engine) -> None:
    """The task says so, the half copy goes, the disk is where it was."""
    # More than the 16 MiB that a mirror has on the way at once, whatever its limit.
    vm = created(bench, mib=96, scsi0="local:0.25,format=qcow2")
    bench.do("qmstart", vm)
    task = bench.submit("qmmove", vm, disk="scsi0", storage="second", bwlimit="512")
    until(lambda: "mirroring" in lines(task), "the move is under way")
    os.kill(bench.qemus()[100], signal.SIGKILL)
    assert bench.end(task).status == "error"
    assert "scsi0 was not moved" in task.message
    assert files(bench) == ["local:100/vm-100-disk-0.qcow2"]
    bench.status(vm, "stopped")
    assert config(vm)["scsi0"].startswith("local:")
    bench.do("qmstart", vm)


def test_a_target_that_fills_up(engine: Engine, tiny: Storage) -> None:
    """The room is there when it is looked at and gone when it is used: the half copy goes."""
    vm = created(engine, mib=0, scsi0="local:0.25,format=qcow2")
    compressed(path_of("local:100/vm-100-disk-0.qcow2"), engine.home / "big.raw")
    for state in ("stopped", "running"):
        if state == "running":
            engine.do("qmstart", vm)
        task = engine.end(engine.submit("qmmove", vm, disk="scsi0", storage="tiny"), 60)
        assert task.status == "error"
        assert "No space left on device" in task.message, (state, task.message)
        assert config(vm)["scsi0"].startswith("local:")
        assert not list(Path(tiny.path).glob("images/*/*"))
        engine.status(vm, state)
    engine.do("qmmove", vm, 60, disk="scsi0", format="raw", delete="1")
    task = engine.end(engine.submit("qmmove", vm, disk="scsi0", storage="tiny"))
    assert "has no room" in task.message  # this one is seen to be too large


def test_a_disk_changes_hands(bench: Engine) -> None:
    giver, taker = created(bench, 100), created(bench, 101, mib=0)
    bench.do("qmmove", giver, disk="scsi0", target_vmid="101", target_disk="virtio3")
    assert "scsi0" not in config(giver)
    assert config(giver)["boot"] == "order="
    assert config(taker)["virtio3"] == "local:101/vm-101-disk-1.qcow2,iothread=1,size=64M"
    assert holds_pattern("local:101/vm-101-disk-1.qcow2")
    assert files(bench) == ["local:101/vm-101-disk-0.qcow2", "local:101/vm-101-disk-1.qcow2"]
    bench.do("qmstart", taker)
    refused(bench, "qmmove", taker, "is running", disk="virtio3", target_vmid="100")
    bench.do("qmstop", taker)
    refused(bench, "qmmove", taker, "there is no VM 999", disk="virtio3", target_vmid="999")
    refused(bench, "qmmove", taker, "this VM itself", disk="virtio3", target_vmid="101")
    refused(bench, "qmmove", taker, "does not go with", disk="virtio3", target_vmid="100", storage="second")
    bench.do("qmmove", taker, disk="virtio3", target_vmid="100", target_disk="unused4")
    assert config(giver)["unused4"] == "local:100/vm-100-disk-0.qcow2"


def test_an_image_becomes_a_disk(bench: Engine) -> None:
    """From the library, from another VM that is off, and by its path for who has a shell."""
    from vms.operations.base import submit_on

    vm = created(bench)
    image = bench.home / "local" / "import" / "small.img"
    image.parent.mkdir(exist_ok=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "16M"], check=True)
    fill(image, 4, "qcow2")
    image.chmod(0o644)
    bench.end(submit_on("storagescan", node=bench.node, user=None))
    bench.do("importdisk", vm, source="local:import/small.img", storage="second", format="raw")
    assert config(vm)["unused0"] == "second:100/vm-100-disk-0.raw"
    assert holds_pattern("second:100/vm-100-disk-0.raw")
    bench.do("importdisk", vm, source=str(image), storage="local", target_disk="virtio1")
    assert config(vm)["virtio1"] == "local:100/vm-100-disk-1.qcow2,size=16M"
    assert config(vm)["boot"] == "order=scsi0"
    other = created(bench, 101, mib=0)
    bench.do("importdisk", other, source="local:100/vm-100-disk-0.qcow2", storage="local")
    assert holds_pattern(config(other)["unused0"])
    bench.do("qmstart", vm)
    refused(bench, "importdisk", other, "is running", source="local:100/vm-100-disk-0.qcow2", storage="local")
    refused(bench, "importdisk", vm, "no volume", source="local:import/none.img", storage="local")
    words = {"source": str(image), "storage": "local", "target_disk": "scsi0"}
    refused(bench, "importdisk", vm, "already in use", **words)
    task = bench.end(bench.submit("importdisk", vm, source="/nowhere/x.qcow2", storage="local"))
    assert "cannot be opened" in task.message


def test_rescan_finds_what_is_there(bench: Engine) -> None:
    vm = created(bench)
    disk, stray = path_of("local:100/vm-100-disk-0.qcow2"), path_of("local:100/vm-100-disk-7.raw")
    subprocess.run(["qemu-img", "resize", "-q", "-f", "qcow2", str(disk), "80M"], check=True)
    stray.write_bytes(bytes(1 << 20))
    before = config(vm)
    task = bench.do("rescan", vm, dryrun="1")
    assert "updated from 64M to 80M" in lines(task)
    assert config(vm) == before
    bench.do("rescan", vm)
    now = config(vm)
    assert now["scsi0"].endswith("size=80M")
    assert now["unused0"] == "local:100/vm-100-disk-7.raw"
    assert "every volume is known" in lines(bench.do("rescan", vm))
    refused(bench, "qmmove", vm, "is missing", disk="unused0")
