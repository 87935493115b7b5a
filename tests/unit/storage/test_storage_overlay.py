"""The overlays we write ourselves: as QEMU's own tools see them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from vms.storage.overlay import write_overlay

GIB = 1 << 30


def tool(*words: str | Path) -> Any:
    done = subprocess.run(["qemu-img", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout


def make(folder: Path, size: int, fmt: str = "qcow2") -> Path:
    """A base of that size with a pattern at its end, and an overlay on it."""
    (folder / "900").mkdir()
    (folder / "101").mkdir()
    base, target = folder / "900" / f"base.{fmt}", folder / "101" / "disk.qcow2"
    tool("create", "-q", "-f", fmt, base, str(size))
    words = ["qemu-io", "-f", fmt, "-c", f"write -q -P 77 {size - 65536} 64k", str(base)]
    subprocess.run(words, check=True)
    descriptor = os.open(target, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        write_overlay(descriptor, f"../900/base.{fmt}", fmt, size)
    finally:
        os.close(descriptor)
    return target


@pytest.mark.parametrize("size", [1 << 20, 4 * GIB, 100 * GIB, 8 << 40])
def test_qemu_takes_it_for_its_own(tmp_path: Path, size: int) -> None:
    disk = make(tmp_path, size)
    tool("check", "-q", "-f", "qcow2", disk)
    found = tool("info", "--output=json", "-f", "qcow2", disk)
    assert found["virtual-size"] == size
    assert found["backing-filename"] == "../900/base.qcow2"
    assert found["backing-filename-format"] == "qcow2"
    assert not found["dirty-flag"]
    assert disk.stat().st_blocks * 512 < 512 << 10
    reference = tmp_path / "101" / "reference.qcow2"
    tool("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "../900/base.qcow2", reference)
    other = tool("info", "--output=json", "-f", "qcow2", reference)
    for key in ("virtual-size", "cluster-size", "backing-filename", "format-specific"):
        assert found[key] == other[key], key


def test_it_reads_through_and_keeps_what_is_written(tmp_path: Path) -> None:
    """On a raw base of an odd size, as firmware variables are."""
    disk = make(tmp_path, 540672, "raw")
    before = (tmp_path / "900" / "base.raw").read_bytes()
    for words in (
        "read -P 77 475136 64k",
        "write -P 66 475136 4k",
        "read -P 66 475136 4k",
        "read -P 77 479232 4k",
    ):
        done = subprocess.run(
            ["qemu-io", "-f", "qcow2", "-c", words, str(disk)], capture_output=True, text=True, check=True
        )
        assert "failed" not in done.stdout, done.stdout
    tool("check", "-q", "-f", "qcow2", disk)
    assert (tmp_path / "900" / "base.raw").read_bytes() == before


def test_a_name_that_does_not_fit(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "x", os.O_CREAT | os.O_WRONLY, 0o600)
    with pytest.raises(ValueError, match="has 1100 bytes"):
        write_overlay(descriptor, "x" * 1100, "raw", GIB)
    os.close(descriptor)
