"""Imports whose worker is killed at every border, and one that does not fit: a disk, or nothing of it."""

from __future__ import annotations

import shutil
import subprocess
from itertools import count
from typing import TYPE_CHECKING

from diskkit import MIB, compressed, config, created, files, fill, holds_pattern, second
from enginekit import Engine, until
from faultkit import at_every_border

from vms.models import Volume
from vms.operations.base import submit_on

if TYPE_CHECKING:
    from vms.models import VM, Storage, Task


def image(engine: Engine, name: str) -> str:
    """The image ``name`` of the library, empty, 64 MiB large; its volume id."""
    path = engine.home / "local" / "import" / name
    path.parent.mkdir(exist_ok=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(64 * MIB)], check=True)
    path.chmod(0o644)
    return f"local:import/{name}"


def scanned(engine: Engine) -> None:
    engine.end(submit_on("storagescan", node=engine.node, user=None))


def test_a_worker_killed_during_an_import(engine: Engine) -> None:
    second(engine)
    numbers = count(200)
    source = image(engine, "small.qcow2")
    fill(engine.home / "local" / "import" / "small.qcow2", 4)
    scanned(engine)

    def settled(vm: VM, task: Task, name: str) -> None:
        there = config(vm).get("scsi1", "").partition(",")[0]
        assert (task.status, bool(there)) == (("ok", True) if name == "stored" else ("error", False)), name
        own = [file for file in files(engine) if f"/vm-{vm.vmid}-" in file]
        assert own == [f"local:{vm.vmid}/vm-{vm.vmid}-disk-0.qcow2", *([there] if there else [])], name
        if there:
            assert holds_pattern(there)
        else:
            assert "was restarted" in task.message
            gone = Volume.objects.filter(storage__name="second", vmid=vm.vmid)
            until(lambda: not gone.exists(), "no row is left of it")
        vm.refresh_from_db()
        assert (vm.draft, vm.lock) == ({}, "")

    words = {"source": source, "storage": "second", "format": "raw", "target_disk": "scsi1"}
    fresh = lambda: created(engine, next(numbers), mib=0)  # noqa: E731
    assert at_every_border(engine, "importdisk", fresh, settled, **words) == ["noted", "imported", "stored"]
    shutil.rmtree(engine.home / "second", ignore_errors=True)


def test_an_image_that_does_not_fit(engine: Engine, tiny: Storage) -> None:
    """There is room for it as it lies there, not for what comes out of it: nothing is left, its VM runs."""
    image(engine, "big.qcow2")
    big = engine.home / "local" / "import" / "big.qcow2"
    compressed(big, engine.home / "big.raw")
    scanned(engine)
    vm = created(engine)
    engine.do("qmstart", vm)
    before = config(vm)
    params = {"source": "local:import/big.qcow2", "storage": "tiny", "format": "raw"}
    task = engine.end(engine.submit("importdisk", vm, **params), 60)
    assert task.status == "error"
    assert "No space left on device" in task.message
    assert not list(engine.home.glob("tiny/images/*/*"))
    until(lambda: not Volume.objects.filter(storage=tiny).exists(), "no row is left of it")
    vm.refresh_from_db()
    assert (config(vm), vm.status, vm.draft, vm.lock) == (before, "running", {}, "")
