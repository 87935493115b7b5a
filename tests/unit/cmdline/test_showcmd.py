"""``qm showcmd``: what it prints, and how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vms.cli.qm import main

ROOT = Path(__file__).resolve().parents[3]


def test_prints_json_and_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "101.conf"
    file.write_text("memory: 768\nnet0: virtio=BC:24:11:00:00:01,bridge=vmbr0\n")
    assert main(["showcmd", "--file", str(file), "--json"]) == 0
    words = json.loads(capsys.readouterr().out)
    assert words[words.index("-m") + 1] == "768"
    assert any("tap101i0" in word for word in words)
    assert main(["showcmd", "--file", str(file)]) == 0
    assert "  -m 768 \\\n" in capsys.readouterr().out


def test_errors_name_the_key_one_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.conf"
    file.write_text("net0: virtio,tag=5000\nscsi0: local:1/a.raw,file=/etc/shadow\n")
    assert main(["showcmd", "--file", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0].split(".")[0] for line in lines] == ["net0", "scsi0"]


def test_missing_file_and_bad_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["showcmd", "--file", str(tmp_path / "none.conf")]) == 2
    file, facts = tmp_path / "a.conf", tmp_path / "facts.json"
    file.write_text("")
    facts.write_text("[1")
    assert main(["showcmd", "--file", str(file), "--facts", str(facts)]) == 2
    assert "facts" in capsys.readouterr().err


def test_it_needs_no_django() -> None:
    code = "import sys, vms.cli.qm, vms.cli.showcmd; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=30).returncode == 0
