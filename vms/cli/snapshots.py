"""``qm snapshot``, ``delsnapshot``, ``rollback`` and ``listsnapshot``."""

from __future__ import annotations

import argparse
import json

from django.utils import timezone

from vms.cli.show import find
from vms.cli.verb import add_parameters, end, given
from vms.models import VM
from vms.operations.base import submit
from vms.operations.snaprows import Entry, tree_of

VERBS = {"snapshot": "qmsnapshot", "delsnapshot": "qmdelsnapshot", "rollback": "qmrollback"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The VM's number, and the snapshot's name for what is done with one."""
    command = parser.get_default("command")
    parser.add_argument("vmid", type=int, metavar="VMID", help="the VM's number")
    what = "the snapshots" if command == "listsnapshot" else "the task's id and end"
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON")
    if command == "listsnapshot":
        return
    parser.add_argument("name", metavar="NAME", help="the snapshot's name")
    add_parameters(parser, VERBS[command], without=("snapname",))


def run(options: argparse.Namespace) -> int:
    """0 when it was done. Raises whatever :func:`submit` refuses with."""
    vm = find(options.vmid)
    if options.command == "listsnapshot":
        return show(vm, options)
    type_ = VERBS[options.command]
    params = {**given(options, type_), "snapname": options.name}
    return end(submit(type_, vm=vm, user=None, params=params), options)


def show(vm: VM, options: argparse.Namespace) -> int:
    """The tree, the present state last on its branch."""
    entries = tree_of(vm)
    if options.json:
        print(json.dumps([_row(entry) for entry in entries]))
        return 0
    for entry in entries:
        row = _row(entry)
        name = f"{' ' * entry.depth}`-> {entry.name}"
        ram = "RAM" if row["vmstate"] else ""
        state = f" ({row['snapstate']})" if row["snapstate"] else ""
        text = row["description"].partition("\n")[0]
        print(f"{name:<36} {row['snaptime']:<20} {ram:<4} {text}{state}".rstrip())
    return 0


def _row(entry: Entry) -> dict[str, str]:
    made = entry.snapshot
    if made is None:
        return {
            "name": entry.name, "parent": entry.parent, "snaptime": "", "description": "You are here!",
            "vmstate": "", "snapstate": "",
        }  # fmt: skip
    taken = timezone.localtime(made.created)
    return {
        "name": made.name, "parent": entry.parent, "snaptime": f"{taken:%Y-%m-%d %H:%M:%S}",
        "description": made.description, "vmstate": "1" if made.vmstate_id else "", "snapstate": made.state,
    }  # fmt: skip
