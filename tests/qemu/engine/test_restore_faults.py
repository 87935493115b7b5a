"""Restore, its worker killed at every border: the whole VM or nothing; in place, as it was or restored."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
from pathlib import Path

from diskkit import config, created, holds_pattern
from enginekit import Engine, until
from faultkit import deaths
from restorekit import CONF, SIZE, Memory, backup, disks, drives, holds, nothing_left, restore

from vms.models import VM, Task, Volume

NEW = ["noted", "scsi0 made", "virtio1 made", "written", "defined"]
IN_PLACE = [*NEW, "old volume freed"]


def files_of(engine: Engine, vmid: int) -> list[str]:
    return [file for file in engine.images() if f"vm-{vmid}-" in file]


def bases_of(engine: Engine, vmid: int) -> list[Path]:
    return list((engine.home / "local" / "images").rglob(f"base-{vmid}-disk-*"))


def rows_follow(engine: Engine, vmid: int) -> None:
    """A scan that looked in the middle may have made rows, which it takes back."""
    until(
        lambda: Volume.objects.filter(vmid=vmid, content="images").count() == len(files_of(engine, vmid)),
        "there is a row for each file and for nothing else",
    )


def test_killed_on_the_way_to_a_new_number(engine: Engine) -> None:
    archive = backup(engine)
    numbers = itertools.count(110)

    def ask() -> Task:
        return restore(engine, archive, next(numbers), unique="1")

    for name, task in deaths(engine, "qmrestore", NEW, engine.home / "borders", ask):
        vmid = task.vmid
        assert vmid is not None
        if name == "defined":
            vm = VM.objects.get(vmid=vmid)
            assert (task.status, vm.lock, vm.draft) == ("ok", "", {}), task.message
            holds(vm, disks())
        else:
            assert (task.status, files_of(engine, vmid)) == ("error", []), (name, task.message)
            assert "Nothing of it is left" in task.message
            assert not VM.everything.filter(vmid=vmid).exists(), "its number is free again"
        rows_follow(engine, vmid)
        nothing_left(engine)


def test_killed_on_the_way_in_place(engine: Engine) -> None:
    """Before the rows change over all is as it was; afterwards the old disks go, whoever does it."""
    archive = backup(engine)
    machines = [created(engine, 130 + number) for number in range(len(IN_PLACE) + 1)]
    left = iter(machines)
    before = {vm.vmid: config(vm) for vm in machines}

    def ask() -> Task:
        return restore(engine, archive, next(left).vmid, unique="1", force="1")

    for name, task in deaths(engine, "qmrestore", IN_PLACE, engine.home / "borders", ask):
        vm = VM.objects.get(vmid=task.vmid)
        files = files_of(engine, vm.vmid)
        if name in ("defined", "old volume freed"):
            assert (task.status, len(files)) == ("ok", 2), (name, task.message, files)
            assert config(vm)["name"] == CONF["name"]
            holds(vm, disks())
        else:
            assert (task.status, len(files)) == ("error", 1), (name, task.message, files)
            assert "It is as it was" in task.message
            assert config(vm) == before[vm.vmid], name
            assert holds_pattern(drives(vm)["scsi0"])
        assert (vm.lock, vm.draft) == ("", {})
        rows_follow(engine, vm.vmid)
        nothing_left(engine)


def test_killed_when_a_templates_disks_are_bases_already(engine: Engine) -> None:
    """Before its configuration is there, they go as disks do."""
    archive = backup(engine, CONF | {"template": "1"})
    for number in (5, 6):  # noted, two disks made, written, and then each a base
        engine.stop()
        engine.start(PVELITE_FAULT=f"qmrestore:{number}")
        task = restore(engine, archive, 150)
        assert engine.process is not None
        assert engine.process.wait(60) == -signal.SIGKILL
        engine.process = None
        assert len(bases_of(engine, 150)) == number - 4
        engine.start()
        engine.end(task, 60)
        assert (task.status, engine.images(), bases_of(engine, 150)) == ("error", [], []), task.message
        nothing_left(engine)


def writing(engine: Engine) -> Task:
    """A restore that is in the middle of writing, slowly."""
    held = {"scsi0": Memory(SIZE, {0: random.Random(5).randbytes(SIZE)}), "virtio1": disks()["virtio1"]}
    task = restore(engine, backup(engine, content=held), bwlimit="512")

    def told() -> bool:
        task.refresh_from_db()
        assert not task.finished, task.message
        return task.message.startswith("restoring scsi0.raw")

    until(told, "it writes", 60)
    return task


def pids(engine: Engine, word: str) -> list[int]:
    """The processes of this home whose command has ``word`` in it."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            worker = str(engine.process.pid if engine.process else 0).encode()
            if word.encode() in words and (
                str(engine.home).encode() in words or worker in words.split(b"\0")
            ):
                found.append(int(entry.name))
    return found


def nothing_of_it(engine: Engine, task: Task) -> None:
    engine.end(task, 60)
    assert (task.status, engine.images()) == ("error", []), task.message
    until(lambda: not VM.everything.filter(vmid=101).exists(), "its number is free")
    nothing_left(engine)


def test_killed_while_it_writes(engine: Engine) -> None:
    """Between two borders: the reader and the server of the disks go with their worker."""
    task = writing(engine)
    reader = pids(engine, "vms.backup.extract")
    assert len(reader) == 1
    engine.kill()
    until(lambda: not pids(engine, "qemu-storage-daemon"), "the daemon is gone", 20)
    until(lambda: not Path(f"/proc/{reader[0]}").exists(), "the reader is gone", 20)
    engine.start()
    nothing_of_it(engine, task)


def test_its_helpers_die(engine: Engine) -> None:
    """The server of the disks, or the reader of the archive: told in words, and all of it taken back."""
    for word, said in (
        ("qemu-storage-daemon", "cannot be written: NBD"),
        ("vms.backup.extract", "ended with -9"),
    ):
        task = writing(engine)
        for pid in pids(engine, word):
            os.kill(pid, signal.SIGKILL)
        nothing_of_it(engine, task)
        assert said in task.message
