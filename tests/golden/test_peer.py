"""Our command lines against a peer's, where its test data is at hand."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from vms.cli.showcmd import build
from vms.config import conffile

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
TOOL = SHARED / "tools" / "cfg2cmd_compare.py"
AT_LEAST = 29


def comparator() -> ModuleType:
    """The program that says when two command lines are equal for the guest."""
    spec = importlib.util.spec_from_file_location("cfg2cmd_compare", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not TOOL.exists(), reason="no peer data here")
def test_command_lines(tmp_path: Path) -> None:
    judge, different = comparator(), []
    cases = sorted((SHARED / "corpus" / "cfg2cmd").glob("*.conf.cmd"))
    facts = tmp_path / "facts.json"
    for expected in cases:
        conf = expected.with_suffix("")
        facts.write_text(json.dumps(judge.directives(conf.read_text())))
        ours = judge.facts(build(conf, 8006, facts))
        if ours != judge.facts(judge.expected(expected)):
            different.append(conf.stem)
    assert len(cases) - len(different) >= AT_LEAST, different


def peer_files() -> list[Path]:
    return sorted((SHARED / "corpus" / "parse-config").glob("*.conf"))


@pytest.mark.skipif(not peer_files(), reason="no peer data here")
def test_files_come_back_unchanged() -> None:
    for file in peer_files():
        parsed = conffile.parse(file.read_text())
        assert parsed.warnings == [], file.name
        assert conffile.format(parsed) == file.read_text(), file.name
