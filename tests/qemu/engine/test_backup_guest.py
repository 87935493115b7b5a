"""Backups of a guest that writes: what is in them, what is not, and that the guest hardly feels them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
import subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from backupkit import archive, graph, left, unpacked
from enginekit import Engine, until
from faultkit import go_on, held_at
from guestkit.media import Media
from guestkit.sleeper import inside, sleeper
from snapkit import ask, lines

from vms.errors import MonitorError, OutcomeUnknown
from vms.models import VM, Storage, Task
from vms.qemu.agent import Agent
from vms.tasks import queue

MOUNTED = """
modprobe -a virtio_scsi sd_mod ext4
for n in $(seq 100); do test -b /dev/sda && test -b /dev/sdb && break; sleep 0.1; done
one=/dev/sda two=/dev/sdb
test $(cat /sys/block/sda/size) = 131072 || { one=/dev/sdb two=/dev/sda; }
mke2fs $one >/dev/null 2>&1
mkdir -p /mnt
mount -t ext4 $one /mnt
dd if=/dev/urandom of=/mnt/pattern bs=1M count=8 2>/dev/null
dd if=/dev/urandom of=$two bs=1M count=4 2>/dev/null
sync
sha256sum </mnt/pattern
"""
BUSY = "while :; do dd if=/dev/urandom of=/mnt/busy bs=64k count=20 conv=fsync; done >/dev/null 2>&1 &"
BORDERS = (
    "noted", "fleece for scsi0", "fleece for scsi1", "frozen", "standing still", "filters in", "ready",
)  # fmt: skip


def border(name: str) -> str:
    return f"vzdump:{BORDERS.index(name) + 1}"


@pytest.fixture
def guest(engine: Engine, guest_media: Media, warm_state: Path) -> VM:
    """A guest with its agent and two disks of different sizes behind I/O threads, one a file system."""
    from vms.operations.configure import change

    vm = sleeper(engine, guest_media, warm_state, 100, {"scsihw": "virtio-scsi-single"})
    engine.do("qmstart", vm)
    disks = {"scsi0": "local:0.0625,iothread=1", "scsi1": "local:0.03125,iothread=1,format=raw"}
    task = engine.end(change(vm, None, set=disks))
    assert task.status == "ok", task.message
    return vm


def in_order(engine: Engine, vm: VM, before: str) -> None:
    """The guest runs, thawed; nothing of a backup is in its QEMU."""
    engine.status(vm, "running")
    assert graph(engine, 100) == before
    assert (vm.lock, vm.draft) == ("", {})
    inside(engine, 100, "touch /mnt/alive && sync")


def agent_of(engine: Engine) -> Agent:
    return Agent(engine.run_dir / "vm" / "100" / "agent" / "qga.sock")


def test_what_is_written_after_the_moment_is_not_in_it(engine: Engine, guest: VM, tmp_path: Path) -> None:
    """Then a full fleece, a cancellation, dying workers and a person's Stop, on the same guest."""
    pattern = inside(engine, 100, MOUNTED).split()[0]
    inside(engine, 100, BUSY)
    before, pid = graph(engine, 100), engine.qemus()[100]
    task = held_at(engine, border("ready"), guest, compress="zstd")
    inside(engine, 100, "echo late >/mnt/late; dd if=/dev/urandom of=/mnt/pattern bs=1M count=8; sync")
    go_on(engine)
    engine.end(task, 90)
    assert task.status == "ok", lines(task)
    in_order(engine, guest, before)
    frozen = re.search(r"thawed after ([0-9.]+) s", lines(task))
    assert frozen is not None, lines(task)
    members = unpacked(archive(engine, task), tmp_path / "one")
    manifest = json.loads(members["manifest.json"].read_text())
    assert manifest["consistent"] is True
    assert {disk["key"]: disk["size"] for disk in manifest["disks"]} == {"scsi0": 64 << 20, "scsi1": 32 << 20}
    disk = str(members["scsi0.raw"])
    subprocess.run(["e2fsck", "-fn", disk], check=True, capture_output=True)
    out = tmp_path / "pattern"
    subprocess.run(["debugfs", "-R", f"dump /pattern {out}", disk], check=True, capture_output=True)
    assert subprocess.run(["sha256sum", out], capture_output=True, text=True).stdout.split()[0] == pattern
    late = subprocess.run(["debugfs", "-R", "stat /late", disk], capture_output=True, text=True)
    assert "File not found" in late.stderr + late.stdout
    a_full_fleece(engine, guest, before)
    cancelled(engine, guest, before)
    killed_while_it_holds(engine, guest, before)
    assert engine.qemus() == {100: pid}
    stopped_by_a_person(engine, guest)


