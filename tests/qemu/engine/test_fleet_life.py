"""A node boots and goes down: its guests start and stop in their order, through the real worker.

The guests have no disk, so none of them heeds the power button: each shutdown uses up its whole time-out.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from enginekit import ROOT, Engine, until

if TYPE_CHECKING:
    from vms.models import Task

QM = Path(sys.executable).parent / "qm"
BARE = {"ostype": "l26", "memory": "64"}
BOOT = BARE | {"onboot": "1"}


def qm(engine: Engine, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(QM), *words], cwd=ROOT, env=engine.environ, capture_output=True, text=True, check=False,
        timeout=90,
    )  # fmt: skip


def turns(type_: str) -> list[Task]:
    """The single guests' tasks, first asked first."""
    from vms.models import Task

    return list(Task.objects.filter(type=type_).order_by("pk"))


def reboot(engine: Engine) -> None:
    """As if the machine had booted: the worker's next life finds another boot's id among the facts."""
    from vms.models import Node

    node = engine.node
    Node.objects.filter(pk=node.pk).update(facts={**node.facts, "boot_id": "an earlier boot"})


def bulk(type_: str) -> Task:
    """The bulk task of that type, once it is there."""
    from vms.models import Task

    found: Task = until(
        lambda: Task.objects.filter(type=type_).order_by("-pk").first(), f"{type_} was asked for", 10
    )
    return found


def test_a_node_boots(engine: Engine) -> None:
    """Order, delay, a guest that cannot start, a left-over lock; then a mere restart of the worker."""
    from vms.models import VM, Task

    engine.vm(BOOT | {"startup": "order=2,up=0"}, 100)
    engine.vm(BOOT | {"startup": "order=1,up=1"}, 101)
    engine.vm(BOOT | {"startup": "up=0"}, 102)
    engine.vm(BARE, 103)
    engine.vm(BOOT | {"startup": "order=1,up=0", "machine": "pc-i440fx-99.9"}, 104)
    VM.objects.filter(vmid=100).update(lock="backup")
    assert engine.stop() == 0
    reboot(engine)
    engine.start()
    task = engine.end(bulk("startall"), 60)
    assert (task.status, task.username) == ("warnings", "system")
    assert [one.vmid for one in turns("qmstart")] == [101, 104, 100, 102]
    first, wrong, second, last = turns("qmstart")
    assert (wrong.created - first.created).total_seconds() >= 1
    assert second.created >= max(first.ended, wrong.ended)  # type: ignore[type-var]
    assert last.created >= second.ended  # type: ignore[operator]
    said = [line.text for line in task.lines.all()]
    assert VM.objects.get(vmid=100).lock == "", "the worker itself gave the left-over lock back"
    assert said.count("Waiting for 1 seconds (startup delay)") == 1
    assert any(line.startswith("104 (VM 104): ") and "99.9" in line for line in said)
    assert sorted(engine.qemus()) == [100, 101, 102]
    engine.do("qmstop", VM.objects.get(vmid=102))
    for end in (engine.kill, engine.stop):
        end()
        engine.start()
    assert Task.objects.filter(type="startall").count() == 1
    assert sorted(engine.qemus()) == [100, 101]


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_worker_that_ends_while_it_starts_guests(engine: Engine, how: str) -> None:
    """The next life goes on where it was: nobody is left out, nobody started twice."""
    engine.vm(BOOT | {"startup": "order=1,up=600"}, 100)
    engine.vm(BOOT | {"startup": "order=2,up=0"}, 101)
    engine.stop()
    reboot(engine)
    engine.start()
    task = bulk("startall")
    until(lambda: 100 in engine.qemus() and turns("qmstart")[0].finished, "the first guest runs", 30)
    getattr(engine, how)()
    engine.start()
    assert engine.end(bulk("startall"), 30).status == "ok"
    task.refresh_from_db()
    assert task.status == ("ok" if how == "kill" else "error")
    assert [one.vmid for one in turns("qmstart")] == [100, 101]
    assert sorted(engine.qemus()) == [100, 101]


def test_a_node_goes_down(engine: Engine) -> None:
    """``qm stopall``: backwards, each with its own time-out, group after group; then the power is cut."""
    for vmid, startup in ((100, "order=1,up=0,down=2"), (101, "order=2,up=0"), (102, "up=0")):
        engine.vm(BARE | {"startup": startup}, vmid)
    done = qm(engine, "startall", "--force", "--vms", "100,101,102", "--max-workers", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Waiting for 0 seconds (startup delay)") == 2
    assert sorted(engine.qemus()) == [100, 101, 102]
    done = qm(engine, "stopall", "--force-stop", "0", "--timeout", "0", "--vms", "102")
    assert done.returncode == 0
    assert "102 (VM 102): VM quit/powerdown failed - got timeout" in done.stdout
    assert sorted(engine.qemus()) == [100, 101, 102]
    done = qm(engine, "stopall", "--timeout", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "TASK OK"
    assert engine.qemus() == {}
    shut = turns("qmshutdown")[1:]
    assert [task.vmid for task in shut] == [102, 101, 100]
    assert [task.params["timeout"] for task in shut] == ["1", "1", "2"]
    seconds = [task.seconds or 0 for task in shut]
    assert [took >= least for took, least in zip(seconds, (1, 1, 2), strict=True)] == [True] * 3
    for earlier, later in pairwise(shut):
        assert earlier.ended is not None
        assert later.created >= earlier.ended
    assert qm(engine, "startall", "--vms", "no").returncode == 1
