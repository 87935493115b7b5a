"""Moves and resizes whose worker is killed at every border: the disk is whole on one side, no rest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

import pytest
from diskkit import config, created, files, holds_pattern, left_in_qemu, path_of, second
from enginekit import Engine
from faultkit import at_every_border

if TYPE_CHECKING:
    from vms.models import VM, Task


@pytest.fixture
def bench(engine: Engine) -> Iterator[Engine]:
    second(engine)
    yield engine
    shutil.rmtree(engine.home / "second", ignore_errors=True)


def volume(vm: VM, key: str = "scsi0") -> str:
    return config(vm).get(key, "").partition(",")[0]


def own(engine: Engine, vm: VM) -> list[str]:
    return [name for name in files(engine) if f"/vm-{vm.vmid}-" in name]


@pytest.mark.parametrize("running", [False, True])
def test_a_worker_killed_during_a_move(bench: Engine, running: bool) -> None:
    numbers = count(200)

    def fresh() -> VM:
        vm = created(bench, next(numbers))
        if running:
            bench.do("qmstart", vm)
        return vm

    def settled(vm: VM, task: Task, name: str) -> None:
        there = volume(vm)
        moved = there.startswith("second:")
        assert task.status == ("ok" if moved else "error"), (name, task.message)
        assert moved == (name in ("switched", "stored", "old volume freed")), name
        assert own(bench, vm) == [there], name
        assert holds_pattern(there), name
        vm.refresh_from_db()
        assert (vm.draft, vm.lock) == ({}, "")
        assert not [key for key in config(vm) if key.startswith("unused")]
        if running:
            bench.status(vm, "running")
            jobs, tops = left_in_qemu(bench, vm.vmid, "scsi0")
            assert (jobs, len(tops)) == ([], 1), (name, jobs, tops)
            bench.do("qmstop", vm)

    words = {"disk": "scsi0", "storage": "second", "delete": "1"}
    names = at_every_border(bench, "qmmove", fresh, settled, **words)
    wanted = {"target open", "mirrored", "guest held", "switched"} if running else {"copied"}
    assert wanted | {"noted", "stored", "old volume freed"} <= set(names)


def test_a_worker_killed_while_a_cloud_init_drive_moves(bench: Engine) -> None:
    """It is written anew where it goes: there is one afterwards, and the next start fills it."""
    numbers = count(250)

    def fresh() -> VM:
        return created(bench, next(numbers), mib=0, ide2="local:cloudinit,media=cdrom", ciuser="anna")

    def settled(vm: VM, task: Task, name: str) -> None:
        there = volume(vm, "ide2")
        moved = there.startswith("second:")
        assert task.status == ("ok" if moved else "error"), (name, task.message)
        assert moved == (name in ("stored", "old volume freed")), name
        seeds = list(bench.home.glob(f"*/images/{vm.vmid}/*cloudinit*"))
        assert seeds == [path_of(there)], name
        vm.refresh_from_db()
        assert (vm.draft, vm.lock) == ({}, "")

    names = at_every_border(bench, "qmmove", fresh, settled, disk="ide2", storage="second")
    assert names == ["noted", "seed made", "stored", "old volume freed"]


def test_a_worker_killed_while_a_disk_changes_hands(bench: Engine) -> None:
    from vms.operations.configure import change

    numbers = count(300)
    taker = created(bench, 299, mib=0)

    def fresh() -> VM:
        if "unused0" in config(taker):
            bench.end(change(taker, None, delete=["unused0"]))
        return created(bench, next(numbers))

    def settled(vm: VM, task: Task, name: str) -> None:
        given = name == "stored"
        assert task.status == ("ok" if given else "error"), (name, task.message)
        assert ("unused0" in config(taker), volume(vm) == "") == (given, given)
        there = volume(taker, "unused0") if given else volume(vm)
        assert own(bench, vm) + own(bench, taker)[1:] == [there], name
        assert holds_pattern(there), name
        vm.refresh_from_db()
        assert vm.draft == {}

    words = {"disk": "scsi0", "target_vmid": "299", "target_disk": "unused0"}
    assert at_every_border(bench, "qmmove", fresh, settled, **words) == ["noted", "renamed", "stored"]


@pytest.mark.parametrize("running", [False, True])
def test_a_worker_killed_while_a_disk_grows(bench: Engine, running: bool) -> None:
    """It has grown or not, and the configuration says which; the guest runs."""
    numbers = count(400)

    def fresh() -> VM:
        vm = created(bench, next(numbers))
        if running:
            bench.do("qmstart", vm)
        return vm

    def settled(vm: VM, task: Task, name: str) -> None:
        grown = name == "resized"
        assert task.status == ("ok" if grown else "error"), (name, task.message)
        assert grown or "It has 64M" in task.message
        assert config(vm)["scsi0"].endswith(",size=96M" if grown else ",size=64M")
        assert holds_pattern(volume(vm))
        vm.refresh_from_db()
        assert (vm.draft, vm.lock) == ({}, "")
        bench.status(vm, "running" if running else "stopped")
        if running:
            bench.do("qmstop", vm)

    names = at_every_border(bench, "resize", fresh, settled, disk="scsi0", size="+32M")
    assert names == ["noted", "resized"]