def a_full_fleece(engine: Engine, vm: VM, before: str) -> None:
    """It ends the backup; the guest's writes go on."""
    folder = engine.home / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m,mode=711", "tmpfs", str(folder)], check=True)
    try:
        Storage.objects.create(name="small", path=str(folder), content=["images", "backup"])
        task = held_at(engine, border("ready"), vm, fleecing="enabled=1,storage=small")
        fill_up(folder)
        inside(engine, 100, "dd if=/dev/urandom of=/mnt/pattern bs=1M count=8 conv=fsync")
        go_on(engine)
        engine.end(task, 90)
        assert task.status == "error"
        assert "small/images has no room left" in task.message
        in_order(engine, vm, before)
        # The same storage as the backup's.
        task = engine.end(engine.submit("vzdump", vm, storage="small"), 90)
        assert "the archive cannot be written: No space left on device" in task.message
        assert [path.name for path in (folder / "dump").iterdir()] == []
        in_order(engine, vm, before)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_up(folder: Path) -> None:
    """Leave no room on a file system that somebody else is writing to."""
    with (folder / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(1 << 20)) == 1 << 20:
            pass


def slow(engine: Engine, vm: VM, **more: str) -> Task:
    """A backup that takes its time; answers while it reads."""
    task = engine.submit("vzdump", vm, bwlimit="256", **more)

    def reads() -> bool:
        task.refresh_from_db()
        assert not task.finished, task.message
        return bool(task.progress)

    until(reads, "the backup is reading", 60)
    assert re.search(r"scsi0: [0-9.]+ of [0-9.]+ MiB, [0-9.]+ MiB/s, [0-9]+ s left", task.message)
    return task


def cancelled(engine: Engine, vm: VM, before: str) -> None:
    """It is undone; meanwhile the guest is paused and goes on, and another VM comes and goes."""
    there = left(engine)
    task = slow(engine, vm)
    other = engine.vm({"name": "other", "memory": "16", "freeze": "1"}, 101)
    engine.do("qmstart", other)
    engine.do("qmstop", other)
    engine.do("qmpause", vm)
    engine.status(vm, "paused")
    engine.do("qmresume", vm)
    queue.request_cancel(task)
    assert engine.end(task, 60).status == "cancelled"
    assert left(engine) == there
    in_order(engine, vm, before)


def died(engine: Engine, vm: VM, at: str, **params: str) -> Task:
    """A backup whose worker dies there, as the next one ended it."""
    engine.stop()
    engine.start(PVELITE_FAULT=at)
    task = engine.submit("vzdump", vm, **params)
    assert engine.process is not None
    assert engine.process.wait(90) == -signal.SIGKILL, at
    engine.process = None
    engine.start()
    engine.end(task, 90)
    assert task.status == "error", at
    assert "nothing is left of it" in task.message
    return task


def thawed(engine: Engine) -> bool:
    """Whether its agent says so; a guest that has just gone on may be slow to answer."""
    try:
        return not asyncio.run(agent_of(engine).still())
    except (MonitorError, OutcomeUnknown):
        return False


def killed_while_it_holds(engine: Engine, vm: VM, before: str) -> None:
    """The worker dies while the guest's file systems are frozen: the next one thaws them."""
    there = left(engine)
    for name in ("frozen", "standing still", "filters in"):
        died(engine, vm, border(name))
        until(lambda: thawed(engine), f"the guest is thawed after a death at '{name}'", 60)
        in_order(engine, vm, before)
    assert left(engine) == there


def stopped_by_a_person(engine: Engine, vm: VM) -> None:
    there = left(engine)
    task = slow(engine, vm)
    engine.do("qmstop", vm)
    engine.end(task, 60)
    assert (task.status, vm.status) == ("error", "stopped")
    assert "was stopped while it was backed up" in task.message
    assert left(engine) == there
    vm.refresh_from_db()
    assert (vm.lock, vm.draft, engine.run_files(100)) == ("", {}, [])


