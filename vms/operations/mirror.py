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
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver

from vms.config import conffile
from vms.config.seeds import section
from vms.errors import ConfigError
from vms.models import VM, Node
from vms.models.configuration import config_of, saved, with_parts

log = logging.getLogger(__name__)

MODE = 0o640


def folder(node: str) -> Path:
    """Where a node's files lie."""
    return Path(settings.CONF.home) / "nodes" / node / "qemu-server"


def place(node: str, vmid: int) -> Path:
    """The file of one VM."""
    return folder(node) / f"{vmid}.conf"


def text_of(vm: VM) -> str:
    """The VM as the file's text, pending changes included, its lock left out: that is of the moment.

    Raises :class:`ConfigError`.
    """
    main = config_of(vm)
    found = conffile.ConfFile(description=main.pop("description", ""), main=main)
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
    return conffile.format(found)


def schedule(vm: VM) -> None:
    """Write the VM's file once what is being done to it is committed."""
    transaction.on_commit(partial(refresh, vm.pk), robust=True)


def refresh(pk: int) -> None:
    """Bring one VM's file in line with its rows now. Never raises for a file that cannot be written."""
    vm = with_parts(VM.everything.filter(pk=pk, stage=VM.Stage.DEFINED)).select_related("node").first()
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
    for vm in with_parts(VM.objects.filter(node=node)):
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
