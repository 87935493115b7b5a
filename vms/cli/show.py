"""``qm list``, ``qm config`` and ``qm status``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from vms.config.conffile import encoded, with_kept
from vms.config.secrets import masked
from vms.errors import NotFound
from vms.models import VM
from vms.models.configuration import config_of, with_parts
from vms.operations import mirror
from vms.operations.configure import effective


def find(vmid: int) -> VM:
    """Raises :class:`NotFound` in PVE's words."""
    vm = with_parts(VM.objects.filter(vmid=vmid)).first()
    if vm is None and VM.everything.filter(vmid=vmid, stage=VM.Stage.TRASH).exists():
        raise NotFound(f"VM {vmid} is in the trash.", hint=f"Bring it back with: qm trash restore {vmid}")
    if vm is None:
        raise NotFound(f"Configuration file for VM {vmid} does not exist (there is no such VM).")
    return vm  # type: ignore[no-any-return]


def list_vms(options: argparse.Namespace) -> int:
    """Every VM: id, name, observed status, memory, boot disk, process."""
    rows = [_row(vm) for vm in with_parts(VM.objects.all()).order_by("vmid")]
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    line = "{vmid:>10} {name:<20} {status:<10} {mem:>10} {bootdisk:>12} {pid:<8}"
    heads = {"vmid": "VMID", "name": "NAME", "status": "STATUS", "mem": "MEM(MB)", "pid": "PID"}
    print(line.format(bootdisk="BOOTDISK(GB)", **heads))
    for row in rows:
        print(line.format(**{**row, "bootdisk": f"{row['bootdisk']:.2f}"}))
    return 0


def _row(vm: VM) -> dict[str, Any]:
    order = config_of(vm).get("boot", "").removeprefix("order=").split(";")
    disks = {disk.slot: disk.size or 0 for disk in vm.disks.all() if disk.media == "disk"}
    first = next((disks[slot] for slot in order if slot in disks), 0)
    return {
        "vmid": vm.vmid, "name": vm.display_name, "status": vm.status, "mem": vm.memory or 512,
        "bootdisk": first / (1 << 30), "pid": vm.launch.get("pid", 0) if vm.running else 0,
        "node": vm.node.name, "lock": vm.lock,
    }  # fmt: skip


def show_config(options: argparse.Namespace) -> int:
    """The configuration the next start uses, one ``key: value`` a line; with ``--current`` what the VM has
    now, with ``--snapshot`` what it had then. Lock, parent and saved memory stand beside it, as in PVE."""
    vm = find(options.vmid)
    if options.snapshot:
        snapshot = vm.snapshots.filter(name=options.snapshot).first()
        if snapshot is None:
            raise NotFound(f"snapshot '{options.snapshot}' does not exist")
        mapping = masked({key: str(text) for key, text in snapshot.config.items()})
    else:
        state = mirror.kept(vm) | ({"lock": vm.lock} if vm.lock else {})
        mapping = with_kept(masked(config_of(vm) if options.current else effective(vm)), vm.foreign) | state
    if options.json:
        print(json.dumps(mapping, indent=1))
    else:
        print("\n".join(printed(key, mapping[key]) for key in sorted(mapping)))
    return 0


def printed(key: str, text: str) -> str:
    """One line of a configuration; notes are encoded, so that they are one."""
    if key == "description":
        text = "%0A".join(encoded(line) for line in text.split("\n"))
    return f"{key}: {text}"


def show_status(options: argparse.Namespace) -> int:
    """The observed status; with ``--verbose`` also lock, process and node."""
    vm = find(options.vmid)
    row = {"status": "running" if vm.running else "stopped", "qmpstatus": vm.status}
    if options.verbose or options.json:
        row |= {key: str(value) for key, value in _row(vm).items() if key not in row}
    if options.json:
        print(json.dumps(row, indent=1))
    elif options.verbose:
        print("\n".join(f"{key}: {value}" for key, value in sorted(row.items())))
    else:
        print(f"status: {row['status']}")
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command the parser is for."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    if parser.get_default("command") != "list":
        parser.add_argument("vmid", type=int, metavar="VMID", help="the VM's number")
    if parser.get_default("command") == "config":
        parser.add_argument(
            "--current", action="store_true", help="what the VM has now, not what waits for its next start"
        )
        parser.add_argument("--snapshot", metavar="NAME", help="what it had in that snapshot")
    if parser.get_default("command") == "status":
        parser.add_argument("--verbose", action="store_true", help="say everything that is known")


def run(options: argparse.Namespace) -> int:
    """Raises :class:`NotFound` when there is no such VM."""
    commands = {"list": list_vms, "config": show_config, "status": show_status}
    return commands[options.command](options)
