"""``qm clone``: the one verb that names two machines."""

from __future__ import annotations

import argparse

from vms.cli import verb
from vms.cli.show import find
from vms.operations.clone import clone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The source, the new VM's number, and Proxmox's options."""
    parser.add_argument("vmid", type=int, metavar="VMID", help="the source's number")
    parser.add_argument("newid", type=int, metavar="NEWID", help="the new VM's number")
    parser.add_argument("--json", action="store_true", help="print the task's id and end as JSON")
    verb.add_parameters(parser, "qmclone")


def run(options: argparse.Namespace) -> int:
    """0 when the clone is there, 1 otherwise."""
    params = verb.given(options, "qmclone")
    return verb.end(clone(find(options.vmid), None, newid=options.newid, params=params), options)
