"""``qm cloudinit dump``, ``pending`` and ``update``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

from vms.cli.follow import follow
from vms.cli.show import find
from vms.config.secrets import MASK, SECRETS, masked
from vms.config.seeds import SHOWN, Change, Role, drive_of, sources
from vms.config.vmconfig import VMConfig
from vms.errors import StateError
from vms.models.configuration import config_of
from vms.operations import cloudinit
from vms.operations.base import submit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, the VM's number, and for ``dump`` which document."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="dump|pending|update")
    for name, text in (
        ("dump", "show a document the cloud-init drive would get now, without the password"),
        ("pending", "show what of the settings the VM's image does not know"),
        ("update", "write the image now; a running guest sees its medium change"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("vmid", type=int, metavar="VMID", help="the VM's number")
        if name == "dump":
            action.add_argument("type", choices=SHOWN, metavar="|".join(SHOWN), help="which document")
        if name == "pending":
            action.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """0 when it went well. Raises :class:`StateError` for a VM without a cloud-init drive."""
    vm = find(options.vmid)
    if options.action == "update":
        return follow(submit("qmcloudinit", vm=vm, user=None))
    mapping = config_of(vm)
    if not drive_of(VMConfig.parse(mapping)):
        raise StateError(cloudinit.NO_DRIVE.format(vm.vmid))
    if options.action == "dump":
        role: Role = options.type
        print(cloudinit.document(vm, mapping, role), end="")
        return 0
    found = cloudinit.changes(vm, mapping)
    print(json.dumps(rows(mapping, found), indent=1) if options.json else text(mapping, found))
    return 0


def rows(mapping: Mapping[str, str], changes: list[Change]) -> list[dict[str, object]]:
    """Every key as Proxmox's ``…/cloudinit`` answers it: ``value`` is what the image has, ``pending`` what is
    set, ``delete`` 1 for what is not set any more."""
    waiting = {change.key: change for change in changes}
    found: list[dict[str, object]] = []
    for key, now in masked(sources(mapping)).items():
        if key in waiting:
            before = waiting[key].before
            row: dict[str, object] = {"key": key, "pending": now}
            found.append(row if before is None else {**row, "value": MASK if key in SECRETS else before})
        else:
            found.append({"key": key, "value": now})
    gone = [change for change in changes if change.now is None]
    found += [
        {"key": one.key, "value": MASK if one.key in SECRETS else one.before, "delete": 1} for one in gone
    ]
    return sorted(found, key=lambda row: str(row["key"]))


def text(mapping: Mapping[str, str], changes: list[Change]) -> str:
    """The same as lines: ``cur``, ``new`` and ``del`` as ``qm pending`` writes them."""
    lines = []
    for row in rows(mapping, changes):
        if "value" in row:
            lines.append(f"{'del' if 'delete' in row else 'cur'} {row['key']}: {row['value']}")
        if "pending" in row:
            lines.append(f"new {row['key']}: {row['pending']}")
    return "\n".join(lines)
