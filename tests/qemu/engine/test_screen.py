"""What real guests show, drawn by the real worker through descriptors QEMU cannot outgrow."""

from __future__ import annotations

import base64
import contextlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from enginekit import ROOT, Engine, until

from vms.errors import StateError
from vms.models import VM
from vms.operations.screen import take, taken
from vms.tasks import screens


def size_of(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack_from(">II", png, 16)
    return width, height


def machine(engine: Engine, vmid: int, vga: str) -> VM:
    """A machine without a disk, whose firmware draws; started."""
    vm = engine.vm({"memory": "32", "vga": vga, "machine": "q35"}, vmid)
    engine.do("qmstart", vm)
    return vm


def shot(engine: Engine, vm: VM) -> bytes:
    task = engine.end(take(vm, None))
    assert task.status == "ok", task.message
    png = taken(task, None)
    assert png is not None
    assert base64.b64encode(png).decode()[:60] not in str(task.params)
    return png


def test_screens_of_real_machines(engine: Engine, parcels: None, tmp_path: Path) -> None:
    vm = machine(engine, 100, "std")

    def drawn() -> bool:
        return len(shot(engine, vm)) > 2500  # the firmware's words, not an empty screen

    until(drawn, "the firmware draws", 60)
    width, height = size_of(shot(engine, vm))
    assert width >= 640
    assert height >= 350
    only_who_looks(engine, vm)

    engine.do("qmpause", vm)
    assert size_of(shot(engine, vm)) == (width, height), "a guest that stands still shows what it showed"
    file = tmp_path / "shot.png"
    assert qm(engine, "screenshot", "100", str(file)).returncode == 0
    assert size_of(file.read_bytes()) == (width, height)
    one_file_serves(engine, vm)

    other = machine(engine, 101, "none")
    with pytest.raises(StateError, match="its display is none"):
        take(other, None)
    refused = qm(engine, "screenshot", "101", str(tmp_path / "none.png"))
    assert refused.returncode == 1
    assert not (tmp_path / "none.png").exists()


def only_who_looks(engine: Engine, vm: VM) -> None:
    """No picture is kept of a screen that nobody looks at; one look brings one."""
    run = vm.run_id
    assert screens.kept(run) is None
    assert screens.look(run)
    found = until(lambda: screens.kept(run), "a small picture", 30)
    assert found.words == ""
    width, height = size_of(found.png)
    assert 0 < width <= 384
    assert 0 < height <= 288
    assert len(found.png) < 330_000
    assert screens.kept("00" * 16) is None


def one_file_serves(engine: Engine, vm: VM) -> None:
    """However many pictures, and though QEMU closes nothing while its guest stands still."""
    worker = engine.process
    assert worker is not None
    for _ in range(3):
        shot(engine, vm)
    assert len(papers(engine.qemus()[vm.vmid])) == 1
    assert len(papers(worker.pid)) == 2, "the file and the pen"


def papers(pid: int) -> list[str]:
    """The open pictures of a process."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(entry))
    return [name for name in found if "memfd:screen" in name]


def qm(engine: Engine, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "vms.cli.qm", *words]
    return subprocess.run(argv, cwd=ROOT, env=engine.environ, capture_output=True, text=True, check=False)
