"""Create, killed at every border and out of room: a VM that is whole, or the draft it was and no orphan."""

from __future__ import annotations

import subprocess
from pathlib import Path

from enginekit import Engine, until
from faultkit import at_every_border

from vms.models import VM, Disk, Storage, Task, Volume
from vms.operations.base import submit_on

CONFIG = {
    "name": "half", "memory": "64", "scsihw": "virtio-scsi-single", "boot": "order=scsi0", "bios": "ovmf",
    "scsi0": "local:1,format=qcow2", "scsi1": "local:cloudinit,media=cdrom", "efidisk0": "local:1,efitype=4m",
}  # fmt: skip


def test_a_worker_killed_at_any_step_leaves_a_vm_or_its_draft(engine: Engine) -> None:
    numbers = iter(range(150, 200))

    def settled(vm: VM, task: Task, name: str) -> None:
        vm.refresh_from_db()
        files = [file for file in engine.images() if f"vm-{vm.vmid}-" in file]
        if name == "defined":
            assert (task.status, vm.stage, len(files)) == ("ok", "defined", 3), task.message
            assert not Disk.objects.filter(vm=vm, volume=None).exists()
        else:
            assert (task.status, vm.stage, files) == ("error", "draft", []), (name, task.message)
            assert "was restarted" in task.message
            # A scan that looked a moment before tells of it and takes it back.
            until(lambda: not Volume.objects.filter(vmid=vm.vmid).exists(), "no row is left of it")
        assert vm.lock == ""

    names = at_every_border(engine, "qmcreate", lambda: engine.draft(CONFIG, next(numbers)), settled)
    assert {"noted", "scsi0 made", "efidisk0 made", "defined"} <= set(names)


def test_a_storage_that_fills_up_while_a_disk_is_made(engine: Engine, tiny: Storage) -> None:
    """The room is there when it is looked at and gone when it is used: the draft is back, nothing is left."""
    vm = engine.draft({"name": "full", "memory": "64", "scsi0": f"local:0,import-from={image(engine)}"}, 160)
    Disk.objects.filter(vm=vm).update(storage=tiny)
    task = engine.end(engine.submit("qmcreate", vm), 60)
    assert task.status == "error"
    assert "scsi0" in task.message
    vm.refresh_from_db()
    assert (vm.stage, vm.lock) == ("draft", "")
    assert "scsi0" in vm.draft["error"], "the error stands on its field"
    assert not list(Path(tiny.path).glob("images/*/*"))


def image(engine: Engine) -> str:
    """An image to import: small while it is compressed, larger than the tiny storage when it is not."""
    raw, path = engine.home / "big.raw", engine.home / "local" / "import" / "big.qcow2"
    path.parent.mkdir(exist_ok=True)
    raw.write_bytes(b"pvelite!" * (16 << 20))
    convert = ["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", str(raw), str(path)]
    subprocess.run(convert, check=True)
    path.chmod(0o644)
    raw.unlink()
    engine.end(submit_on("storagescan", node=engine.node, user=None))
    return "local:import/big.qcow2"
