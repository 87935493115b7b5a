"""``vzdump``: back VMs up from the shell, one after the other, with Proxmox VE's options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from django.conf import settings

from vms.cli.follow import follow
from vms.cli.show import find
from vms.cli.verb import add_parameters, given
from vms.errors import ConfigError, VMError
from vms.models import VM
from vms.models.configuration import with_parts
from vms.operations.base import OPERATIONS, parse_params, submit

TYPE = "vzdump"
IGNORED = (
    "quiet", "ionice", "zstd", "lockwait", "mailto", "mailnotification", "notification-mode", "pigz",
    "performance", "tmpdir", "stdexcludes",
)  # fmt: skip
"""Options of PVE's that scripts give and that mean nothing here: accepted and said once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which VMs, and the operation's parameters as its declaration says them."""
    parser.add_argument("vmid", nargs="*", type=int, metavar="VMID", help="the VMs' numbers")
    parser.add_argument(
        "--all", nargs="?", const="1", default="0", choices=("0", "1"), metavar="0|1",
        help="every VM of this node",
    )  # fmt: skip
    parser.add_argument("--exclude", default="", metavar="LIST", help="with --all: not these (101,102)")
    parser.add_argument("--pool", default="", metavar="POOL", help="every VM of this node in that pool")
    add_parameters(parser, TYPE)
    for name in IGNORED:
        parser.add_argument(f"--{name}", dest=f"ignored_{name}", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """0 when every VM was backed up, 1 otherwise. Raises :class:`VMError` for a wrong call."""
    params = given(options, TYPE)
    parse_params(OPERATIONS[TYPE].params, params)
    for name in IGNORED:
        if getattr(options, f"ignored_{name}") is not None:
            print(f"vzdump: --{name} means nothing here", file=sys.stderr)
    failed = 0
    for vm in chosen(options):
        try:
            failed += follow(submit(TYPE, vm=vm, user=None, params=params)) != 0
        except VMError as error:
            print(f"vzdump: VM {vm.vmid}: {error}", file=sys.stderr)
            if error.hint:
                print(error.hint, file=sys.stderr)
            failed += 1
    return 1 if failed else 0


def chosen(options: argparse.Namespace) -> Sequence[VM]:
    """The VMs that are meant. Raises :class:`ConfigError` for a call that names none or two kinds."""
    kinds = [bool(options.vmid), options.all == "1", bool(options.pool)]
    if sum(kinds) != 1:
        raise ConfigError("vmid", "give the VMs' numbers, or --all 1, or --pool POOL")
    if options.vmid:
        return [find(vmid) for vmid in dict.fromkeys(options.vmid)]
    words = [word for word in options.exclude.replace(" ", ",").split(",") if word]
    if not all(word.isdecimal() for word in words):
        raise ConfigError("exclude", f"'{options.exclude[:80]}' is no list of VM IDs such as 101,102")
    rows = with_parts(VM.objects.filter(node__name=settings.CONF.node)).exclude(vmid__in=map(int, words))
    if options.pool:
        rows = rows.filter(pool__name=options.pool)
    return list(rows.order_by("vmid"))
