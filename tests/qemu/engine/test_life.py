"""A VM's whole life through the real worker and a real QEMU."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from enginekit import ISO, Engine, until

from vms.qemu.monitor import Monitor

if TYPE_CHECKING:
    from vms.models import Task

CONFIG = {
    "name": "life",
    "ostype": "l26",
    "memory": "128",
    "scsihw": "virtio-scsi-single",
    "scsi0": "local:1,format=qcow2",
    "ide2": "none,media=cdrom",
    "net0": "virtio=BC:24:11:00:00:01",
}
BARE = {"name": "bare", "ostype": "l26", "memory": "64"}


def lines(task: Task) -> list[str]:
    return [line.text for line in task.lines.all()]


def test_a_whole_life(engine: Engine) -> None:
    """Create, start, pause, resume, reset, stop, start, destroy."""
    from vms.models import VM, Volume

    vm = engine.draft(CONFIG)
    task = engine.do("qmcreate", vm)
    assert vm.stage == "defined"
    assert vm.lock == ""
    assert engine.images() == ["100/vm-100-disk-0.qcow2"]
    assert "scsi0: successfully created disk 'local:100/vm-100-disk-0.qcow2,size=1G'" in lines(task)
    assert lines(task)[-1] == "TASK OK"
    engine.do("qmstart", vm)
    assert vm.status == "running"
    assert vm.launch["pid"] == engine.qemus()[100]
    assert len(vm.run_id) == 32
    assert vm.launch["config"]["memory"] == "128"
    engine.do("qmpause", vm)
    assert vm.status == "paused"
    engine.do("qmresume", vm)
    assert vm.status == "running"
    pid, first = engine.qemus()[100], vm.run_id
    engine.do("qmreset", vm)
    assert engine.qemus()[100] == pid
    engine.do("qmstop", vm)
    assert (vm.status, vm.run_id) == ("stopped", "")
    assert engine.run_files(100) == []
    assert engine.strays() == []
    engine.do("qmstop", vm)  # off already: no error
    engine.do("qmstart", vm)
    assert vm.run_id not in ("", first)
    engine.do("qmstop", vm)
    task = engine.end(engine.submit("qmdestroy", vm, now="1"))
    assert task.status == "ok", task.message
    assert engine.images() == []
    assert not VM.everything.exists()
    assert not Volume.objects.filter(content="images").exists()


def test_uefi_and_tpm(engine: Engine) -> None:
    """EFI variables and a TPM are made with the VM, used while it runs and removed with it."""
    config = CONFIG | {
        "bios": "ovmf", "machine": "q35", "efidisk0": "local:1,efitype=4m,pre-enrolled-keys=1",
        "tpmstate0": "local:1,version=v2.0",
    }  # fmt: skip
    vm = engine.draft(config)
    engine.do("qmcreate", vm, within=60)
    assert len(engine.images()) == 3
    engine.do("qmstart", vm)
    assert any("swtpm" in word for word in engine.strays())
    engine.do("qmstop", vm)
    assert engine.strays() == []
    engine.end(engine.submit("qmdestroy", vm, now="1"))
    assert engine.images() == []


def test_a_shutdown_the_guest_ignores(engine: Engine) -> None:
    """SeaBIOS without a disk heeds no power button: the time-out's error, then forceStop."""
    vm = engine.vm(BARE)
    engine.do("qmstart", vm)
    task = engine.end(engine.submit("qmshutdown", vm, timeout="1"))
    assert task.status == "error"
    assert task.message.startswith("VM quit/powerdown failed - got timeout")
    engine.status(vm, "running")
    task = engine.do("qmshutdown", vm, timeout="1", forceStop="1")
    assert task.status == "warnings"
    assert vm.status == "stopped"


def test_a_guest_stands_still_before_its_process_ends(engine: Engine) -> None:
    """Or QEMU may wait for ever for what the guest asks of a disk meanwhile; nobody sees it paused."""
    vm = engine.vm(BARE)
    engine.do("qmstart", vm)
    heard: list[str] = []
    connected = threading.Event()

    async def listen() -> None:
        monitor = await Monitor.connect(engine.run_dir / "vm" / str(vm.vmid) / "qmp" / "qmp-ops.sock")
        monitor.on_event(lambda event: heard.append(event.name))
        connected.set()
        await monitor.wait_closed()

    listener = threading.Thread(target=lambda: asyncio.run(listen()), daemon=True)
    listener.start()
    assert connected.wait(30)
    engine.do("qmstop", vm)
    listener.join(30)
    assert heard.index("STOP") < heard.index("SHUTDOWN"), heard


def test_stop_overrules_a_shutdown(engine: Engine) -> None:
    vm = engine.vm(BARE)
    engine.do("qmstart", vm)
    slow = engine.submit("qmshutdown", vm, timeout="100")
    until(lambda: any("power button" in text for text in lines(slow)), "the shutdown is under way")
    engine.do("qmstop", vm, overrule_shutdown="1")
    slow.refresh_from_db()
    assert slow.status == "cancelled"
    assert "Overruled by 'Stop 100 (bare)'" in slow.message


