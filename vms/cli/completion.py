"""``qm completion``: what a shell needs to complete commands, options and the numbers of VMs.

Written by shtab from the very parsers ``qm`` runs. Numbers come from the names of the text files that are
kept of every VM (:mod:`vms.operations.mirror`): a shell that completes starts no program of ours.
"""

from __future__ import annotations

import argparse

import shtab
from django.conf import settings

NUMBERS = {
    "bash": """
_qm_vmids() {
  local home=${PVELITE_HOME:-HOME_FOLDER} file
  for file in "$home"/nodes/*/qemu-server/*.conf; do
    file=${file##*/}; [[ ${file%.conf} == "$1"* && $file != '*.conf' ]] && echo "${file%.conf}"
  done
}
""",
    "zsh": """
_qm_vmids() {
  local -a numbers; numbers=(${PVELITE_HOME:-HOME_FOLDER}/nodes/*/qemu-server/*.conf(N:t:r))
  compadd -a numbers
}
""",
}
VMID = {"bash": "_qm_vmids", "zsh": "_qm_vmids"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=sorted(NUMBERS), help="whose words to write")


def run(options: argparse.Namespace) -> int:
    """Print the script: ``source <(qm completion bash)``."""
    print(script(options.shell))
    return 0


def script(shell: str) -> str:
    """The completion of every subcommand of the table."""
    from vms.cli.qm import SUBCOMMANDS, parser_of

    whole = argparse.ArgumentParser(prog="qm")
    commands = whole.add_subparsers()
    for entry in SUBCOMMANDS:
        own, _ = parser_of(entry)
        commands.add_parser(entry.name, help=entry.summary, parents=[mark(own)], add_help=False)
    preamble = NUMBERS[shell].replace("HOME_FOLDER", str(settings.CONF.home))
    return str(shtab.complete(whole, shell=shell, root_prefix="qm", preamble=preamble))


def mark(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Let the arguments that are a VM's number be completed as such, in nested commands too."""
    for action in parser._actions:
        if action.metavar == "VMID":
            action.complete = VMID  # type: ignore[attr-defined]
        for nested in (
            (action.choices or {}).values() if isinstance(action, argparse._SubParsersAction) else ()
        ):
            mark(nested)
    return parser
