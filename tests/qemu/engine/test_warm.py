"""Warm templates on a real guest: booted once, then every clone goes on from there as somebody else."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from clonekit import clone, config, died, dies, files, made, removed
from enginekit import Engine, until, wipe
from faultkit import deaths, fill, go_on, held_at
from guestkit import standin
from guestkit.media import Media

from vms.errors import ConfigError, ConfigErrors, StateError
from vms.models import VM, Disk, Nic, Task, Volume
from vms.qemu.agent import Agent

CONFIG = {
    "name": "gold",
    "ostype": "l26",
    "memory": "128",
    "machine": "q35",
    "agent": "1",
    "scsihw": "virtio-scsi-single",
    "scsi0": "local:1",
    "scsi1": "local:0.03125,format=raw",
    "ide2": "local:cloudinit,media=cdrom",
    "net0": "virtio=BC:24:11:00:00:01",
    "boot": "order=net0;scsi0",
}
COLD = ["900/base-900-disk-0.qcow2", "900/base-900-disk-1.raw", "900/vm-900-cloudinit.raw"]
TOLD = """
modprobe virtio_net
until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done
hostname
cat /sys/class/net/eth0/address
date +%Y
head -c 8 /dev/urandom | od -An -tx1
"""
"""What a guest says of itself; it has no udev to load the driver of what is plugged in."""
SECOND = "disk=$(grep -lx 65536 /sys/block/sd*/size | cut -d/ -f4)"
"""Which disk is ``scsi1``, by its size."""


def inside(engine: Engine, vmid: int, script: str) -> str:
    """What a line of shell inside the guest prints."""

    async def ask() -> str:
        agent = Agent(engine.run_dir / "vm" / str(vmid) / "agent" / "qga.sock")
        async with asyncio.timeout(60):
            while not await agent.ping(1):
                pass
            pid = await agent.run(["/bin/sh", "-ec", script])
            while not (status := await agent.run_status(pid)).exited:
                await asyncio.sleep(0.02)
        assert status.exit_code == 0, status
        return status.stdout.decode()

    return asyncio.run(ask())


def golden(engine: Engine, media: Media) -> VM:
    """Template 900, its first disk the test guest's own, its second one an empty file system."""
    vm = engine.draft(CONFIG, vmid=900)
    engine.do("qmcreate", vm)
    disk = engine.home / "local" / "images" / "900" / "vm-900-disk-0.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", media.disk, disk], check=True)
    second = disk.with_name("vm-900-disk-1.raw")
    subprocess.run(["mkfs.ext4", "-q", "-F", second], check=True)
    Volume.objects.filter(name="900/vm-900-disk-0.qcow2").update(size=media.disk.stat().st_size)
    engine.do("qmtemplate", vm)
    return vm


