"""Memory into a file and back: a guest that counts goes on counting, whatever is killed on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from enginekit import Engine, until
from guestkit.media import Media
from guestkit.sleeper import sleeper

from vms.errors import ConfigError, LockedError, StateError
from vms.models import VM, Task
from vms.qemu.agent import Agent
from vms.tasks import queue

TINY = {"name": "tiny", "ostype": "l26", "memory": "32", "vga": "none", "serial0": "socket"}


def lines(task: Task) -> str:
    return "\n".join(line.text for line in task.lines.all())


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


@pytest.fixture
def warm(engine: Engine, guest_media: Media, warm_state: Path) -> Callable[[], VM]:
    return lambda: sleeper(engine, guest_media, warm_state, 100)


def test_there_and_back(engine: Engine, warm: Callable[[], VM]) -> None:
    """Start wakes, Hibernate saves, Resume wakes again: one life of the guest's memory."""
    vm = warm()
    engine.do("qmstart", vm)
    assert (vm.status, vm.lock, vm.vmstate, vm.saved) == ("running", "", None, {})
    assert engine.images() == []
    inside(engine, 100, "echo remembered >/tmp/note")
    run = vm.run_id
    task = engine.do("qmsuspend", vm)
    assert (vm.status, vm.lock, vm.run_id) == ("stopped", "suspended", "")
    assert engine.qemus() == {}
    assert engine.images() == [vm.vmstate.name]
    assert vm.vmstate.name.startswith("100/vm-100-state-suspend-")
    assert vm.vmstate.size > 64 << 20
    assert vm.saved["runningmachine"].startswith("pc-q35-")
    assert vm.saved["runningcpu"]
    assert "MiB of memory" in lines(task)
    text = (engine.home / "nodes" / "pve1" / "qemu-server" / "100.conf").read_text().splitlines()
    assert {"lock: suspended", f"vmstate: {vm.vmstate.volid}"} < set(text)
    assert f"runningmachine: {vm.saved['runningmachine']}" in text
    assert engine.end(engine.submit("qmresume", vm)).status == "ok"
    vm.refresh_from_db()
    assert (vm.status, vm.lock, vm.vmstate, vm.saved) == ("running", "", None, {})
    assert vm.run_id not in ("", run)
    assert inside(engine, 100, "cat /tmp/note") == "remembered\n"
    text = (engine.home / "nodes" / "pve1" / "qemu-server" / "100.conf").read_text()
    assert "lock:" not in text
    assert "vmstate:" not in text
    assert engine.images() == []


