"""What tests of templates and clones share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginekit import Engine

if TYPE_CHECKING:
    from vms.models import VM, Task

CONFIG = {
    "name": "golden",
    "ostype": "l26",
    "memory": "64",
    "scsihw": "virtio-scsi-single",
    "scsi0": "local:0.0625,format=qcow2,discard=on",
    "scsi1": "local:0.03125,format=raw",
    "net0": "virtio=BC:24:11:00:00:01",
    "ide2": "none,media=cdrom",
}


def write(engine: Engine, name: str, content: bytes) -> None:
    with (engine.home / "local" / "images" / name).open("r+b") as file:
        file.write(content)


def read(engine: Engine, name: str, length: int = 28672) -> bytes:
    with (engine.home / "local" / "images" / name).open("rb") as file:
        return file.read(length)


def clone(engine: Engine, source: VM, newid: int = 101, **params: str) -> Task:
    from vms.operations.clone import clone

    return clone(source, None, newid=newid, params=params)


def made(engine: Engine, task: Task) -> VM:
    from vms.models import VM

    engine.end(task, 60)
    told = f"{task.message}\n" + "\n".join(line.text for line in task.lines.all())
    assert task.status in ("ok", "warnings"), told
    return VM.objects.get(vmid=task.vmid)


def removed(engine: Engine, vm: VM) -> None:
    """Stop a clone and remove it for good."""
    engine.do("qmstop", vm)
    assert engine.end(engine.submit("qmdestroy", vm, now="1")).status == "ok"


def files(engine: Engine) -> list[str]:
    folder = engine.home / "local" / "images"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def config(vm: VM) -> dict[str, str]:
    from vms.models import VM as Model
    from vms.models.configuration import config_of

    return config_of(Model.everything.get(pk=vm.pk))


def dies(engine: Engine, fault: str) -> None:
    """A new worker that will be killed at that border."""
    if engine.process is not None:
        engine.stop()
    engine.start(PVELITE_FAULT=fault)


def died(engine: Engine, within: float = 30) -> None:
    """Wait until the worker has been killed."""
    assert engine.process is not None
    assert engine.process.wait(within) == -9
    engine.process = None


def plain(engine: Engine) -> None:
    """A new worker that will live."""
    engine.stop()
    engine.start()
