"""``qm disk import|move|resize|rescan|unlink``, and the older words for each."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from vms.cli import verb
from vms.cli.follow import follow
from vms.cli.show import find
from vms.models import VM
from vms.operations.base import submit
from vms.operations.configure import change

ALIASES = {
    "importdisk": "import", "move-disk": "move", "move_disk": "move", "resize": "resize", "rescan": "rescan",
    "unlink": "unlink",
}  # fmt: skip
"""An older command → the action it stands for."""
SUMMARIES = {
    "import": "make a disk of an image, a library's or a file of this machine",
    "move": "move a disk to another storage, another format or another VM",
    "resize": "let a disk grow",
    "rescan": "correct the sizes of disks; add volumes that no drive holds as unused disks",
    "unlink": "detach disks, or delete unused ones; with --force delete their volumes",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An action with its arguments; an older command is the action itself."""
    name = parser.get_default("command")
    if name in ALIASES:
        parser.set_defaults(action=ALIASES[name])
        _add(parser, ALIASES[name])
        return
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, summary in SUMMARIES.items():
        _add(actions.add_parser(action, help=summary, description=summary), action)


def _add(parser: argparse.ArgumentParser, action: str) -> None:
    """The arguments of one action, in Proxmox's order."""
    parser.add_argument("--json", action="store_true", help="print the task's id and end as JSON")
    if action == "rescan":
        parser.add_argument("--vmid", type=int, metavar="VMID", help="only this VM")
        verb.add_parameters(parser, "rescan")
        return
    parser.add_argument("vmid", type=int, metavar="VMID", help="the VM's number")
    if action == "import":
        parser.add_argument(
            "source", metavar="SOURCE", help="an image (local:import/x.qcow2) or a file's path"
        )
        parser.add_argument("storage", metavar="STORAGE", help="where the new disk lies")
        verb.add_parameters(parser, "importdisk", without=("source", "storage"))
    elif action == "move":
        parser.add_argument("disk", metavar="DISK", help="the disk's key, such as scsi0")
        parser.add_argument("storage", metavar="STORAGE", nargs="?", help="the storage to move it to")
        verb.add_parameters(parser, "qmmove", without=("disk", "storage"))
    elif action == "resize":
        parser.add_argument("disk", metavar="DISK", help="the disk's key, such as scsi0")
        parser.add_argument("size", metavar="SIZE", help="40G for so much in all, +8G for so much more")
    else:
        parser.add_argument("--idlist", required=True, metavar="KEYS", help="the disks, parted by commas")
        parser.add_argument(
            "--force", nargs="?", const="1", metavar="0|1", help="delete the volumes for good"
        )
    if action in ("move", "resize"):
        parser.add_argument("--digest", metavar="STRING", help="refuse when the configuration is another one")
    if action == "move":
        parser.add_argument("--target-digest", metavar="STRING", help="the same for the other VM's")


def run(options: argparse.Namespace) -> int:
    """0 when the task ended well, 1 otherwise. Raises whatever :func:`submit` refuses with."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "import": import_disk, "move": move, "resize": resize, "rescan": rescan, "unlink": unlink,
    }  # fmt: skip
    return actions[options.action](options)


def import_disk(options: argparse.Namespace) -> int:
    """A path is made absolute and plain: the worker opens no symbolic link."""
    source = options.source
    if os.path.exists(source) or source.startswith(("/", "./", "../")):
        source = os.path.realpath(source)
    params = {"source": source, "storage": options.storage, **verb.given(options, "importdisk")}
    return _do(options, "importdisk", params)


def move(options: argparse.Namespace) -> int:
    params = {"disk": options.disk, **verb.given(options, "qmmove")}
    words = {"storage": options.storage, "digest": options.digest, "target-digest": options.target_digest}
    return _do(options, "qmmove", params | {key: text for key, text in words.items() if text})


def resize(options: argparse.Namespace) -> int:
    params = {"disk": options.disk, "size": options.size}
    return _do(options, "resize", params | ({"digest": options.digest} if options.digest else {}))


def _do(options: argparse.Namespace, type_: str, params: dict[str, str]) -> int:
    return verb.end(submit(type_, vm=find(options.vmid), user=None, params=params), options)


def rescan(options: argparse.Namespace) -> int:
    """One VM after the other; 1 when one of them failed."""
    every = VM.objects.filter(template=False).order_by("vmid")
    vms = [find(options.vmid)] if options.vmid else list(every)
    failed = 0
    for vm in vms:
        task = submit("rescan", vm=vm, user=None, params=verb.given(options, "rescan"))
        if not options.json and len(vms) > 1:
            print(f"VM {vm.vmid}:")
        failed |= verb.end(task, options) if options.json else follow(task)
    return failed


def unlink(options: argparse.Namespace) -> int:
    """A change of the configuration, as the pages make it."""
    keys = [key for key in options.idlist.replace(";", ",").split(",") if key]
    force = options.force in ("1", "on", "yes", "true")
    return verb.end(change(find(options.vmid), None, delete=keys, force=force), options)
