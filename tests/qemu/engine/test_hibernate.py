"""Memory into a file and back: a guest that counts goes on counting, whatever is killed on the way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from enginekit import Engine, until
from faultkit import deaths, fill, go_on, held_at
from guestkit.media import Media
from guestkit.sleeper import inside, sleeper

from vms.errors import ConfigError, LockedError, StateError
from vms.models import VM, Task
from vms.tasks import queue

TINY = {"name": "tiny", "ostype": "l26", "memory": "32", "vga": "none", "serial0": "socket"}


def lines(task: Task) -> str:
    return "\n".join(line.text for line in task.lines.all())


@pytest.fixture
def warm(engine: Engine, guest_media: Media, warm_state: Path) -> Callable[[], VM]:
    return lambda: sleeper(engine, guest_media, warm_state, 100)


def test_there_and_back(engine: Engine, warm: Callable[[], VM]) -> None:
    """Start wakes, Hibernate saves, Resume wakes again: one life of the guest's memory."""
    vm = warm()
    engine.do("qmstart", vm)
    assert (vm.status, vm.lock, vm.vmstate, vm.saved) == ("running", "", None, {})
    assert engine.images() == []
    inside(engine, 100, "echo remembered >/tmp/note; date -s '2020-01-01 00:00'")
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
    text = engine.home / "nodes" / "pve1" / "qemu-server" / "100.conf"
    wanted = {"lock: suspended", f"vmstate: {vm.vmstate.volid}"}
    until(lambda: wanted < set(text.read_text().splitlines()), "its text file says so")
    assert f"runningmachine: {vm.saved['runningmachine']}" in text.read_text().splitlines()
    assert engine.end(engine.submit("qmresume", vm)).status == "ok"
    vm.refresh_from_db()
    assert (vm.status, vm.lock, vm.vmstate, vm.saved) == ("running", "", None, {})
    assert vm.run_id not in ("", run)
    assert inside(engine, 100, "cat /tmp/note") == "remembered\n"
    assert abs(int(inside(engine, 100, "date +%s")) - time.time()) < 60, "its clock was set"
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


@contextmanager
def slow(pid: int) -> Iterator[None]:
    """A QEMU that takes its time to answer."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_cancelled_on_the_way(engine: Engine) -> None:
    """The guest goes on and no file is left."""
    vm = engine.vm(TINY)
    engine.do("qmstart", vm)
    task = held_at(engine, "qmsuspend:1", vm)
    queue.request_cancel(task)
    with slow(engine.qemus()[vm.vmid]):
        go_on(engine)
        heard = time.monotonic() + 3  # the worker looks for cancellations every two seconds, bell or not
        until(lambda: time.monotonic() > heard, "the worker has heard of it", 10)
    assert engine.end(task).status == "cancelled"
    engine.status(vm, "running")
    assert (vm.lock, vm.vmstate, vm.saved, engine.images()) == ("", None, {}, [])


BORDERS = ("place named", "place made", "place kept", "stopped", "saved", "noted", "ended")


def test_killed_at_every_border(engine: Engine, tmp_path: Path) -> None:
    """Either the guest runs on and no file is left, or its memory is complete and it sleeps."""
    vm = engine.vm(TINY)
    engine.do("qmstart", vm)
    ask = lambda: engine.submit("qmsuspend", vm)  # noqa: E731
    for border, task in deaths(engine, "qmsuspend", BORDERS, tmp_path / "steps", ask):
        vm.refresh_from_db()
        if border in ("noted", "ended"):
            assert (task.status, vm.status, vm.lock) == ("ok", "stopped", "suspended"), border
            assert engine.images() == [vm.vmstate.name], border
            engine.do("qmresume", vm)
        else:
            assert (task.status, vm.lock, vm.saved, engine.images()) == ("error", "", {}, []), border
            assert "VM 100 is running" in task.message, border
            engine.status(vm, "running")


def test_killed_while_it_wakes(engine: Engine, tmp_path: Path) -> None:
    """Before the guest goes on its memory is spent, so it goes on; afterwards the file goes."""
    vm = engine.vm(TINY)
    engine.do("qmstart", vm)

    def ask() -> Task:
        engine.do("qmsuspend", vm)
        return engine.submit("qmstart", vm)

    borders = ("before the guest goes on", "guest goes on")
    for border, task in deaths(engine, "qmstart", borders, tmp_path / "steps", ask):
        assert task.status == "ok", f"{border}: {task.message}"
        engine.status(vm, "running")
        assert (vm.lock, vm.vmstate, vm.saved, engine.images()) == ("", None, {}, [])


def test_the_storage_fills_up_meanwhile(engine: Engine, small: Path) -> None:
    """QEMU's own reason is told, the guest goes on, the half file is gone."""
    vm = engine.vm(TINY)
    engine.do("qmstart", vm)
    task = held_at(engine, "qmsuspend:3", vm, statestorage="small")
    fill(small)
    go_on(engine)
    assert engine.end(task).status == "error"
    assert task.message == "the memory could not be saved: Unable to write to file: No space left on device"
    engine.status(vm, "running")
    assert (vm.lock, vm.vmstate, vm.saved) == ("", None, {})
    assert not list(small.rglob("*state*"))
