"""``qm suspend``: a pause, or with ``--todisk`` a hibernation."""

from __future__ import annotations

import argparse

from vms.cli.follow import follow
from vms.cli.show import find
from vms.cli.verb import add_parameters, given
from vms.errors import ConfigError
from vms.operations.base import submit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The VM's number, and whether its memory goes to disk."""
    parser.add_argument("vmid", type=int, metavar="VMID", help="the VM's number")
    parser.add_argument(
        "--todisk", nargs="?", const="1", default="0", choices=("0", "1"), metavar="0|1",
        help="save the memory to disk and end the process; the next start goes on from there",
    )  # fmt: skip
    add_parameters(parser, "qmsuspend")


def run(options: argparse.Namespace) -> int:
    """0 when the task ended well, 1 otherwise. Raises whatever :func:`submit` refuses with."""
    todisk, params = options.todisk == "1", given(options, "qmsuspend")
    if params and not todisk:
        raise ConfigError(next(iter(params)), "means nothing without --todisk")
    type_ = "qmsuspend" if todisk else "qmpause"
    return follow(submit(type_, vm=find(options.vmid), user=None, params=params))
