"""A VM's whole life through the real worker and a real QEMU."""

from __future__ import annotations

from enginekit import Engine

CONFIG = {
    "name": "life",
    "ostype": "l26",
    "memory": "128",
    "scsihw": "virtio-scsi-single",
    "scsi0": "local:1,format=qcow2",
    "ide2": "none,media=cdrom",
    "net0": "virtio=BC:24:11:00:00:01",
}


def lines(task) -> list[str]:
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
    engine.do("qmstop", vm)
    engine.do("qmstart", vm)
    assert vm.run_id not in ("", first)
    engine.do("qmstop", vm)
    task = engine.end(engine.submit("qmdestroy", vm))
    assert task.status == "ok", task.message
    assert engine.images() == []
    assert not VM.everything.exists()
    assert not Volume.objects.filter(content="images").exists()
