"""Our command lines against a peer's, where its test data is at hand."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vms.cli.showcmd import build
from vms.config import conffile

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
TOOL = SHARED / "tools" / "cfg2cmd_compare.py"
AT_LEAST = 30
"""Equal with the facts the comparing program hands out; they leave out where a Ceph cluster is."""


def comparator() -> ModuleType:
    """The program that says when two command lines are equal for the guest."""
    spec = importlib.util.spec_from_file_location("cfg2cmd_compare", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not TOOL.exists(), reason="no peer data here")
@pytest.mark.parametrize("cluster_told", [False, True])
def test_command_lines(tmp_path: Path, cluster_told: bool) -> None:
    judge, different = comparator(), []
    cases = sorted((SHARED / "corpus" / "cfg2cmd").glob("*.conf.cmd"))
    file = tmp_path / "facts.json"
    for expected in cases:
        conf = expected.with_suffix("")
        facts = judge.directives(conf.read_text())
        if cluster_told:
            facts["storages"]["rbd-store"] |= cluster(expected.read_text())
        file.write_text(json.dumps(facts))
        if judge.facts(build(conf, 8006, file)) != judge.facts(judge.expected(expected)):
            different.append(conf.stem)
    assert len(cases) - len(different) >= (len(cases) if cluster_told else AT_LEAST), different


def cluster(text: str) -> dict[str, Any]:
    """Where the peer's Ceph cluster was and what number it had; no other fact is taken from its output."""
    found: dict[str, Any] = {}
    if servers := re.search(r'"server":(\[[^]]*\])', text):
        found["monitors"] = [f"{place['host']}:{place['port']}" for place in json.loads(servers[1])]
    if number := re.search(r"/dev/rbd-pve/([0-9a-f-]{36})/", text):
        found["fsid"] = number[1]
    return found


def peer_files() -> list[Path]:
    return sorted((SHARED / "corpus" / "parse-config").glob("*.conf"))


@pytest.mark.skipif(not peer_files(), reason="no peer data here")
def test_files_come_back_unchanged() -> None:
    for file in peer_files():
        parsed = conffile.parse(file.read_text())
        assert parsed.warnings == [], file.name
        assert conffile.format(parsed) == file.read_text(), file.name
