"""``qm create``: a VM in one go, from the options of a machine."""

from __future__ import annotations

import argparse
import getpass
import json
import sys

from django.conf import settings

from vms.cli.follow import follow
from vms.cli.words import add_options, given
from vms.errors import ConfigError, ConfigErrors, NotFound, VMError
from vms.models import VM, Node, Pool, Task
from vms.models.configuration import save_config
from vms.operations.drafts import discard_draft, finish_draft, new_draft
from vms.operations.protection import note_owner
from vms.operations.resulting import blocked
from vms.operations.wish import canonical_value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The VM's number, where it belongs, and everything that may be set."""
    parser.add_argument("vmid", type=int, metavar="VMID", help="the VM's number")
    parser.add_argument("--json", action="store_true", help="print the task's id and end as JSON")
    parser.add_argument("--pool", metavar="NAME", help="the pool it joins")
    parser.add_argument(
        "--storage", metavar="NAME", default="local", help="where a disk is made whose value is only a size"
    )
    parser.add_argument(
        "--start", nargs="?", const="1", default="0", metavar="0|1", help="start it once it is there"
    )
    add_options(parser)


def run(options: argparse.Namespace) -> int:
    """0 when the VM is there, 1 when its task failed; then nothing of it is left. Raises what is wrong."""
    task = ask(options)
    code = follow(task, out=sys.stderr if options.json else sys.stdout)
    task.refresh_from_db()
    draft = VM.everything.filter(vmid=options.vmid, stage=VM.Stage.DRAFT).first()
    if code and draft is not None:
        discard_draft(draft, None)
    if options.json:
        print(json.dumps({"upid": task.upid, "status": task.status, "message": task.message}))
    return code


def ask(options: argparse.Namespace) -> Task:
    """The task that creates the VM. Raises :class:`ConfigErrors`; no draft is left then."""
    node = Node.objects.filter(name=settings.CONF.node).first()
    if node is None:
        raise NotFound(f"There is no node '{settings.CONF.node}'.")
    pool = Pool.objects.filter(name=options.pool).first() if options.pool else None
    if options.pool and pool is None:
        raise NotFound(f"There is no pool '{options.pool}'.")
    mapping = canonical(given(options, options.storage))
    draft = new_draft(None, node, vmid=options.vmid, pool=pool, name=mapping.get("name", ""))
    try:
        save_config(draft, mapping)
        note_owner(draft, f"{getpass.getuser()} (qm)")
        refused = blocked(draft, {}, mapping)
        if refused:
            raise ConfigErrors(refused)
        return finish_draft(draft, None, start=options.start in ("1", "on", "yes", "true"))
    except VMError:
        discard_draft(draft, None)
        raise


def canonical(wanted: dict[str, str]) -> dict[str, str]:
    """Each text as it is stored. Raises :class:`ConfigErrors`, one error per key."""
    found, errors = dict[str, str](), list[ConfigError]()
    for key, text in wanted.items():
        try:
            found[key] = canonical_value(key, text)
        except ConfigErrors as wrong:
            errors += wrong
        except ConfigError as error:
            errors.append(error)
    if errors:
        raise ConfigErrors(errors)
    return found
