"""kill -9 at every border of a backup: a definite end, the guest runs, its graph as it was, nothing left."""

from __future__ import annotations

from pathlib import Path

import pytest
from backupkit import EVERY_BUS, graph, left
from enginekit import Engine
from faultkit import deaths

from vms.models import VM, Task, Volume

LIVE = {
    key: text
    for key, text in EVERY_BUS.items()
    if key not in ("freeze", "bios", "efidisk0", "virtio1", "ide0", "sata0", "scsi5", "scsi1")
}
"""Two disks whose nodes belong to I/O threads, of a guest whose processor runs."""
READING = (
    "noted", "fleece for scsi0", "fleece for virtio0", "standing still", "filters in", "ready",
    "archive begun", "scsi0 begun", "scsi0 written", "virtio0 begun", "virtio0 written", "disks let go",
    "archive written",
)  # fmt: skip
DONE = ("archive complete", "stored")


@pytest.fixture
def running(engine: Engine) -> VM:
    vm = engine.draft(LIVE, 100)
    engine.do("qmcreate", vm)
    engine.do("qmstart", vm)
    return vm


def settled(engine: Engine, vm: VM, before: str, border: str) -> None:
    """As before the backup was asked for; the same process."""
    vm.refresh_from_db()
    engine.status(vm, "running")
    assert graph(engine, 100) == before, border
    assert (vm.lock, vm.draft) == ("", {}), border
    assert not list(engine.home.rglob(".fleece-*")), border
    assert not list((engine.run_dir / "vm" / "100").glob("backup*")), border


def test_while_it_runs(engine: Engine, running: VM, tmp_path: Path) -> None:
    before, pid = graph(engine, 100), engine.qemus()[100]
    ask = lambda: engine.submit("vzdump", running, protected="1")  # noqa: E731
    for border, task in deaths(engine, "vzdump", READING + DONE, tmp_path / "steps", ask):
        check(engine, task, border)
        assert engine.qemus() == {100: pid}, border
        settled(engine, running, before, border)


def check(engine: Engine, task: Task, border: str) -> None:
    """Nothing is left of one that was not complete; what was is whole."""
    if border in DONE:
        assert task.status == "ok", f"{border}: {task.message}"
        row = Volume.objects.get(content="backup")
        assert left(engine) == [row.label, *(row.label + one for one in (".log", ".protected"))], border
        row.delete()
        for path in (engine.home / "local" / "dump").iterdir():
            path.unlink()
    else:
        assert task.status == "error", border
        assert "nothing is left of it" in task.message, border
        assert left(engine) == [], border
        assert not Volume.objects.filter(content="backup").exists(), border


def test_while_it_is_off(engine: Engine, tmp_path: Path) -> None:
    vm = engine.draft({key: text for key, text in LIVE.items() if key != "virtio0"}, 100)
    engine.do("qmcreate", vm)
    borders = ("noted", "disks open", "archive begun", "scsi0 written", "disks let go",
               "archive written", "archive complete", "stored")  # fmt: skip
    ask = lambda: engine.submit("vzdump", vm, compress="zstd")  # noqa: E731
    for border, task in deaths(engine, "vzdump", borders, tmp_path / "steps", ask):
        assert task.finished, border
        vm.refresh_from_db()
        assert (vm.lock, vm.draft, vm.status) == ("", {}, "stopped"), border
        assert (engine.run_files(100), engine.strays()) == ([], []), border
        whole = border in ("archive complete", "stored")
        assert (task.status == "ok") == whole, border
        assert bool(left(engine)) == whole, border
        for path in (engine.home / "local" / "dump").glob("*"):
            path.unlink()
