"""A supervised installation, ended and removed after the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervised import House


@pytest.fixture
def house() -> Iterator[House]:
    folder = Path(tempfile.mkdtemp(prefix="pvl-", dir="/tmp"))  # short, so the sockets stay inside
    one = House(folder / "home")
    yield one
    if one.process is not None and one.process.poll() is None:
        one.process.kill()
        one.process.wait()
    for process in one.roles().values():
        process.kill()
    shutil.rmtree(folder)
