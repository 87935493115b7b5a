"""``qm trash``: what was removed, and the two ways out."""

from __future__ import annotations

import argparse
import json

from django.db.models import QuerySet

from vms.cli.follow import follow
from vms.errors import NotFound
from vms.models import VM
from vms.operations.base import submit

VERBS = {"restore": "qmundestroy", "purge": "qmpurge"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``list``, ``restore VMID``, ``purge VMID``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list what is in the trash")
    listing.add_argument("--json", action="store_true", help="print JSON")
    for name, text in (("restore", "bring a VM back"), ("purge", "remove a VM and its disks for good")):
        action = actions.add_parser(name, help=text)
        action.add_argument("vmid", type=int, metavar="VMID", help="the VM's number")


def run(options: argparse.Namespace) -> int:
    """0 when it was done. Raises :class:`NotFound` for a number that is not in the trash."""
    if options.action == "list":
        return show(options)
    vm = thrown().filter(vmid=options.vmid).first()
    if vm is None:
        raise NotFound(f"VM {options.vmid} is not in the trash")
    return follow(submit(VERBS[options.action], vm=vm, user=None))


def show(options: argparse.Namespace) -> int:
    """A line for each VM: number, name, by whom and when it was removed, when it goes for good."""
    rows = [
        {
            "vmid": vm.vmid, "name": vm.display_name, "by": vm.trash.get("by", ""),
            "at": vm.trash.get("at", ""), "until": vm.purge_after.isoformat() if vm.purge_after else "",
        }
        for vm in thrown()
    ]  # fmt: skip
    if options.json:
        print(json.dumps(rows))
        return 0
    line = "{vmid:>10} {name:<20} {by:<12} {at:<20} {until:<20}"
    if rows:
        print(line.format(vmid="VMID", name="NAME", by="REMOVED BY", at="AT", until="GOES FOR GOOD").rstrip())
    for row in rows:
        print(line.format(**{**row, "at": row["at"][:19], "until": row["until"][:19]}).rstrip())
    return 0


def thrown() -> QuerySet[VM]:
    """What lies in the trash, by number."""
    return VM.everything.filter(stage=VM.Stage.TRASH).order_by("vmid")
