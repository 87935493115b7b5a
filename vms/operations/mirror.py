"""The text file of each VM: ``<home>/nodes/<node>/qemu-server/<vmid>.conf``, as Proxmox keeps it.

The rows are the truth; the file is what a person reads when the database is down, and what ``qm importconf``
reads back. It is written after the commit, whole or not at all, and never in the way: what cannot be written
is logged, and the worker repairs it when it starts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Prefetch
from django.db.models.signals import post_delete
from django.dispatch import receiver

from vms.config import conffile
from vms.config.seeds import section
from vms.errors import ConfigError
from vms.models import VM, Node, Snapshot
from vms.models.configuration import config_of, saved, with_parts

log = logging.getLogger(__name__)

MODE = 0o640


def folder(node: str) -> Path:
    """Where a node's files lie."""
    return Path(settings.CONF.home) / "nodes" / node / "qemu-server"


def place(node: str, vmid: int) -> Path:
    """The file of one VM."""
    return folder(node) / f"{vmid}.conf"


def whole(rows: Any) -> Any:
    """A queryset of VMs whose :func:`text_of` needs no further query."""
    snapshots = Snapshot.objects.select_related("parent", "vmstate__storage")
    found = with_parts(rows).select_related("node", "parent", "vmstate__storage")
    return found.prefetch_related(Prefetch("snapshots", snapshots))


def text_of(vm: VM) -> str:
    """The VM as the file's text, pending changes and snapshots included.

    Of its locks only ``suspended`` is told: it stays as long as the saved memory does; others are of the
    moment. Raises :class:`ConfigError`.
    """
    main = config_of(vm)
    notes = main.pop("description", "")
    found = conffile.ConfFile(description=notes, main=main | kept(vm), kept=dict(vm.foreign))
    older = section(vm.seed.get("values", {}), main) if vm.seed else {}
    if older:
        found.special["cloudinit"] = older
    for key, text in vm.pending.items():
        if text is None:
            found.pending_delete.append(key)
        elif key == "description":
            found.pending_description = str(text)
        else:
            found.pending[key] = str(text)
    for snapshot in vm.snapshots.all():
        found.snapshots[snapshot.name] = conffile.Section(section_of(snapshot), snapshot.description)
    return conffile.format(found)


def kept(vm: VM) -> dict[str, str]:
    """What is known of a VM besides its configuration: where it comes from, its saved memory."""
    found = {"parent": vm.parent.name} if vm.parent else {}
    if vm.lock == "suspended":
        found["lock"] = vm.lock
        if vm.vmstate is not None:
            found |= {"vmstate": vm.vmstate.volid, **_machine(vm.saved)}
    return found


def section_of(snapshot: Snapshot) -> dict[str, str]:
    """A snapshot as its section of the file holds it (PVE's keys)."""
    found = {str(key): str(text) for key, text in snapshot.config.items()}
    found["snaptime"] = str(int(snapshot.created.timestamp()))
    if snapshot.parent is not None:
        found["parent"] = snapshot.parent.name
    if snapshot.state:
        found["snapstate"] = snapshot.state
    if snapshot.vmstate is not None:
        found |= {"vmstate": snapshot.vmstate.volid, **_machine(snapshot.running)}
    return found


def _machine(known: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(known[key]) for key in ("runningmachine", "runningcpu") if known.get(key)}


def schedule(vm: VM) -> None:
    """Write the VM's file once what is being done to it is committed."""
    transaction.on_commit(partial(refresh, vm.pk), robust=True)


def refresh(pk: int) -> None:
    """Bring one VM's file in line with its rows now. Never raises for a file that cannot be written."""
    vm = whole(VM.everything.filter(pk=pk, stage=VM.Stage.DEFINED)).first()
    if vm is None:
        return
    try:
        write(place(vm.node.name, vm.vmid), text_of(vm))
    except (OSError, ConfigError) as error:
        log.error("the configuration file of VM %s was not written: %s", vm.vmid, error)


def write(path: Path, text: str) -> bool:
    """Make ``text`` the whole file, atomically; answers whether it was another. Raises ``OSError``."""
    content = text.encode()
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return False
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), MODE)
            file.write(content)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return True


def remove(node: str, vmid: int) -> None:
    """The VM is gone; so is its file."""
    try:
        place(node, vmid).unlink(missing_ok=True)
    except OSError as error:
        log.error("the configuration file of VM %s was not removed: %s", vmid, error)


def repair(node: Node) -> int:
    """Write every file of a node that differs, remove those of no VM; answers how many were wrong."""
    wrong = 0
    known = set()
    for vm in whole(VM.objects.filter(node=node)):
        known.add(vm.vmid)
        try:
            wrong += write(place(node.name, vm.vmid), text_of(vm))
        except (OSError, ConfigError) as error:
            log.error("the configuration file of VM %s was not written: %s", vm.vmid, error)
    for path in folder(node.name).glob("*.conf"):
        if re.fullmatch(r"[1-9][0-9]{2,8}", path.stem) and int(path.stem) not in known:
            remove(node.name, int(path.stem))
            wrong += 1
    return wrong


@receiver(saved)
def _saved(sender: Any, vm: VM, **_: Any) -> None:
    if vm.stage == VM.Stage.DEFINED:
        schedule(vm)


@receiver(post_delete, sender=VM)
def _deleted(sender: Any, instance: VM, **_: Any) -> None:
    if instance.stage == VM.Stage.DEFINED:
        transaction.on_commit(partial(remove, instance.node.name, instance.vmid), robust=True)