def test_memory_that_cannot_be_read_is_kept_until_it_is_discarded(engine: Engine) -> None:
    vm = engine.vm(TINY)
    engine.do("qmstart", vm)
    engine.do("qmsuspend", vm)
    place = engine.home / "local" / "images" / vm.vmstate.name
    whole = place.read_bytes()
    place.write_bytes(whole[: len(whole) // 2])
    task = engine.end(engine.submit("qmstart", vm))
    assert task.status == "error"
    assert "The saved memory is kept. Discard it to start without it." in task.message
    assert "load of migration failed" in task.detail
    vm.refresh_from_db()
    assert (vm.status, vm.lock, engine.qemus(), engine.run_files(100)) == ("stopped", "suspended", {}, [])
    place.write_bytes(whole)
    engine.do("qmstart", vm)
    assert vm.status == "running"
    engine.do("qmsuspend", vm)
    engine.do("qmdiscard", vm)
    assert (vm.status, vm.lock, vm.vmstate, vm.saved, engine.images()) == ("stopped", "", None, {}, [])
    engine.do("qmstart", vm)


def test_refused_before_anything_happens(engine: Engine) -> None:
    """What cannot be saved is named; a hibernated VM says what can be done with it."""
    vm = engine.vm(TINY | {"memory": "1000000"})
    with pytest.raises(StateError, match="not running"):
        engine.submit("qmsuspend", vm)
    VM.everything.filter(pk=vm.pk).update(status="running")
    with pytest.raises(ConfigError, match=r"has no room for the memory: up to .* GiB are needed"):
        engine.submit("qmsuspend", vm)
    with pytest.raises(ConfigError, match="storage 'nowhere' does not exist; there are: local"):
        engine.submit("qmsuspend", vm, statestorage="nowhere")
    VM.everything.filter(pk=vm.pk).update(options={**vm.options, "hostpci0": "0000:01:00.0"})
    with pytest.raises(StateError, match="or hibernate a VM with: hostpci0"):
        engine.submit("qmsuspend", vm)
    VM.everything.filter(pk=vm.pk).update(status="stopped", lock="suspended")
    with pytest.raises(LockedError, match="it is hibernated"):
        engine.submit("qmshutdown", vm)
    VM.everything.filter(pk=vm.pk).update(lock="")
    with pytest.raises(StateError, match="is not hibernated"):
        engine.submit("qmdiscard", vm)


def test_cancelled_on_the_way(engine: Engine) -> None:
    """The guest goes on and no file is left."""
    vm = engine.vm(TINY)
    engine.do("qmstart", vm)
    task = held_at(engine, "qmsuspend:1", vm)
    queue.request_cancel(task)
    go_on(engine)
    assert engine.end(task).status == "cancelled"
    engine.status(vm, "running")
    assert (vm.lock, vm.vmstate, vm.saved, engine.images()) == ("", None, {}, [])


def held_at(engine: Engine, border: str, vm: VM, **params: str) -> Task:
    """Ask for the verb; answers when a new worker stands still at that border of it."""
    engine.stop()
    engine.start(PVELITE_HOLD=border)
    task = engine.submit(border.partition(":")[0], vm, **params)
    assert engine.process is not None
    stat = Path(f"/proc/{engine.process.pid}/stat")
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the worker stands still")
    return task


def go_on(engine: Engine) -> None:
    assert engine.process is not None
    engine.process.send_signal(signal.SIGCONT)


BORDERS = ("place named", "place made", "place kept", "stopped", "saved", "noted", "ended")


def test_killed_at_every_border(engine: Engine, tmp_path: Path) -> None:
    """Either the guest runs on and no file is left, or its memory is complete and it sleeps."""
    steps = tmp_path / "steps"
    vm = engine.vm(TINY)
    engine.do("qmstart", vm)
    for number, border in enumerate(BORDERS, 1):
        killed_at(engine, f"qmsuspend:{number}", steps)
        task = engine.submit("qmsuspend", vm)
        assert engine.process is not None
        assert engine.process.wait(30) == -9, border
        engine.start()
        engine.end(task)
        vm.refresh_from_db()
        if border in ("noted", "ended"):
            assert (task.status, vm.status, vm.lock) == ("ok", "stopped", "suspended"), border
            assert engine.images() == [vm.vmstate.name], border
            engine.do("qmresume", vm)
        else:
            assert (task.status, vm.lock, vm.saved, engine.images()) == ("error", "", {}, []), border
            assert "VM 100 is running" in task.message, border
            engine.status(vm, "running")
    assert [line.split(" ", 1)[1] for line in steps.read_text().splitlines()][-7:] == list(BORDERS)


def test_killed_while_it_wakes(engine: Engine, tmp_path: Path) -> None:
    """Before the guest goes on its memory is spent, so it goes on; afterwards the file goes."""
    vm = engine.vm(TINY)
    engine.do("qmstart", vm)
    for number in (1, 2):
        engine.do("qmsuspend", vm)
        killed_at(engine, f"qmstart:{number}", tmp_path / "steps")
        task = engine.submit("qmstart", vm)
        assert engine.process is not None
        assert engine.process.wait(30) == -9
        engine.start()
        assert engine.end(task).status == "ok", task.message
        engine.status(vm, "running")
        assert (vm.lock, vm.vmstate, vm.saved, engine.images()) == ("", None, {}, [])


def killed_at(engine: Engine, fault: str, steps: Path) -> None:
    """A new worker that dies there."""
    engine.stop()
    engine.start(PVELITE_FAULT=fault, PVELITE_STEPS=str(steps))


def test_the_storage_fills_up_meanwhile(engine: Engine) -> None:
    """QEMU's own reason is told, the guest goes on, the half file is gone."""
    from vms.models import Storage

    place = engine.home / "small"
    place.mkdir(mode=0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m,mode=711", "none", str(place)], check=True)
    try:
        Storage.objects.create(name="small", path=str(place))
        vm = engine.vm(TINY)
        engine.do("qmstart", vm)
        task = held_at(engine, "qmsuspend:3", vm, statestorage="small")
        free = os.statvfs(place)
        with (place / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, (free.f_bavail - 64) * free.f_frsize)
        go_on(engine)
        assert engine.end(task).status == "error"
        assert (
            task.message == "the memory could not be saved: Unable to write to file: No space left on device"
        )
        engine.status(vm, "running")
        assert (vm.lock, vm.vmstate, vm.saved) == ("", None, {})
        assert [path.name for path in place.rglob("*state*")] == []
    finally:
        engine.stop()
        Storage.objects.filter(name="small").delete()
        subprocess.run(["umount", str(place)], check=True)
