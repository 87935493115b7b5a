"""Taking away a lock that nothing holds any more: an operator's last resort (PVE's ``qm unlock``)."""

from __future__ import annotations

from typing import Any

from vms.errors import AccessError, StateError
from vms.models import VM, AuditEntry, Task
from vms.operations.base import told
from vms.tasks import notify
from vms.tasks.queue import UNFINISHED


def unlock(vm: VM, user: Any) -> str:
    """Remove the VM's lock and answer which it was. Superusers only; ``user`` None is the system.

    Raises :class:`StateError` when there is none, when a task that is not over holds it, and for a hibernated
    VM, whose saved memory would be orphaned.
    """
    if user is not None and not (user.is_active and user.is_superuser):
        raise AccessError(f"Permission check failed ({vm.path}): only an operator may unlock a VM.")
    if not vm.lock:
        raise StateError(f"VM {vm.vmid} is not locked.")
    task = Task.objects.filter(vm=vm, lock=vm.lock, status__in=UNFINISHED).first()
    if task is not None:
        raise StateError(f"The lock is held by {told(task)}.", hint="Wait for it, or cancel that task.")
    if vm.lock == "suspended" and vm.vmstate_id is not None:
        raise StateError(
            f"VM {vm.vmid} is hibernated; its lock guards its saved memory.",
            hint="Resume it, or discard the saved memory.",
        )
    VM.everything.filter(pk=vm.pk, lock=vm.lock).update(lock="")
    username = user.get_username() if user is not None else "system"
    AuditEntry.objects.create(username=username, action="unlock", target=f"VM {vm.vmid}: {vm.lock}")
    notify.changed(f"vm-{vm.vmid}", "tree")
    return vm.lock
