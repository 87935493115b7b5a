"""``qm``: the command line. One table of subcommands; a subcommand's module is imported only when it runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from vms.errors import VMError


@dataclass(frozen=True)
class Subcommand:
    """One line of the table. ``module`` has ``add_arguments(parser)`` and ``run(options) -> exit code``."""

    name: str
    module: str
    summary: str


SUBCOMMANDS: tuple[Subcommand, ...] = (
    Subcommand("showcmd", "vms.cli.showcmd", "show the command a configuration file leads to"),
)


def usage() -> str:
    """What ``qm`` without arguments prints."""
    width = max(len(entry.name) for entry in SUBCOMMANDS)
    lines = [f"  {entry.name.ljust(width)}  {entry.summary}" for entry in SUBCOMMANDS]
    return "\n".join(["usage: qm COMMAND [options]", "", *lines])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand. Answers its exit code; 2 for a wrong call, 1 for a refused one."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    entry = next((entry for entry in SUBCOMMANDS if entry.name == words[0]), None)
    if entry is None:
        print(f"qm: there is no command '{words[0]}'\n\n{usage()}", file=sys.stderr)
        return 2
    module = importlib.import_module(entry.module)
    parser = argparse.ArgumentParser(prog=f"qm {entry.name}", description=entry.summary)
    module.add_arguments(parser)
    options = parser.parse_args(words[1:])
    try:
        return int(module.run(options))
    except VMError as error:
        print(f"qm {entry.name}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