def test_an_agent_that_dies_while_it_holds_the_guest(engine: Engine, guest: VM) -> None:
    """The thaw is tried and its failure told; the copy is whole. Afterwards the guest powers itself off."""
    inside(engine, 100, MOUNTED)
    before = graph(engine, 100)
    hears = "read word </dev/ttyS0; kill -{} $(pidof qemu-ga)"
    dies = f"{hears.format('STOP')}; {hears.format('CONT')}"
    inside(engine, 100, f"({dies}) >/dev/null 2>&1 &")
    task = held_at(engine, border("frozen"), guest)
    with socket.socket(socket.AF_UNIX) as serial:
        serial.connect(str(engine.run_dir / "vm" / "100" / "console" / "serial0.sock"))
        serial.sendall(b"die\n")
        until(lambda: not asyncio.run(agent_of(engine).ping(1)), "the agent is silent", 30)
        go_on(engine)
        engine.end(task, 120)
        serial.sendall(b"live\n")
        until(lambda: asyncio.run(agent_of(engine).ping(1)), "the agent is back", 30)
    assert task.status == "warnings", lines(task)
    assert "the guest's file systems could not be thawed" in lines(task)
    until(lambda: heard(agent_of(engine).thaw()), "the agent thaws", 30)
    in_order(engine, guest, before)
    powered_off(engine, guest)


def heard(asking: Coroutine[Any, Any, object]) -> bool:
    """Whether the agent took it; the worker may be talking with it just now, and it serves one at a time."""
    try:
        asyncio.run(asking)
    except MonitorError:
        return False
    return True


def powered_off(engine: Engine, vm: VM) -> None:
    """Its QEMU stays until the backup is whole."""
    task = held_at(engine, border("ready"), vm)
    until(lambda: heard(agent_of(engine).shutdown()), "the agent is asked to power off", 30)
    until(lambda: ask(engine, 100, "query-status")["status"] == "shutdown", "the guest is off", 30)
    go_on(engine)
    engine.end(task, 90)
    assert task.status == "ok", lines(task)
    engine.status(vm, "stopped", 30)
    assert engine.run_files(100) == []


def test_mode_stop(engine: Engine, booting: Any) -> None:
    """Shut down, started with what was pending, read while it boots; killed in between, it runs again."""
    vm, up = booting
    notes = engine.home / "steps"
    VM.everything.filter(pk=vm.pk).update(pending={"cores": "2"})
    pid = engine.qemus()[100]
    died(engine, vm, "vzdump:2", mode="stop")
    assert engine.qemus()[100] == pid, "it was not yet asked to shut down"
    died(engine, vm, "vzdump:3", mode="stop")
    engine.status(vm, "running")
    assert engine.qemus()[100] != pid, "it was off and was started again"
    assert (vm.lock, vm.draft, vm.cores, vm.pending) == ("", {}, 2, {})
    pid = engine.qemus()[100]
    up()
    died(engine, vm, "vzdump:4", mode="stop")
    engine.status(vm, "running")
    assert engine.qemus()[100] != pid, "it was started, standing still, and goes on"
    pid = engine.qemus()[100]
    up()
    engine.stop()
    engine.start(PVELITE_STEPS=str(notes))
    task = engine.do("vzdump", vm, 90, mode="stop")
    steps = [line.partition(" ")[2] for line in notes.read_text().splitlines() if "vzdump:" in line]
    assert steps[:4] == ["noted", "about to shut down", "off", "started"]
    assert "asking the guest agent to shut the guest down" in lines(task)
    assert engine.qemus()[100] != pid
    assert (vm.status, vm.draft, vm.lock) == ("running", {}, "")


@pytest.fixture
def booting(engine: Engine, guest_media: Media) -> Any:
    """A VM that boots the test guest from cold; the other value waits until its agent is up."""
    import shlex

    from guestkit.sleeper import lay_out

    words = lay_out(engine.home, guest_media)
    vm = engine.draft(
        {"name": "cold", "ostype": "l26", "memory": "256", "agent": "1", "scsihw": "virtio-scsi-single",
         "scsi0": "local:0.0625,iothread=1", "args": shlex.join(words)}, 100,
    )  # fmt: skip
    engine.do("qmcreate", vm)
    engine.do("qmstart", vm)

    def up() -> None:
        def told() -> bool:
            vm.refresh_from_db()
            return bool(vm.agent.get("up"))

        until(told, "the guest's agent is up", 90)

    up()
    return vm, up