@pytest.fixture(scope="module")
def warmed(installation: Engine, guest_media: Media, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a warm template consists of, made once: its rows as text, its files aside."""
    from django.core import serializers

    engine, aside = installation, tmp_path_factory.mktemp("warm")
    engine.start_redis()
    engine.start()
    template = golden(engine, guest_media)
    engine.do("qmwarm", template, within=300)
    rows = [
        *Volume.objects.order_by("pk"),
        VM.everything.get(vmid=900),
        *Disk.objects.all(),
        *Nic.objects.all(),
    ]
    (aside / "rows.json").write_text(serializers.serialize("json", rows))
    subprocess.run(["cp", "-a", engine.home / "local" / "images" / "900", aside], check=True)
    wipe(engine)
    return aside


@pytest.fixture
def template(engine: Engine, warmed: Path) -> VM:
    """Template 900, warm."""
    return laid_out(engine, warmed)


def laid_out(engine: Engine, warmed: Path) -> VM:
    """The template as it was kept, whatever there is of it now."""
    from django.core import serializers
    from django.db import transaction

    images = engine.home / "local" / "images"
    images.mkdir(mode=0o711, parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", warmed / "900", images], check=True)
    with transaction.atomic():
        VM.everything.all().delete()
        Volume.objects.update(base=None)
        Volume.objects.all().delete()  # a scan may have been quicker
        for row in serializers.deserialize("json", (warmed / "rows.json").read_text()):
            row.save()
    return VM.objects.get(vmid=900)


def log(task: Task) -> str:
    return "\n".join(line.text for line in task.lines.all())


def test_clones_go_on_as_somebody_else(engine: Engine, template: VM) -> None:
    """Two of one memory: up as long as it, each with its name, address, random numbers and disks."""
    assert template.saved["runningmachine"].startswith("pc-q35-")
    assert sorted(template.saved["disks"]) == ["scsi0", "scsi1"]
    assert "net0" not in template.saved["shape"]
    tasks = [clone(engine, template, 101 + n, warm="1", name=f"web-{n}") for n in range(2)]
    vms = [made(engine, task) for task in tasks]
    said = [inside(engine, vm.vmid, TOLD) for vm in vms]
    for vm, words, task in zip(vms, said, tasks, strict=True):
        engine.status(vm, "running")
        vm.refresh_from_db()
        assert (vm.draft, vm.lock, vm.vmstate) == ({}, "", None)
        assert words.startswith(f"{vm.name}\n")
        assert config(vm)["net0"].split(",")[0].partition("=")[2].lower() in words
        assert vm.launch["config"]["net0"] == config(vm)["net0"]
        assert vm.launch["config"]["scsi0"].startswith(f"local:900/base-900-disk-2.qcow2/{vm.vmid}/")
        assert "guest: random numbers: stirred" in log(task)
        assert "net0 is plugged in" in log(task)
    until(lambda: VM.objects.filter(agent__up=True).count() == 2, "both agents are heard of")
    assert said[0].splitlines()[-1] != said[1].splitlines()[-1]
    inside(engine, 101, f"{SECOND}; echo mine | dd of=/dev/$disk bs=512 conv=sync 2>/dev/null; sync")
    assert inside(engine, 101, f"{SECOND}; head -c 4 /dev/$disk") == "mine"
    assert inside(engine, 102, f"{SECOND}; head -c 4 /dev/$disk") == "\0\0\0\0"
    with pytest.raises(StateError, match="still in use by linked"):
        engine.submit("qmcool", template)
    with pytest.raises(StateError, match="still in use by linked cloned VMs"):
        engine.submit("qmdestroy", template)
    for vm in vms:
        engine.do("qmstop", vm)
        engine.end(engine.submit("qmdestroy", vm, now="1"))
    assert set(VM.everything.values_list("vmid", flat=True)) == {900}
    engine.do("qmcool", template)
    assert (template.vmstate, template.saved) == (None, {})
    assert files(engine) == COLD
    engine.end(engine.submit("qmdestroy", template, now="1"))
    assert files(engine) == []


WRITES = """
modprobe ext4
mkdir -p /data
mount -t ext4 /dev/$disk /data
(while :; do echo $((n += 1)) > /data/new; mv /data/new /data/$((n % 50)); done) > /dev/null 2>&1 &
until [ -e /data/20 ]; do sleep 0.05; done
"""


def goes_on(engine: Engine) -> None:
    before = inside(engine, 101, "cat /data/1").strip()
    inside(engine, 101, f"until [ $(cat /data/1) -gt {before} ]; do sleep 0.05; done")


def test_a_guest_that_writes_is_copied_at_one_moment(engine: Engine, template: VM) -> None:
    """Its agent freezes its file systems for it: the copy's is whole and was left in order.

    A worker that dies just then leaves it frozen; the next one ends that.
    """
    vm = made(engine, clone(engine, template, 101, warm="1"))
    inside(engine, 101, f"{SECOND}\n{WRITES}")
    dies(engine, "qmclone:7")
    task = clone(engine, vm, 102, full="1")
    died(engine)
    assert asyncio.run(Agent(engine.run_dir / "vm" / "101" / "agent" / "qga.sock").still())
    engine.start()
    assert "Nothing of it is left" in engine.end(task).message
    goes_on(engine)
    task = clone(engine, vm, 102, full="1", format="raw")
    made(engine, task)
    assert "1 file systems frozen" in log(task)
    copied = engine.home / "local" / "images" / "102" / "vm-102-disk-1.raw"
    checked = subprocess.run(["e2fsck", "-fn", copied], stdout=subprocess.PIPE, text=True)
    assert checked.returncode == 0, checked.stdout
    assert "recovering journal" not in checked.stdout
    goes_on(engine)


def test_a_cold_clone_of_a_warm_template_is_pristine(engine: Engine, template: VM) -> None:
    vm = made(engine, clone(engine, template))
    assert config(vm)["scsi0"].startswith("local:900/base-900-disk-0.qcow2/101/")
    engine.end(engine.submit("qmdestroy", vm, now="1"))
    assert engine.end(engine.submit("qmdestroy", template, now="1")).status == "ok", "with all it keeps"
    assert files(engine) == []


def test_memory_that_no_longer_fits_is_not_used(engine: Engine, template: VM) -> None:
    """Changed hardware, changed disks: said at once, and said why."""
    from vms.models.configuration import config_of, save_config

    save_config(template, config_of(template) | {"memory": "256", "name": "other", "onboot": "1"})
    with pytest.raises(StateError, match="does not fit any more: memory changed since it was saved"):
        clone(engine, template, warm="1")
    with pytest.raises(ConfigError, match="only a linked clone"):
        clone(engine, template, warm="1", full="1")
    save_config(template, config_of(template) | {"memory": "128"})
    VM.objects.filter(pk=template.pk).update(saved={**template.saved, "node": {"accelerator": "kvm"}})
    with pytest.raises(StateError, match="it was saved under kvm"):
        clone(engine, template, warm="1")
    assert list(VM.everything.values_list("vmid", flat=True)) == [900]


def test_what_cannot_be_kept_warm(engine: Engine) -> None:
    """Every reason at once, on its key; and a guest without an agent in it is given up in good order."""
    vm = engine.draft(
        {**CONFIG, "ostype": "win10", "agent": "0", "vmgenid": "0", "scsi0": "local:0.03125"}, 900
    )
    engine.do("qmcreate", vm)
    with pytest.raises(StateError, match="is no template"):
        engine.submit("qmwarm", vm)
    engine.do("qmtemplate", vm)
    with pytest.raises(ConfigErrors) as caught:
        engine.submit("qmwarm", vm)
    assert sorted(caught.value.by_key()) == ["agent", "ostype", "vmgenid"]
    with pytest.raises(StateError, match="keeps no warm state"):
        clone(engine, vm, warm="1")


def test_a_guest_that_does_not_come_up(engine: Engine) -> None:
    """Time-out, cancelled, killed: the hidden guest is gone and nothing of it is left."""
    from vms.tasks import queue

    vm = engine.draft({**CONFIG, "scsi0": "local:0.03125"}, 900)
    engine.do("qmcreate", vm)
    engine.do("qmtemplate", vm)
    before = files(engine)

    def nothing_left() -> None:
        vm.refresh_from_db()
        assert (vm.vmstate, vm.saved, vm.status, engine.qemus()) == (None, {}, "stopped", {})
        assert files(engine) == before

    task = engine.end(engine.submit("qmwarm", vm, timeout="2"), 60)
    assert "did not come up and become quiet within 2 seconds" in task.message
    nothing_left()
    task = engine.submit("qmwarm", vm)
    engine.status(vm, "running", timeout=30)
    queue.request_cancel(task)
    assert engine.end(task).status == "cancelled"
    nothing_left()


BORDERS = (
    "noted", "scsi0 laid over", "scsi1 laid over", "started", "quiet", "place made", "stopped", "saved",
    "ended", "a base made", "a base made",
)  # fmt: skip


def test_a_warm_up_killed_at_every_border(engine: Engine, small: Path, tmp_path: Path) -> None:
    """The hidden guest is gone and nothing of it is left; so too when its memory finds no room."""
    small_one = {"memory": "32", "scsi0": "local:0.03125", "vga": "none", "ciuser": "ada"}
    vm = engine.draft(CONFIG | small_one, 900)
    engine.do("qmcreate", vm)
    engine.do("qmtemplate", vm)
    engine.do("qmcloudinit", vm)
    seed = engine.home / "local" / "images" / COLD[-1]

    def nothing_left(border: str) -> None:
        vm.refresh_from_db()
        assert (vm.vmstate, vm.saved, vm.status) == (None, {}, "stopped"), border
        assert (files(engine), engine.qemus(), engine.run_files(900)) == (COLD, {}, []), border
        assert b"ada" in seed.read_bytes()
        rows = Volume.objects.filter(vmid=900)
        until(lambda: rows.count() == len(COLD), f"a scan that looked meanwhile takes it back: {border}")

    with standin.agent(engine.run_dir, 900):
        task = held_at(engine, f"qmwarm:{BORDERS.index('place made') + 1}", vm, statestorage="small")
        assert b"ada" not in seed.read_bytes(), "what it made for her would be in every clone"
        fill(small)
        go_on(engine)
        assert engine.end(task).status == "error"
        assert "No space left on device" in task.message
        nothing_left("full")
        assert not list(small.rglob("*state*"))
        ask = lambda: engine.submit("qmwarm", vm)  # noqa: E731
        for border, task in deaths(engine, "qmwarm", BORDERS, tmp_path / "steps", ask):
            assert "Nothing of it is left" in task.message, border
            nothing_left(border)
    assert sorted(VM.objects.get(vmid=900).saved["disks"]) == ["scsi0", "scsi1"]
    assert b"ada" in seed.read_bytes()


def test_a_warm_state_discarded_by_two(engine: Engine, warmed: Path, tmp_path: Path) -> None:
    """A worker killed in the middle leaves the rest to the next one."""

    def ask() -> Task:
        return engine.submit("qmcool", laid_out(engine, warmed))

    for border, task in deaths(engine, "qmcool", ["volume freed"] * 3, tmp_path / "steps", ask, again=True):
        assert task.status == "ok", border
        template = VM.objects.get(vmid=900)
        assert (template.vmstate, template.saved) == (None, {})
        assert files(engine) == COLD


def test_a_clone_without_an_identity_does_not_live(engine: Engine, template: VM, tmp_path: Path) -> None:
    """kill -9 at every border of a warm clone: all of it is taken back until it is told who it is."""
    bases = files(engine)
    names = ("source read", "ide2 made", "scsi0 made", "scsi1 made", "before the guest goes on", "goes on",
             "answered", "introduced", "defined")  # fmt: skip
    ask = lambda: clone(engine, template, warm="1")  # noqa: E731
    for border, task in deaths(engine, "qmclone", names, tmp_path / "steps", ask):
        if border == "defined":  # it is a VM
            assert task.status == "ok", task.message
            vm = VM.objects.get(vmid=101)
            assert (vm.status, vm.launch["config"]) == ("running", config(vm))
            removed(engine, vm)
        else:
            assert "Nothing of it is left" in task.message, border
            assert (engine.qemus(), files(engine), engine.run_files(101)) == ({}, bases, []), border
            assert list(VM.everything.values_list("vmid", flat=True)) == [900]


def test_a_state_that_cannot_be_read(engine: Engine, template: VM) -> None:
    place = engine.home / "local" / "images" / str(template.vmstate.name if template.vmstate else "")
    with place.open("r+b") as file:
        file.truncate(20 << 20)
    task = engine.end(clone(engine, template, warm="1"), 60)
    assert task.status == "error"
    assert task.message.startswith("clone failed: ")
    with suppress(FileNotFoundError):
        assert not list((engine.home / "local" / "images" / "101").iterdir())
    assert list(VM.everything.values_list("vmid", flat=True)) == [900]
