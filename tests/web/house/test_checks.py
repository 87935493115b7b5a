"""``manage.py check`` on this machine and on poorer ones."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from supervised import ROOT


def check(home: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT, env={**os.environ, "PVELITE_HOME": str(home), "PATH": path},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_this_machine_is_fit(tmp_path: Path) -> None:
    done = check(tmp_path, os.environ["PATH"])
    assert done.returncode == 0, done.stderr
    assert "pvelite.E" not in done.stderr


def test_a_machine_without_programs_hears_what_is_missing(tmp_path: Path) -> None:
    done = check(tmp_path, str(tmp_path))
    assert done.returncode == 1
    for code in ("E001", "E004", "W001", "W004"):
        assert f"pvelite.{code}" in done.stderr
    assert "./up installs it" in done.stderr


def test_an_old_qemu_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "qemu-system-x86_64"
    old.write_text("#!/bin/sh\necho 'QEMU emulator version 5.2.0 (Debian 1:5.2)'\n")
    old.chmod(0o755)
    done = check(tmp_path, f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "QEMU is older than 6.0" in done.stderr


def test_a_run_directory_others_may_write_is_refused() -> None:
    with tempfile.TemporaryDirectory(
        prefix="pvc-", dir="/tmp"
    ) as home:  # short: the run directory stays inside
        run = Path(home) / "run"
        run.mkdir()
        run.chmod(0o777)
        done = check(Path(home), os.environ["PATH"])
    assert done.returncode == 1
    assert "pvelite.E005" in done.stderr
