"""Why a backup cannot be made now: asked by toolbars, menus and the dialog alike."""

from __future__ import annotations

from typing import Any

from vms import access
from vms.models import VM
from vms.operations.base import OPERATIONS, holder

OFFLINE = "Node {} is offline: nothing there can be changed now."


def backup_refusal(user: Any, vm: VM) -> str:
    """Why no backup of the VM can be made now, in a sentence; empty when it can."""
    if not access.may_vm(user, "VM.Backup", vm):
        return "You may not: VM.Backup on this VM is missing."
    if not vm.node.online:
        return OFFLINE.format(vm.node.name)
    verb = OPERATIONS.get("vzdump")
    if vm.lock and (verb is None or vm.lock not in verb.accepts_locks):
        return f"The VM is locked ({vm.lock}) by {holder(vm)}."
    return ""
