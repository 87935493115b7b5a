"""``qmrestore ARCHIVE VMID`` (also ``qm restore``), and ``qm verifybackup``."""

from __future__ import annotations

import argparse
from pathlib import Path

from django.conf import settings

from vms.cli import verb
from vms.cli.importconf import node_of
from vms.errors import NotFound
from vms.models import Storage
from vms.operations.base import submit_on
from vms.operations.restore import restore

ARCHIVE = "the backup: its volume (STORAGE:backup/NAME), or the path of its file in a storage's folder 'dump'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The backup, the VM's number, and Proxmox's options."""
    parser.add_argument("archive", metavar="ARCHIVE", help=ARCHIVE)
    if parser.get_default("command") == "restore":
        parser.add_argument("vmid", type=int, metavar="VMID", help="the number of the VM that comes of it")
        verb.add_parameters(parser, "qmrestore")
    else:
        verb.add_parameters(parser, "verifybackup", without=("volume",))
    parser.add_argument("--json", action="store_true", help="print the task's id and end as JSON")


def run(options: argparse.Namespace) -> int:
    """0 when the VM is there, or the backup is good; 1 otherwise."""
    node, archive = node_of(None), volume_of(options.archive)
    if options.command == "restore":
        params = verb.given(options, "qmrestore")
        return verb.end(restore(archive, None, node=node, vmid=options.vmid, params=params), options)
    given = verb.given(options, "verifybackup") | {"volume": archive}
    return verb.end(submit_on("verifybackup", node=node, user=None, params=given), options)


def volume_of(archive: str) -> str:
    """The volume a path is; a volume as it is. Raises :class:`NotFound` for a file on no storage of ours."""
    if "/" not in archive.partition(":")[0]:
        return archive
    path = Path(archive).resolve()
    for storage in Storage.objects.exclude(path=""):
        if path.parent == (Path(storage.path) / "dump").resolve():
            return f"{storage.name}:backup/{path.name}"
    raise NotFound(
        f"'{archive}' lies on no storage of this node. Put it into the folder 'dump' of one that takes "
        f"backups, below {settings.CONF.home} for example, and rescan it."
    )
