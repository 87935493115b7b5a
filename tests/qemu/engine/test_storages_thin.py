"""A VM on LVM-thin: a real worker and a real QEMU on real block devices; LVM's own programs are played.

This kernel may have no device-mapper, so each volume is a loop device (:mod:`scripted`). Where there are no
loop devices either the same life is led on a plain directory.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clonekit import clone, made
from enginekit import Engine
from guestkit import grounds
from restorekit import done, restore
from snapkit import lines
from storagekit import BASE, disks, paint, painted, place, size

from vms.errors import StateError
from vms.models import VM, Storage, Volume

PLAYED = Path(__file__).parent / "played"


@pytest.fixture
def thin(installation: Engine) -> Iterator[tuple[Engine, Storage]]:
    """An engine whose worker has LVM with a thin pool, and the storage on it."""
    engine = installation
    with grounds.folder() as folder:
        real = grounds.loops(folder)
        group = f"pvt{os.getpid()}"
        if engine.redis_process is None:
            engine.start_redis()
        engine.kill()
        if real:
            engine.start(PYTHONPATH=str(PLAYED), PVELITE_TEST_LVM=f"{group}:{folder}")
            options = {"vgname": group, "thinpool": "data"}
            row = Storage.objects.create(name="thin", kind="lvmthin", options=options, content=["images"])
        else:
            (folder / "plain").mkdir(mode=0o711)
            engine.start()
            row = Storage.objects.create(name="thin", path=str(folder / "plain"), content=["images"])
        try:
            yield engine, row
        finally:
            engine.kill()
            from enginekit import wipe

            for pid in engine.qemus().values():
                os.kill(pid, 9)
            engine.start()
            wipe(engine)
            engine.kill()  # so that no scan finds again what is forgotten now
            Volume.objects.filter(storage=row).delete()
            Storage.objects.filter(pk=row.pk).delete()
            end_devices(Path("/dev", group))


def archived_and_restored(engine: Engine, vm: VM) -> VM:
    """Another VM, made of a backup of the one that runs."""
    task = engine.do("vzdump", vm, 60, storage="local")
    made = Volume.objects.get(content="backup", vmid=vm.vmid)
    assert made.name.rpartition("/")[2] in lines(task)
    return done(engine, restore(engine, made.volid, 105))


def end_devices(folder: Path) -> None:
    """Detach every loop device that a played volume was, and forget the group."""
    if folder.is_dir():
        for link in folder.iterdir():
            subprocess.run(["losetup", "--detach", os.readlink(link)], check=True)
            link.unlink()
        folder.rmdir()


def test_a_life_on_thin_volumes(thin: tuple[Engine, Storage]) -> None:
    """Moved there, snapshot, grown and cloned while it runs, taken back, a template with a linked clone."""
    engine, storage = thin
    block = storage.kind == "lvmthin"
    vm = engine.draft(BASE | {"scsi0": "thin:0.0625", "scsi1": "local:0.033,format=qcow2"}, 100)
    engine.do("qmcreate", vm, 60)
    assert disks(vm)["scsi0"].name == ("vm-100-disk-0" if block else "100/vm-100-disk-0.qcow2")
    paint(engine, vm, 1)
    engine.do("qmstart", vm, 60)
    if block:
        owner = Path(place(disks(vm)["scsi0"])).stat().st_uid
        assert owner == pwd.getpwnam("pvelite").pw_uid
        argv = Path(f"/proc/{engine.qemus()[100]}/cmdline").read_text()
        assert '"driver":"host_device"' in argv
    task = engine.do("qmmove", vm, 60, disk="scsi1", storage="thin", delete="1")
    assert vm.status == "prelaunch", lines(task)
    assert disks(vm)["scsi1"].storage == storage
    assert size(vm, "scsi1") == ("36M" if block else size(vm, "scsi1"))  # in whole extents
    task = engine.do("qmsnapshot", vm, snapname="one")
    assert ("the guest stood still" in lines(task)) == block
    paint(engine, vm, 2)
    engine.do("resize", vm, disk="scsi0", size="+64M")
    assert size(vm, "scsi0") == "128M"
    copy = made(engine, clone(engine, vm, 101))
    assert painted(copy) == {2}
    then = made(engine, clone(engine, vm, 102, snapname="one", full="1"))
    assert painted(then) == {1}
    back = archived_and_restored(engine, vm)
    assert painted(back) == {2}
    assert {disk.storage.name for disk in disks(back).values()} == {"thin"}
    engine.do("qmrollback", vm, 60, snapname="one", start="1")
    assert vm.status == "prelaunch"
    engine.do("qmstop", vm)
    assert painted(vm) == {1}
    engine.do("qmdelsnapshot", vm, snapname="one")
    engine.do("qmtemplate", vm)
    linked = made(engine, clone(engine, vm, 104, full="0"))
    assert painted(linked) == {1}
    assert Volume.objects.filter(base__vmid=100, vmid=104).count() == 2
    engine.do("qmstart", linked, 60)
    engine.do("qmstop", linked)
    for one in VM.objects.order_by("template", "vmid"):
        assert engine.end(engine.submit("qmdestroy", one, now="1"), 60).status == "ok"
    assert not Volume.objects.filter(storage=storage).exists()


def test_a_tpm_on_a_thin_volume(thin: tuple[Engine, Storage]) -> None:
    """Its emulator has the device; a snapshot, whose copy of it would have to be a file, is refused."""
    engine, storage = thin
    vm = engine.draft(BASE | {"tpmstate0": "thin:1,version=v2.0"}, 100)
    engine.do("qmcreate", vm, 60)
    engine.do("qmstart", vm, 60)
    engine.do("qmstop", vm)
    engine.do("qmstart", vm, 60)
    if storage.kind == "lvmthin":
        with pytest.raises(StateError, match="no copy of it can be kept"):
            engine.submit("qmsnapshot", vm, snapname="one")
    engine.do("qmstop", vm)
