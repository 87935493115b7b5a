"""``qm wait`` and ``qm unlock``."""

from __future__ import annotations

import argparse
import sys
import time

from vms.cli.follow import INTERVAL
from vms.cli.show import find
from vms.models import VM
from vms.operations.locks import unlock


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The VM's number; for ``wait`` how long."""
    parser.add_argument("vmid", type=int, metavar="VMID", help="the VM's number")
    if parser.get_default("command") == "wait":
        parser.add_argument("--timeout", type=float, metavar="SECONDS", help="give up after this time")


def run(options: argparse.Namespace) -> int:
    """0 when it was done, 1 when the time was over."""
    vm = find(options.vmid)
    if options.command == "unlock":
        print(f"removed the lock '{unlock(vm, None)}'")
        return 0
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    while VM.objects.filter(pk=vm.pk).exclude(status=VM.Status.STOPPED).exists():
        if deadline is not None and time.monotonic() > deadline:
            print(f"VM {vm.vmid} is not stopped after {options.timeout:g} seconds", file=sys.stderr)
            return 1
        time.sleep(INTERVAL)
    return 0
