"""What the driver tests share: short folders, the smallest QEMU, waiting for a state."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vms.host.paths import RunPaths, VMPaths
from vms.qemu.process import adopt, collect


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for socket names; any user may cross it."""
    path = Path(tempfile.mkdtemp(prefix="pvd-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def runs(short: Path) -> RunPaths:
    return RunPaths(short / "run", short / "log")


@pytest.fixture
def paths(runs: RunPaths) -> Iterator[VMPaths]:
    """VM 101's run folder; whatever still runs in it afterwards is ended by its pid."""
    made = runs.prepare(101)
    yield made
    left = adopt(made.pidfile, 101)
    if left is not None:
        os.kill(left.pid, signal.SIGKILL)
        collect(left.pid)
