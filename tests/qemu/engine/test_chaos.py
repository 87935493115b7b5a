"""kill -9 of everything that is ours: no guest stops, no task is lost, every row ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from enginekit import ROOT, Engine, until

BARE = {"name": "bare", "ostype": "l26", "memory": "64"}
DISKS = {"name": "disks", "ostype": "l26", "memory": "64", "scsi0": "local:1,format=qcow2"}
DISKS |= {"tpmstate0": "local:1,version=v2.0"}


def tell_qemu(engine: Engine, vmid: int, command: str) -> Any:
    """A QMP command over the operators' socket, past the worker."""
    from vms.qemu.monitor import Monitor

    async def say() -> Any:
        monitor = await Monitor.connect(engine.run_dir / "vm" / str(vmid) / "qmp" / "qmp-ops.sock")
        try:
            return await monitor.execute(command)
        finally:
            await monitor.close()

    return asyncio.run(say())


def test_the_worker_killed(engine: Engine) -> None:
    """Guests live on and are adopted: same process, same run, and the state they have by now."""
    vm = engine.vm(BARE)
    engine.do("qmstart", vm)
    before = (vm.run_id, vm.launch, engine.qemus())
    engine.kill()
    assert engine.qemus() == before[2]
    tell_qemu(engine, 100, "stop")
    engine.start()
    engine.status(vm, "paused", timeout=5)
    assert (vm.run_id, vm.launch, engine.qemus()) == before
    tell_qemu(engine, 100, "cont")
    engine.status(vm, "running", timeout=10)
    engine.do("qmstop", vm)


def test_a_state_change_is_stored_at_once(engine: Engine) -> None:
    """By its events: nothing asks QEMU at intervals. How fast it is on a page is measured there."""
    vm = engine.vm(BARE)
    engine.do("qmstart", vm)
    for command, status in (("stop", "paused"), ("cont", "running")):
        tell_qemu(engine, 100, command)
        engine.status(vm, status, timeout=3)


def test_qemu_ends_while_no_worker_runs(engine: Engine) -> None:
    from vms.models import AuditEntry

    vm = engine.vm(BARE)
    engine.do("qmstart", vm)
    engine.kill()
    os.kill(engine.qemus()[100], signal.SIGKILL)
    engine.start()
    engine.status(vm, "stopped")
    assert "while no worker was running" in AuditEntry.objects.filter(action="vm-ended").latest("pk").target
    assert engine.run_files(100) == []


def test_a_clean_stop_leaves_guests(engine: Engine) -> None:
    vm = engine.vm(BARE)
    engine.do("qmstart", vm)
    pids = engine.qemus()
    assert engine.stop() == 0
    assert engine.qemus() == pids
    assert not engine.node.online
    engine.start()
    assert engine.node.online
    engine.status(vm, "running")


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.06, 0.1, 0.2])
def test_killed_during_a_start(engine: Engine, delay: float) -> None:
    """Wherever it hits: a definite end, and either one watched guest or nothing at all."""
    vm = engine.vm(BARE)
    task = engine.submit("qmstart", vm)

    def claimed() -> bool:
        task.refresh_from_db()
        return task.status != "queued"

    until(claimed, "the start is claimed")
    moment = time.monotonic() + delay
    until(lambda: time.monotonic() >= moment, "the moment has come")
    engine.kill()
    engine.start()
    engine.end(task)
    vm.refresh_from_db()
    if task.status == "ok":
        engine.status(vm, "running")
        assert list(engine.qemus()) == [100]
        assert vm.launch["pid"] == engine.qemus()[100]
        engine.do("qmstop", vm)
    else:
        assert "did not come up" in task.message
        assert (vm.status, engine.qemus(), engine.run_files(100)) == ("stopped", {}, [])
        engine.do("qmstart", vm)


def test_killed_during_a_create(engine: Engine) -> None:
    """Its volumes go, what lay there before stays, the draft is back with the reason."""
    foreign = engine.home / "local" / "images" / "100" / "vm-100-disk-7.raw"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"somebody's")
    vm = engine.draft(DISKS)
    task = engine.submit("qmcreate", vm)
    until(lambda: len(engine.images()) >= 2, "volumes are being made")
    engine.kill()
    engine.start()
    assert engine.end(task).status == "error"
    vm.refresh_from_db()
    assert (vm.stage, vm.lock) == ("draft", "")
    assert "being created" in vm.draft["error"][""]
    assert engine.images() == ["100/vm-100-disk-7.raw"]
    engine.do("qmcreate", vm, within=60)
    assert len(engine.images()) == 3


def test_killed_during_a_shutdown(engine: Engine) -> None:
    vm = engine.vm(BARE)
    engine.do("qmstart", vm)
    task = engine.submit("qmshutdown", vm, timeout="100")
    until(lambda: task.lines.exists(), "it has begun")
    engine.kill()
    engine.start()
    assert engine.end(task).status == "error"
    assert "The worker was restarted in the middle of this task. VM 100 is running" in task.message


def test_redis_killed(engine: Engine) -> None:
    """The bell is gone, polling alone finishes every task; when it is back, it rings again."""
    vm = engine.vm(BARE)
    engine.kill_redis()
    for verb in ("qmstart", "qmpause", "qmresume", "qmstop"):
        engine.do(verb, vm, within=15)
    engine.start_redis()
    engine.do("qmstart", vm)


def test_rights_are_asked_again(engine: Engine) -> None:
    """A right taken away between asking and doing is gone."""
    from django.contrib.auth import get_user_model

    from vms.models import AclEntry

    user, _ = get_user_model().objects.get_or_create(username="anna")
    entry = AclEntry.objects.create(path="/vms/100", user=user, role="PVEVMUser")
    vm = engine.vm(BARE)
    engine.stop()
    task = engine.submit("qmstart", vm, user=user)
    entry.delete()
    engine.start()
    assert engine.end(task).status == "error"
    assert task.message == "Permission check failed (/vms/100, VM.PowerMgmt)"
    assert engine.qemus() == {}


def test_only_one_worker(engine: Engine) -> None:
    """A second one would settle the first one's rows; it says who is there and leaves."""
    second = subprocess.run(
        [sys.executable, "-m", "pvelite.server", "worker"], cwd=ROOT, env=engine.environ,
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert second.returncode != 0
    assert "another worker of node pve1 runs here" in second.stderr


def test_no_secret_and_no_inherited_descriptor(engine: Engine) -> None:
    """QEMU holds nothing of ours: no database, no lock."""
    vm = engine.vm(BARE)
    engine.do("qmstart", vm)
    folder = Path(f"/proc/{engine.qemus()[100]}/fd")
    held = [os.readlink(entry) for entry in folder.iterdir()]
    assert not [name for name in held if "sqlite3" in name or name.endswith(".lock")]
