"""``qm``'s commands on existing VMs: list, config, status and the power verbs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vms.cli.follow import follow
from vms.errors import NotFound
from vms.models import VM
from vms.models.configuration import config_of, with_parts
from vms.operations import OPERATIONS, submit
from vms.schema.option import Option, options_of

VERBS = {
    "start": "qmstart", "stop": "qmstop", "shutdown": "qmshutdown", "reboot": "qmreboot", "reset": "qmreset",
    "suspend": "qmpause", "resume": "qmresume", "destroy": "qmdestroy",
}  # fmt: skip
"""``qm``'s word → the operation."""


def find(vmid: int) -> VM:
    """Raises :class:`NotFound` in PVE's words."""
    vm = with_parts(VM.objects.filter(vmid=vmid)).first()
    if vm is None:
        raise NotFound(f"Configuration file for VM {vmid} does not exist (there is no such VM).")
    return vm  # type: ignore[no-any-return]


def list_vms(args: argparse.Namespace) -> int:
    """Every VM: id, name, observed status, memory, boot disk, process."""
    rows = [_row(vm) for vm in with_parts(VM.objects.all()).order_by("vmid")]
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'VMID':>10} {'NAME':<20} {'STATUS':<10} {'MEM(MB)':>10} {'BOOTDISK(GB)':>12} {'PID':<8}")
    for row in rows:
        print(
            f"{row['vmid']:>10} {row['name']:<20} {row['status']:<10} {row['mem']:>10} {row['bootdisk']:>12.2f} "
            f"{row['pid']:<8}"
        )
    return 0


def _row(vm: VM) -> dict[str, Any]:
    order = config_of(vm).get("boot", "").removeprefix("order=").split(";")
    disks = {disk.slot: disk.size or 0 for disk in vm.disks.all() if disk.media == "disk"}
    first = next((disks[slot] for slot in order if slot in disks), 0)
    return {
        "vmid": vm.vmid, "name": vm.display_name, "status": vm.status, "mem": vm.memory or 512,
        "bootdisk": first / (1 << 30), "pid": vm.launch.get("pid", 0) if vm.running else 0, "node": vm.node.name,
        "lock": vm.lock,
    }  # fmt: skip


def show_config(args: argparse.Namespace) -> int:
    """The configuration, one ``key: value`` a line."""
    mapping = config_of(find(args.vmid))
    if args.json:
        print(json.dumps(mapping, indent=1))
    else:
        print("\n".join(f"{key}: {value}" for key, value in mapping.items()))
    return 0


def show_status(args: argparse.Namespace) -> int:
    """The observed status; with ``--verbose`` also lock, process and node."""
    vm = find(args.vmid)
    row = {"status": "running" if vm.running else "stopped", "qmpstatus": vm.status}
    if args.verbose or args.json:
        row |= {key: str(value) for key, value in _row(vm).items() if key not in row}
    if args.json:
        print(json.dumps(row, indent=1))
    elif args.verbose:
        print("\n".join(f"{key}: {value}" for key, value in sorted(row.items())))
    else:
        print(f"status: {row['status']}")
    return 0


def run_verb(args: argparse.Namespace) -> int:
    """Submit the verb and follow its log to the end."""
    verb = OPERATIONS[VERBS[args.command]]
    params = {}
    for option in options_of(verb.params):
        given = getattr(args, _dest(option), None)
        if given is not None:
            params[option.name] = str(given)
    task = submit(VERBS[args.command], vm=find(args.vmid), user=None, params=params)
    if not args.json:
        return follow(task)
    with open("/dev/null", "w") as nowhere:
        code = follow(task, out=nowhere, err=nowhere)
    task.refresh_from_db()
    print(json.dumps({"upid": task.upid, "status": task.status, "message": task.message}))
    if code:
        print(task.message, file=sys.stderr)
    return code


def _dest(option: Option) -> str:
    return f"param_{option.attr}"


@dataclass(frozen=True)
class Command:
    """One subcommand: its name, its line of help, its own arguments, what it does."""

    name: str
    help: str
    run: Callable[[argparse.Namespace], int]
    configure: Callable[[argparse.ArgumentParser], None]


def _with_vmid(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("vmid", type=int, metavar="VMID", help="The VM's number.")


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    _with_vmid(parser)
    parser.add_argument("--verbose", action="store_true", help="Say everything that is known.")


def _verb_arguments(type_: str) -> Callable[[argparse.ArgumentParser], None]:
    def configure(parser: argparse.ArgumentParser) -> None:
        _with_vmid(parser)
        for option in options_of(OPERATIONS[type_].params):
            unit = f" ({option.unit})" if option.unit else ""
            flag, dest, text = f"--{option.name}", _dest(option), f"{option.help or option.label}{unit}"
            if option.kind == "bool":
                parser.add_argument(flag, dest=dest, nargs="?", const="1", metavar="0|1", help=text)
            else:
                parser.add_argument(flag, dest=dest, metavar=option.kind.upper(), help=text)

    return configure


def commands() -> list[Command]:
    """The subcommands of this module, for ``qm``'s table."""
    found = [
        Command("list", "List the VMs.", list_vms, lambda parser: None),
        Command("config", "Show a VM's configuration.", show_config, _with_vmid),
        Command("status", "Show a VM's status.", show_status, _status_arguments),
    ]
    for name, type_ in VERBS.items():
        verb = OPERATIONS[type_]
        words = (type(verb).__doc__ or verb.label).strip().splitlines()[0]
        found.append(Command(name, words, run_verb, _verb_arguments(type_)))
    return found