def test_a_waiting_task_says_for_whom_and_can_be_cancelled(engine: Engine) -> None:
    from vms.tasks import queue

    vm = engine.vm(BARE)
    engine.do("qmstart", vm)
    slow = engine.submit("qmshutdown", vm, timeout="100")
    until(lambda: any("power button" in text for text in lines(slow)), "the shutdown is under way")
    waiting = engine.submit("qmreset", vm)

    def told() -> bool:
        waiting.refresh_from_db()
        return waiting.message.startswith("waiting for 'Shutdown 100 (bare)', started by system at ")

    until(told, "the waiting task names the other")
    queue.request_cancel(waiting)
    assert engine.end(waiting).status == "cancelled"
    queue.request_cancel(slow)
    assert engine.end(slow).status == "cancelled"
    engine.status(vm, "running")


def test_two_starts_at_once(engine: Engine) -> None:
    """Exactly one starts; the other ends with a plain reason."""
    vm = engine.vm(BARE)
    tasks = [engine.submit("qmstart", vm), engine.submit("qmstart", vm)]
    ends = sorted((engine.end(task).status, task.message) for task in tasks)
    assert ends == [("error", "VM 100 already running"), ("ok", "")]
    assert list(engine.qemus()) == [100]


def test_qemu_killed_is_seen(engine: Engine) -> None:
    from vms.models import AuditEntry

    vm = engine.vm(BARE)
    engine.do("qmstart", vm)
    os.kill(engine.qemus()[100], signal.SIGKILL)
    engine.status(vm, "stopped", timeout=5)
    entry = AuditEntry.objects.filter(action="vm-ended").latest("pk")
    assert "VM 100: QEMU (process" in entry.target
    assert "SIGKILL" in entry.target
    assert engine.run_files(100) == []


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("machine", "pc-i440fx-99.9", "99.9"),
        ("net0", "virtio=BC:24:11:00:00:02,bridge=nosuchbr", "nosuchbr"),
    ],
)
def test_a_start_that_cannot_be(engine: Engine, key: str, text: str, words: str) -> None:
    """It ends with the reason and leaves nothing."""
    vm = engine.vm(BARE | {key: text})
    task = engine.end(engine.submit("qmstart", vm))
    assert task.status == "error"
    assert words in task.message + task.detail
    vm.refresh_from_db()
    assert (vm.status, vm.run_id) == ("stopped", "")
    assert engine.strays() == []
    assert engine.run_files(100) == []


def test_qemus_own_words(engine: Engine) -> None:
    """What QEMU says, its exit code and the command are on the task."""
    vm = engine.vm(BARE | {"args": "-device no-such-device"})
    task = engine.end(engine.submit("qmstart", vm))
    assert task.status == "error"
    assert "no-such-device" in task.message
    assert "Exit code: 1" in task.detail
    assert "-device no-such-device" in task.detail
    assert engine.strays() == []
    assert engine.run_files(100) == []


def test_a_vanished_iso(engine: Engine) -> None:
    """Started with it, the VM names the drive and what to do; emptied, it starts."""
    from vms.models import Volume
    from vms.models.configuration import config_of, save_config
    from vms.operations.base import submit_on

    target = engine.home / "local" / "template" / "iso" / "memtest.iso"
    shutil.copy(ISO, target)
    engine.end(submit_on("storagescan", node=engine.node, user=None, params={"storage": "local"}))
    assert Volume.objects.get(name="iso/memtest.iso").present
    vm = engine.vm(BARE | {"ide2": "local:iso/memtest.iso,media=cdrom", "boot": "order=ide2"})
    engine.do("qmstart", vm)
    engine.do("qmstop", vm)
    target.unlink()
    task = engine.end(engine.submit("qmstart", vm))
    assert task.status == "error"
    assert "ide2" in task.message
    assert "local:iso/memtest.iso" in task.message
    assert "Upload the ISO again" in task.message
    engine.end(submit_on("storagescan", node=engine.node, user=None))
    assert not Volume.objects.get(name="iso/memtest.iso").present
    save_config(vm, config_of(vm) | {"ide2": "none,media=cdrom"})
    engine.do("qmstart", vm)


def test_a_disk_that_does_not_fit(engine: Engine) -> None:
    """The field is named, nothing is made, the draft is as it was."""
    from vms.models import StorageStatus

    vm = engine.draft(CONFIG | {"scsi0": "local:1", "scsi1": "local:100000,format=raw"})
    StorageStatus.objects.all().delete()  # the door knows nothing: the worker looks itself
    task = engine.end(engine.submit("qmcreate", vm))
    assert task.status == "error"
    assert "has no room" in task.message
    vm.refresh_from_db()
    assert (vm.stage, vm.lock) == ("draft", "")
    assert list(vm.draft["error"]) == ["scsi1"]
    assert engine.images() == []


def test_create_and_start_in_one(engine: Engine) -> None:
    vm = engine.draft(CONFIG)
    task = engine.do("qmcreate", vm, start="1")
    assert "Execute autostart" in lines(task)
    assert vm.status == "running"


def test_a_pinned_vm_stays_on_its_cpus(engine: Engine) -> None:
    """Every thread of its process, from the first on; a CPU that is not there is named before the start."""
    vm = engine.vm(BARE | {"affinity": "0", "cores": "2"})
    engine.do("qmstart", vm)
    threads = Path(f"/proc/{engine.qemus()[vm.vmid]}/task")
    assert {os.sched_getaffinity(int(one.name)) == {0} for one in threads.iterdir()} == {True}
    engine.do("qmstop", vm)
    engine.do("qmconfig", vm, set='{"affinity": "0,777"}')
    task = engine.end(engine.submit("qmstart", vm))
    assert task.status == "error"
    assert "affinity: this node has no CPU 777" in task.message
