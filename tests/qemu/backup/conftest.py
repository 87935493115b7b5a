"""``served``: an image behind a real ``qemu-nbd``."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """``served(path, "qcow2")`` answers the socket an image is served on, until the test ends."""
    with contextlib.ExitStack() as stack:

        def serve(image: Path, fmt: str, *options: str) -> str:
            path = tmp_path / f"{image.name}.sock"
            process = subprocess.Popen(
                ["qemu-nbd", "-k", str(path), "-f", fmt, "--persistent", "--shared=8", *options, str(image)]
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            deadline = time.monotonic() + 30
            while not path.exists():
                assert process.poll() is None, "qemu-nbd ended"
                assert time.monotonic() < deadline, "qemu-nbd does not listen"
                time.sleep(0.01)
            return str(path)

        yield serve
