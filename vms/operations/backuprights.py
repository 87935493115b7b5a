"""Who may do what with a backup that is there.

As in PVE a backup is looked at, changed and removed by who holds ``Datastore.Allocate`` on its storage, or
room there (``Datastore.AllocateSpace``) together with ``VM.Backup`` on its VM, whether that still exists or
not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vms import access
from vms.errors import AccessError
from vms.models import VM, Volume
from vms.storage.names import backup_begun

PRIVILEGE = "VM.Backup"


def pools_of(vmids: Iterable[int]) -> dict[int, str]:
    """VM ID → its pool's name, for those that exist and are in one."""
    rows = VM.everything.filter(vmid__in=set(vmids), pool__isnull=False)
    return dict(rows.values_list("vmid", "pool__name"))


def may_handle(user: Any, storage: str, vmid: int | None, pool: str = "") -> bool:
    """Whether ``user`` may look at and change a backup of VM ``vmid`` on ``storage``. No query of its own."""
    rights = access.privileges(user, f"/storage/{storage}")
    if "Datastore.Allocate" in rights:
        return True
    return (
        vmid is not None
        and "Datastore.AllocateSpace" in rights
        and access.may(user, PRIVILEGE, f"/vms/{vmid}", pool=pool)
    )


def require_handling(user: Any, storage: str, vmid: int | None) -> None:
    """Raise :class:`AccessError` unless :func:`may_handle`."""
    pool = pools_of([vmid]).get(vmid, "") if vmid is not None else ""
    if not may_handle(user, storage, vmid, pool):
        also = f" or Datastore.AllocateSpace and (/vms/{vmid}, {PRIVILEGE})" if vmid is not None else ""
        raise AccessError(f"Permission check failed (/storage/{storage}, Datastore.Allocate{also})")


def handled(user: Any, rows: Iterable[Volume]) -> list[Volume]:
    """Those of the backups ``user`` may look at."""
    rows = list(rows)
    pools = pools_of(row.vmid for row in rows if row.vmid is not None)
    return [row for row in rows if may_handle(user, row.storage.name, row.vmid, pools.get(row.vmid or 0, ""))]


def is_backup(volid: str) -> bool:
    """Whether a volume id says that it is a backup's."""
    return volid.partition(":")[2].startswith("backup/")


def require_backup(user: Any, volid: str) -> None:
    """:func:`require_handling` by the id alone: who may not is told the same of what is not there."""
    storage, _, name = volid.partition(":")
    begun = backup_begun(name.removeprefix("backup/"))
    require_handling(user, storage, begun[0] if begun else None)
