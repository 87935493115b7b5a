"""Full clones of a VM that runs: its disks are mirrored, and cut loose while it holds still."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clonekit import CONFIG, clone, files, made, read, removed, write
from enginekit import Engine, until
from faultkit import deaths, fill, go_on, held
from test_chaos import tell_qemu

from vms.errors import StateError

if TYPE_CHECKING:
    from vms.models import VM, Task

BORDERS = (
    "source read", "scsi0 made", "scsi0 mirrored", "scsi1 made", "scsi1 mirrored", "still", "cut loose",
    "defined",
)  # fmt: skip


@pytest.fixture
def running(engine: Engine) -> VM:
    """VM 900, running without an agent, its second disk full of noise."""
    vm = engine.draft(CONFIG, vmid=900)
    engine.do("qmcreate", vm)
    write(engine, "900/vm-900-disk-1.raw", os.urandom(28 << 20))
    engine.do("qmstart", vm)
    return vm


def in_order(engine: Engine, vm: VM) -> None:
    """The source runs as if nothing had been: no job, no node of a clone."""
    engine.status(vm, "running")
    assert tell_qemu(engine, 900, "query-jobs") == []
    nodes: list[dict[str, Any]] = tell_qemu(engine, 900, "query-named-block-nodes")
    assert not [node for node in nodes if node["node-name"].startswith("clone-")]


def test_two_at_once(engine: Engine, running: VM) -> None:
    """The same bytes in another format; each waits for QEMU's one mirror; both start."""
    tasks = [clone(engine, running, 101, format="raw", start="1"), clone(engine, running, 102)]
    with pytest.raises(StateError, match="VM 900 is being cloned by"):
        engine.submit("qmdestroy", running)
    vms = [made(engine, task) for task in tasks]
    in_order(engine, running)
    for vmid in (101, 102):
        assert read(engine, f"{vmid}/vm-{vmid}-disk-1.raw", 28 << 20) == read(
            engine, "900/vm-900-disk-1.raw", 28 << 20
        )
    engine.status(vms[0], "running")
    engine.do("qmstart", vms[1])


def test_what_is_done_to_the_source_meanwhile(engine: Engine, running: VM) -> None:
    """Its power is nobody else's: a stop is not kept waiting, and the clone ends with nothing left."""
    from vms.models import VM

    task = clone(engine, running, bwlimit="1024")
    until(lambda: len(files(engine)) > 3, "the mirror is under way")
    engine.do("qmstop", running)
    assert engine.end(task).status == "error"
    assert task.message.startswith("clone failed: ")
    assert files(engine) == ["900/vm-900-disk-0.qcow2", "900/vm-900-disk-1.raw"]
    assert list(VM.everything.values_list("vmid", flat=True)) == [900]


def test_cancelled(engine: Engine, running: VM) -> None:
    """Nothing of it is left; the next, which says whom it waits for, goes on; a third gives up waiting."""
    from vms.tasks import queue

    def waits_for(task: Task, other: Task) -> None:
        words = f"waiting for '{other.label}', started by system at "
        until(lambda: type(task).objects.get(pk=task.pk).message.startswith(words), f"{task.label} waits")

    task = clone(engine, running, bwlimit="1024")
    until(lambda: len(files(engine)) > 3, "the mirror is under way")
    second = clone(engine, running, 102)
    waits_for(second, task)
    third = clone(engine, running, 103)
    waits_for(third, second)
    queue.request_cancel(third)
    assert engine.end(third).status == "cancelled"
    queue.request_cancel(task)
    assert engine.end(task).status == "cancelled"
    made(engine, second)
    in_order(engine, running)
    left = {name.partition("/")[0] for name in files(engine)}
    assert left == {"900", "102"}


def test_a_target_that_fills_up(engine: Engine, running: VM, small: Path) -> None:
    """A mirror that cannot go on ends the clone; its source never hears of it."""
    from vms.models import VM

    task = held(engine, "qmclone:4", lambda: clone(engine, running, storage="small"))
    fill(small)
    go_on(engine)
    assert engine.end(task, 60).status == "error"
    assert task.message.startswith("clone failed: scsi1: ")
    assert "No space left on device" in task.message
    in_order(engine, running)
    assert not list(small.glob("images/*/*"))
    assert list(VM.everything.values_list("vmid", flat=True)) == [900]


def test_killed_at_every_border(engine: Engine, running: VM, tmp_path: Path) -> None:
    """The source goes on, also when it was holding still; of the clone there is all or nothing."""
    from vms.models import VM

    for border, task in deaths(
        engine, "qmclone", BORDERS, tmp_path / "steps", lambda: clone(engine, running)
    ):
        in_order(engine, running)
        if border == "defined":
            assert task.status == "ok", task.message
            vm = VM.objects.get(vmid=101)
            engine.do("qmstart", vm)
            removed(engine, vm)
        else:
            assert task.status == "error", border
            assert "Nothing of it is left" in task.message
            assert files(engine) == ["900/vm-900-disk-0.qcow2", "900/vm-900-disk-1.raw"], border
            assert list(VM.everything.values_list("vmid", flat=True)) == [900]
