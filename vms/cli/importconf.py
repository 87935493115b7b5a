"""``qm importconf FILE``: a VM from a configuration file, after saying what would come of it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from django.conf import settings

from vms.cli.follow import follow
from vms.config.importing import LIMIT, decode
from vms.errors import ConfigError, NotFound
from vms.models import Node
from vms.operations.importing import MISSING, Options, Plan, carry_out, plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("file", metavar="FILE", help="the configuration; '-' is standard input")
    parser.add_argument("--vmid", type=int, metavar="VMID", help="its number here (default: the file's own)")
    parser.add_argument(
        "--storage-map", action="append", default=[], metavar="A=B", help="their storage A is our storage B"
    )
    parser.add_argument(
        "--missing", choices=list(MISSING), default="refuse", help="what becomes of drives without a volume"
    )
    parser.add_argument(
        "--drive",
        action="append",
        default=[],
        metavar="KEY=CHOICE",
        help="the same for one drive: scsi1=empty",
    )
    parser.add_argument("--unique", action="store_true", help="give it new MAC addresses and UUIDs")
    parser.add_argument("--node", metavar="NAME", help="the node it is for (default: this one)")
    parser.add_argument("--dry-run", action="store_true", help="say what would come of it, create nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """0 when the VM is there (or, with ``--dry-run``, could be); 1 when something stands against it."""
    found = plan(
        text_of(options.file), node=node_of(options.node), user=None,
        options=Options(
            vmid=options.vmid, storages=pairs(options.storage_map, "storage-map"), unique=options.unique,
            missing=pairs(options.drive, "drive"), otherwise=options.missing, name=options.file,
        ),
    )  # fmt: skip
    code = 0 if found.ready else 1
    told: dict[str, Any] = report(found)
    if not options.json:
        show(found, options.file)
    if found.ready and not options.dry_run:
        vm, task = carry_out(found, None)
        if task is not None:
            told["upid"] = task.upid
            code = follow(task, out=sys.stderr if options.json else sys.stdout)
        told["created"] = code == 0
        if not options.json:
            print(f"VM {vm.vmid} is defined" if code == 0 else f"VM {vm.vmid} is a draft; see its task")
    if options.json:
        print(json.dumps(told, indent=1))
    return code


def text_of(file: str) -> str:
    """The file's text. Raises :class:`ConfigError`."""
    try:
        if file == "-":
            return decode(sys.stdin.buffer.read(LIMIT + 1))
        with Path(file).open("rb") as source:
            return decode(source.read(LIMIT + 1))
    except OSError as error:
        raise ConfigError("file", f"cannot be read: {error.strerror}") from None


def pairs(words: list[str], what: str) -> dict[str, str]:
    """``a=b`` words as a mapping. Raises :class:`ConfigError`."""
    found = {}
    for word in words:
        left, equals, right = word.partition("=")
        if not (left and equals and right):
            raise ConfigError(what, f"'{word[:60]}' is not of the form A=B")
        found[left] = right
    return found


def node_of(name: str | None) -> Node:
    """The node with that name, or this one. Raises :class:`NotFound`."""
    node = Node.objects.filter(name=name or settings.CONF.node).first()
    if node is None:
        raise NotFound(f"There is no node '{name or settings.CONF.node}'.")
    return node


def show(found: Plan, file: str) -> None:
    """What there is to say, line by line, on standard error; the resulting configuration on output."""
    words = {"block": "error", "warn": "warning", "info": "note"}
    for note in found.notes:
        where = f"{file}:{note.line}" if note.line else file
        print(f"{where}: {words[note.severity]}: {note.text}", file=sys.stderr)
    print(found.text, end="")


def report(found: Plan) -> dict[str, Any]:
    """The plan for a program."""
    return {
        "vmid": found.vmid, "node": found.node.name, "ready": found.ready, "config": found.text,
        "creates": list(found.creates), "storages": found.storages,
        "notes": [vars(note) for note in found.notes], "drives": [vars(drive) for drive in found.drives],
    }  # fmt: skip
