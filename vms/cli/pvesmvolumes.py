"""``pvesm alloc``, ``free``, ``prune-backups`` and ``scan``: single volumes, and what a storage could be."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from vms.errors import ConfigError, NotFound

KEEP = ("all", "last", "hourly", "daily", "weekly", "monthly", "yearly")
SCANNED = ("lvm", "lvmthin", "zfs")


def add_parsers(verbs: Any) -> None:
    """Their part of ``pvesm``'s command line."""
    alloc = verbs.add_parser("alloc", help="make an empty disk image")
    alloc.add_argument("storage", metavar="STORAGE")
    alloc.add_argument("vmid", metavar="VMID", help="whose it is; the VM need not exist")
    alloc.add_argument("filename", metavar="NAME", help="vm-101-disk-3.qcow2, or '' for the next free one")
    alloc.add_argument("size", metavar="SIZE", help="4G, 512M; a bare number is KiB")
    alloc.add_argument("--format", metavar="raw|qcow2", help="what the name says, else raw")
    freeing = verbs.add_parser("free", help="remove a disk image nothing uses, an ISO image or a backup")
    freeing.add_argument("volume", metavar="VOLUME")
    pruning = verbs.add_parser("prune-backups", help="remove the backups that no rule keeps")
    pruning.add_argument("storage", metavar="STORAGE")
    pruning.add_argument("--vmid", type=int, metavar="VMID", help="only this VM's")
    pruning.add_argument("--prune-backups", default="", metavar="RULES", help="keep-last=3,keep-daily=7")
    pruning.add_argument(
        "--dry-run", nargs="?", const="1", default="0", choices=("0", "1"), metavar="0|1",
        help="say what would go, and remove nothing",
    )  # fmt: skip
    for name in KEEP:
        pruning.add_argument(f"--keep-{name}", dest=f"keep_{name}", metavar="N", help=f"keep-{name}=N")
    scan = verbs.add_parser("scan", help="what this node could use as a storage")
    scan.add_argument("what", choices=SCANNED, metavar="|".join(SCANNED))
    scan.add_argument("group", nargs="?", default="", metavar="VG", help="of lvmthin: the volume group")


def alloc(options: argparse.Namespace) -> int:
    """Make an image and follow the task, which prints its volume."""
    from vms.cli.follow import follow
    from vms.operations.base import submit_on

    words = {name: getattr(options, name) or "" for name in ("storage", "vmid", "filename", "size", "format")}
    params = {name: text for name, text in words.items() if text}
    return follow(submit_on("imgalloc", node=node(), user=None, params=params))


def free(options: argparse.Namespace) -> int:
    """Remove a volume nothing uses."""
    from vms.cli.follow import follow
    from vms.operations.volumes import find_volume, remove_iso

    return follow(remove_iso(find_volume(options.volume, node()), None, node()))


def prune(options: argparse.Namespace) -> int:
    """Prune, or say what a prune would do."""
    from vms.cli.follow import follow
    from vms.config import retention
    from vms.models import Volume
    from vms.operations.base import submit_on
    from vms.operations.prune import judged, rules_of

    words = [options.prune_backups] if options.prune_backups else []
    words += [f"keep-{name}={given}" for name in KEEP if (given := getattr(options, f"keep_{name}"))]
    from vms.cli.pvesm import storage

    rules = rules_of(storage(options.storage), ",".join(words))
    if not rules:
        raise ConfigError(retention.KEY, "is missing: say what stays, for example --keep-last 3")
    keep = retention.parse(rules)
    if options.dry_run == "1":
        rows = Volume.objects.filter(
            storage__name=options.storage, content=Volume.Content.BACKUP, present=True
        )
        if options.vmid is not None:
            rows = rows.filter(vmid=options.vmid)
        for row, decision in judged(rows.select_related("storage"), keep):
            print(f"{row.volid}  {'keep' if decision.kept else 'remove'}  {decision.why}")
        return 0
    params = {"storage": options.storage, retention.KEY: keep.format()}
    if options.vmid is not None:
        params["vmid"] = str(options.vmid)
    return follow(submit_on("prune", node=node(), user=None, params=params))


def scan(options: argparse.Namespace) -> int:
    """A line for each volume group, thin pool or data set."""
    from asgiref.sync import async_to_sync

    from vms.storage import seeing

    if options.what == "lvmthin":
        if not options.group or options.group.startswith("-"):
            raise ConfigError("vg", "is missing: name a volume group, which 'pvesm scan lvm' lists")
        lines = async_to_sync(seeing.thin_pools)(options.group)
    elif options.what == "lvm":
        found = async_to_sync(seeing.volume_groups)()
        lines = [f"{name:<20} {size:>16} {room:>16}" for name, size, room in found]
    else:
        lines = async_to_sync(seeing.data_sets)()
    for line in lines:
        print(line)
    if not lines:
        print("nothing was found", file=sys.stderr)
    return 0


def node() -> Any:
    """This node. Raises :class:`NotFound` before its first worker."""
    from vms.cli.pvesm import here

    found = here()
    if found is None:
        raise NotFound("this node has no worker yet", hint="Start pvelite first: ./up")
    return found
