"""``qm set`` and ``qm pending``: change a VM, and see what waits for its next start."""

from __future__ import annotations

import argparse
import getpass
import json
import os

from vms.cli.follow import follow
from vms.cli.show import find, printed
from vms.cli.words import add_options, given, keys
from vms.errors import ConfigError
from vms.operations.configure import Row, change, pending_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The VM's number, and for ``set`` everything that may be set."""
    parser.add_argument("vmid", type=int, metavar="VMID", help="the VM's number")
    parser.add_argument("--json", action="store_true", help="print JSON")
    if parser.get_default("command") == "pending":
        return
    parser.add_argument("--delete", metavar="KEYS", help="options to remove, separated by commas")
    parser.add_argument("--revert", metavar="KEYS", help="options that shall not wait for the next start")
    parser.add_argument("--digest", metavar="SHA1", default="", help="refuse if it has changed since")
    parser.add_argument(
        "--force", nargs="?", const="1", default="0", metavar="0|1",
        help="delete the volumes of removed drives for good instead of keeping them as unused disks",
    )  # fmt: skip
    add_options(parser)


def run(options: argparse.Namespace) -> int:
    """0 when the change was made or waits; 1 when its task failed. Raises whatever refuses it."""
    if options.command == "pending":
        return show(options)
    wish = given(options)
    delete, revert = keys(options.delete), keys(options.revert)
    if not (wish or delete or revert):
        raise ConfigError("qm set", "nothing to change; name an option, --delete or --revert")
    task = change(
        find(options.vmid), None, set=wish, delete=delete, revert=revert, digest=options.digest,
        force=options.force in ("1", "on", "yes", "true"), by=f"{getpass.getuser()} (qm)",
    )  # fmt: skip
    if not options.json:
        return follow(task)
    with open(os.devnull, "w") as nowhere:
        code = follow(task, out=nowhere, err=nowhere)
    task.refresh_from_db()
    print(json.dumps({"upid": task.upid, "status": task.status, "message": task.message}))
    return code


def show(options: argparse.Namespace) -> int:
    """Every option: what the VM has (``cur``), gets (``new``) and loses (``del``) at its next start."""
    rows = pending_rows(find(options.vmid))
    if options.json:
        print(json.dumps([vars(row) for row in rows], indent=1))
    else:
        print("\n".join(line for row in rows for line in lines(row)))
    return 0


def lines(row: Row) -> list[str]:
    """A row as Proxmox prints it."""
    found = []
    if row.current is not None:
        found.append(f"{'del' if row.delete else 'cur'} {printed(row.key, row.current)}")
    if row.pending is not None:
        found.append(f"new {printed(row.key, row.pending)}")
    return found
