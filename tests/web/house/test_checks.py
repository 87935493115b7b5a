"""``manage.py check`` on this machine and on poorer ones."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from supervised import ROOT


def check(home: Path, path: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT, env={**os.environ, "PVELITE_HOME": str(home), "PATH": path, **environ},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_this_machine_is_fit(tmp_path: Path) -> None:
    done = check(tmp_path, os.environ["PATH"], PVELITE_SPICE="127.0.0.1:61000")
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


def test_what_others_may_write_and_addresses_of_others_are_refused() -> None:
    with tempfile.TemporaryDirectory(
        prefix="pvc-", dir="/tmp"
    ) as home:  # short: the run directory stays inside
        run = Path(home) / "run"
        run.mkdir()
        run.chmod(0o777)
        done = check(Path(home), os.environ["PATH"], PVELITE_SPICE="192.0.2.1:61000")
    assert done.returncode == 1
    assert "pvelite.E005" in done.stderr
    assert "PVELITE_SPICE: 192.0.2.1 port 61000: Cannot assign requested address" in done.stderr
