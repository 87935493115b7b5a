"""``pvesm``: the storages from a terminal, by Proxmox VE's names."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from vms.cli import pvesmvolumes
from vms.errors import ConfigError, NotFound, VMError
from vms.schema.option import options_of
from vms.storage.kinds import KINDS

if TYPE_CHECKING:
    from vms.models import Node, Storage


def parser() -> argparse.ArgumentParser:
    """All of the command line."""
    made = argparse.ArgumentParser(prog="pvesm", description="The storages of this installation.")
    verbs = made.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    status = verbs.add_parser("status", help="how full each storage is, as this node sees it")
    status.add_argument("--content", help="only storages that take this")
    status.add_argument("--storage", metavar="STORAGE", help="only this one")
    status.add_argument(
        "--enabled", nargs="?", const="1", default="0", choices=("0", "1"), metavar="0|1",
        help="only storages that are switched on",
    )  # fmt: skip
    status.add_argument("--json", action="store_true", help="print JSON")
    listing = verbs.add_parser("list", help="the volumes on a storage")
    listing.add_argument("storage", metavar="STORAGE")
    listing.add_argument("--content", help="only these, such as images")
    listing.add_argument("--vmid", type=int, help="only that VM's")
    adding = verbs.add_parser("add", help="define a storage; it is tried first")
    adding.add_argument("type", metavar="TYPE", help=", ".join(KINDS))
    adding.add_argument("storage", metavar="STORAGE")
    setting = verbs.add_parser("set", help="change a storage")
    setting.add_argument("storage", metavar="STORAGE")
    setting.add_argument("--delete", default="", help="options to be forgotten, with commas between")
    for verb in (adding, setting):
        add_options(verb)
    removing = verbs.add_parser("remove", help="forget a storage; what lies there stays")
    removing.add_argument("storage", metavar="STORAGE")
    pvesmvolumes.add_parsers(verbs)
    path = verbs.add_parser("path", help="where a volume is on this node")
    path.add_argument("volume", metavar="VOLUME")
    extract = verbs.add_parser("extractconfig", help="print the configuration in a backup")
    extract.add_argument("volume", metavar="VOLUME")
    return made


def add_options(verb: argparse.ArgumentParser) -> None:
    """The options of every kind, and those all have."""
    told: dict[str, str] = {}
    for kind in KINDS.values():
        for option in options_of(kind.options):
            told.setdefault(option.name, f"{option.help} ({kind.name})")
    for name, text in told.items():
        verb.add_argument(f"--{name}", dest=f"opt_{name}", help=text.replace("%", "%%"))
    verb.add_argument("--content", help="what may lie there, with commas between")
    verb.add_argument("--shared", choices=("0", "1"), help="whether every node sees the same volumes")
    verb.add_argument("--disable", choices=("0", "1"), help="offer it nowhere")
    verb.add_argument("--force", action="store_true", help="although it cannot be used now")


def given(options: argparse.Namespace) -> dict[str, str]:
    """The options of a kind that were given."""
    found = vars(options).items()
    return {key[4:]: text for key, text in found if key.startswith("opt_") and text is not None}


def status(options: argparse.Namespace) -> int:
    """A line for each storage, sizes in KiB as PVE prints them."""
    from django.conf import settings

    from vms.models import Storage, StorageStatus
    from vms.models.promised import promised

    seen = {row.storage_id: row for row in StorageStatus.objects.filter(node__name=settings.CONF.node)}
    sums = promised(here())
    rows = []
    for row in [storage(options.storage)] if options.storage else Storage.objects.all():
        found = seen.get(row.pk)
        if (options.content and options.content not in row.content) or (
            options.enabled == "1" and not row.enabled
        ):
            continue
        state = "disabled" if not row.enabled else "inactive" if not found or found.error else "active"
        rows.append({
            "storage": row.name, "type": row.kind, "status": state, "total": found.total if found else 0,
            "used": found.used if found else 0, "available": found.available if found else 0,
            "promised": sums.get(row.pk, 0), "error": found.error if found else "",
        })  # fmt: skip
    if options.json:
        print(json.dumps(rows))
        return 0
    line = "{:<20} {:<8} {:<9} {:>14} {:>14} {:>14} {:>8}"
    print(line.format("Name", "Type", "Status", "Total (KiB)", "Used (KiB)", "Available", "%"))
    for one in rows:
        total, used, free = (int(str(one[key])) for key in ("total", "used", "available"))
        share = f"{100 * used / total:.2f}%" if total else "N/A"
        print(line.format(
            str(one["storage"]), str(one["type"]), str(one["status"]), total >> 10, used >> 10, free >> 10,
            share,
        ))  # fmt: skip
    return 0


def listed(options: argparse.Namespace) -> int:
    """A line for each volume."""
    from vms.models import Volume

    rows = Volume.objects.filter(storage=storage(options.storage), present=True).select_related("storage")
    if options.content:
        rows = rows.filter(content=options.content)
    if options.vmid is not None:
        rows = rows.filter(vmid=options.vmid)
    rows = rows.order_by("name")
    width = max([len(row.volid) for row in rows] + [5])
    print(f"{'Volid'.ljust(width)} {'Format':<8} {'Type':<9} {'Size':>16} VMID")
    for row in rows:
        words = [row.volid.ljust(width), f"{row.format:<8}", f"{row.content:<9}", f"{row.size:>16}"]
        print(" ".join([*words, str(row.vmid or "")]).rstrip())
    return 0


def add(options: argparse.Namespace) -> int:
    """Define one."""
    from vms.operations import storages

    kind = storages.kind_named(options.type)
    content = tuple(options.content.split(",")) if options.content else kind.contents
    shared = kind.shared if options.shared is None else options.shared == "1"
    wish = storages.Wish(
        name=options.storage, kind=kind.name, options=given(options), content=content, shared=shared,
        enabled=options.disable != "1",
    )  # fmt: skip
    storages.add(None, wish, force=options.force)
    return 0


def change(options: argparse.Namespace) -> int:
    """Change one."""
    from dataclasses import replace

    from vms.operations import storages

    row = storage(options.storage)
    gone = {name for name in options.delete.split(",") if name}
    known = {option.name for option in options_of(row.spec.options)}
    for name in sorted(gone - known):
        raise ConfigError("delete", f"'{name}' is no option of a storage of kind '{row.kind}'")
    wish = storages.wish_of(row, given(options), gone)
    if options.content:
        wish = replace(wish, content=tuple(options.content.split(",")))
    if options.shared is not None:
        wish = replace(wish, shared=options.shared == "1")
    if options.disable is not None:
        wish = replace(wish, enabled=options.disable != "1")
    storages.change(None, row, wish, force=options.force)
    return 0


def remove(options: argparse.Namespace) -> int:
    """Forget one."""
    from vms.operations import storages

    storages.remove(None, storage(options.storage))
    return 0


def path(options: argparse.Namespace) -> int:
    """Where a volume is."""
    from vms.storage import open_storage

    row = storage(options.volume.partition(":")[0])
    print(open_storage(row.name, row.facts()).path(options.volume))
    return 0


def extractconfig(options: argparse.Namespace) -> int:
    """The configuration in a backup, secrets as asterisks."""
    from vms.operations.archivehead import head_of, shown
    from vms.operations.archives import find_backup

    node = pvesmvolumes.node()
    print(shown(head_of(find_backup(options.volume, node), node)[1]), end="")
    return 0


def here() -> Node | None:
    """This node."""
    from django.conf import settings

    from vms.models import Node

    return Node.objects.filter(name=settings.CONF.node).first()


def storage(name: str) -> Storage:
    """The storage of that name. Raises :class:`NotFound`."""
    from vms.models import Storage

    found = Storage.objects.filter(name=name).first()
    if found is None:
        raise NotFound(f"storage '{name}' does not exist")
    return found


VERBS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "status": status, "list": listed, "add": add, "set": change, "remove": remove, "path": path,
    "extractconfig": extractconfig, "alloc": pvesmvolumes.alloc, "free": pvesmvolumes.free,
    "prune-backups": pvesmvolumes.prune, "scan": pvesmvolumes.scan,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Answers its exit code; 2 for a wrong call, 1 for a refused one."""
    from vms.cli.qm import open_installation

    options = parser().parse_args(argv)
    try:
        open_installation()
        import vms.operations  # noqa: F401

        return VERBS[options.verb](options)
    except VMError as error:
        print(f"pvesm {options.verb}: {error}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
