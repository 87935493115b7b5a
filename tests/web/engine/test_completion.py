"""The script ``qm completion bash`` prints, sourced by a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vms.cli.completion import NUMBERS, script
from vms.cli.qm import SUBCOMMANDS

ASK = """
source "$1"
COMP_WORDS=("${@:2}"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
set -- $(complete -p qm)
"${@: -2:1}" 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(tmp_path: Path, *words: str) -> list[str]:
    """What bash offers after those words."""
    file = tmp_path / "qm.bash"
    file.write_text(script("bash"))
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "-c", ASK, "bash", str(file), *words], capture_output=True, text=True, check=True,
        env={**os.environ, "PVELITE_HOME": str(tmp_path)},
    )  # fmt: skip
    return done.stdout.split()


def test_commands_options_and_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "nodes" / "pve1" / "qemu-server"
    folder.mkdir(parents=True)
    for vmid in (101, 102, 230):
        (folder / f"{vmid}.conf").touch()
    assert set(completed(tmp_path, "qm", "s")) >= {"start", "stop", "shutdown", "status", "showcmd"}
    assert "--timeout" in completed(tmp_path, "qm", "stop", "--")
    assert completed(tmp_path, "qm", "start", "1") == ["101", "102"]
    assert completed(tmp_path, "qm", "trash", "res") == ["restore"]


@pytest.mark.parametrize("shell", sorted(NUMBERS))
def test_every_command_is_in_it(shell: str) -> None:
    text = script(shell)
    # zsh's functions are named with underscores, so two spellings of one command are one there.
    assert all(entry.name in text or entry.name.replace("-", "_") in text for entry in SUBCOMMANDS)
