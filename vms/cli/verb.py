"""``qm start`` and its like: submit an operation and follow it to its end."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Collection

from vms.cli.follow import follow
from vms.cli.show import find
from vms.models import Task
from vms.operations.base import OPERATIONS, submit
from vms.schema.option import Option, options_of

VERBS = {
    "start": "qmstart", "stop": "qmstop", "shutdown": "qmshutdown", "reboot": "qmreboot", "reset": "qmreset",
    "resume": "qmresume", "discard": "qmdiscard", "destroy": "qmdestroy", "template": "qmtemplate",
    "warm": "qmwarm", "cool": "qmcool",
}  # fmt: skip
"""``qm``'s word → the operation."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The VM's number, and the operation's parameters as its declaration says them."""
    parser.add_argument("vmid", type=int, metavar="VMID", help="the VM's number")
    parser.add_argument("--json", action="store_true", help="print the task's id and end as JSON")
    add_parameters(parser, VERBS[parser.get_default("command")])


def add_parameters(parser: argparse.ArgumentParser, type_: str, *, without: Collection[str] = ()) -> None:
    """The parameters of operation ``type_`` as options, but for those ``without``."""
    for option in options_of(OPERATIONS[type_].params):
        if option.hidden or option.name in without:
            continue
        unit = f" ({option.unit})" if option.unit else ""
        text = f"{option.help or option.label}{unit}".replace("%", "%%")
        flag, dest = f"--{option.name}", _dest(option)
        if option.kind == "bool":
            parser.add_argument(flag, dest=dest, nargs="?", const="1", metavar="0|1", help=text)
        else:
            parser.add_argument(flag, dest=dest, metavar=option.kind.upper(), help=text)


def run(options: argparse.Namespace) -> int:
    """0 when the task ended well, 1 otherwise. Raises whatever :func:`submit` refuses with."""
    type_ = VERBS[options.command]
    return end(submit(type_, vm=find(options.vmid), user=None, params=given(options, type_)), options)


def end(task: Task, options: argparse.Namespace) -> int:
    """Follow the task; 0 when it ended well, 1 otherwise. With ``--json`` only how it ended is printed."""
    if not options.json:
        return follow(task)
    with open(os.devnull, "w") as nowhere:
        code = follow(task, out=nowhere, err=nowhere)
    task.refresh_from_db()
    print(json.dumps({"upid": task.upid, "status": task.status, "message": task.message}))
    if code:
        print(task.message, file=sys.stderr)
    return code


def given(options: argparse.Namespace, type_: str) -> dict[str, str]:
    """The parameters of operation ``type_`` that were given, as texts."""
    return {
        option.name: str(getattr(options, _dest(option)))
        for option in options_of(OPERATIONS[type_].params)
        if getattr(options, _dest(option), None) is not None
    }


def _dest(option: Option) -> str:
    return f"param_{option.attr}"
