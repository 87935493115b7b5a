"""Who may do what, where: the one policy every door asks.

Privileges, roles and paths are PVE's. A path is ``/``, ``/vms/101``, ``/storage/local``, ``/nodes/pve1``,
``/pool/dev``, ``/access``. A role on a path holds for everything below it when it propagates; what is said
nearer to the object replaces what is said farther up; what is said for the user replaces what is said for
the user's groups on the same path. A VM in a pool also has what its pool grants.
Operators (superusers) may everything; an inactive user nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Q, QuerySet

from vms.errors import AccessError
from vms.models import VM, AclEntry, Storage

PRIVILEGES = (
    "Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Audit",
    "Mapping.Audit", "Mapping.Modify", "Mapping.Use", "Permissions.Modify", "Pool.Allocate", "Pool.Audit",
    "SDN.Audit", "SDN.Use", "Sys.AccessNetwork", "Sys.Audit", "Sys.Console", "Sys.Incoming", "Sys.Modify",
    "Sys.PowerMgmt", "Sys.Syslog", "User.Modify", "VM.Allocate", "VM.Audit", "VM.Backup", "VM.Clone",
    "VM.Config.CDROM", "VM.Config.CPU", "VM.Config.Cloudinit", "VM.Config.Disk", "VM.Config.HWType",
    "VM.Config.Memory", "VM.Config.Network", "VM.Config.Options", "VM.Console", "VM.GuestAgent.Audit",
    "VM.GuestAgent.FileRead", "VM.GuestAgent.FileWrite", "VM.GuestAgent.FileSystemMgmt",
    "VM.GuestAgent.Unrestricted", "VM.Migrate", "VM.PowerMgmt", "VM.Snapshot", "VM.Snapshot.Rollback",
)  # fmt: skip
"""Every privilege there is, in PVE's spelling."""

_VM_USER = frozenset(
    {"VM.Audit", "VM.Backup", "VM.Config.CDROM", "VM.Config.Cloudinit", "VM.Console", "VM.GuestAgent.Audit"}
    | {"VM.GuestAgent.FileRead", "VM.GuestAgent.FileWrite", "VM.GuestAgent.FileSystemMgmt", "VM.PowerMgmt"}
)
_VM_ADMIN = frozenset(name for name in PRIVILEGES if name.startswith("VM."))
ROLES: dict[str, frozenset[str]] = {
    "Administrator": frozenset(PRIVILEGES),
    "NoAccess": frozenset(),
    "PVEAdmin": frozenset(PRIVILEGES)
    - {"Permissions.Modify", "Sys.Modify", "Sys.PowerMgmt", "Sys.AccessNetwork"},
    "PVEAuditor": frozenset(name for name in PRIVILEGES if name.endswith(".Audit")),
    "PVEDatastoreAdmin": frozenset(name for name in PRIVILEGES if name.startswith("Datastore.")),
    "PVEDatastoreUser": frozenset({"Datastore.AllocateSpace", "Datastore.Audit"}),
    "PVEPoolAdmin": frozenset({"Pool.Allocate", "Pool.Audit"}),
    "PVEPoolUser": frozenset({"Pool.Audit"}),
    "PVESDNUser": frozenset({"SDN.Audit", "SDN.Use"}),
    "PVESysAdmin": frozenset({"Sys.Audit", "Sys.Console", "Sys.Syslog"}),
    "PVETemplateUser": frozenset({"VM.Audit", "VM.Clone"}),
    "PVEVMAdmin": _VM_ADMIN,
    "PVEVMUser": _VM_USER,
}
"""PVE's built-in roles."""


def _entries(user: Any) -> list[AclEntry]:
    """The user's own and group entries, read once per user object."""
    cached: list[AclEntry] | None = getattr(user, "_pvelite_acl", None)
    if cached is None:
        cached = list(AclEntry.objects.filter(Q(user=user) | Q(group__user=user)).distinct())
        user._pvelite_acl = cached
    return cached


def _levels(path: str) -> Iterable[str]:
    """``/``, ``/vms``, ``/vms/101``"""
    yield "/"
    parts = [part for part in path.split("/") if part]
    for depth in range(len(parts)):
        yield "/" + "/".join(parts[: depth + 1])


def privileges(user: Any, path: str, *, pool: str = "") -> frozenset[str]:
    """Everything ``user`` may at ``path``; ``pool`` names the pool the object is in."""
    if user is None or not user.is_authenticated or not user.is_active:
        return frozenset()
    if user.is_superuser:
        return frozenset(PRIVILEGES)
    entries = _entries(user)
    found: frozenset[str] = frozenset()
    for level in _levels(path):
        here = [entry for entry in entries if entry.path == level and (entry.propagate or level == path)]
        named = [entry for entry in here if entry.user_id == user.pk] or here
        if named:
            found = frozenset().union(*(ROLES.get(entry.role, frozenset()) for entry in named))
    if pool:
        found |= privileges(user, f"/pool/{pool}")
    return found


def may(user: Any, privilege: str, path: str, *, pool: str = "") -> bool:
    """Whether ``user`` holds ``privilege`` at ``path``. Raises ``ValueError`` for an unknown privilege."""
    if privilege not in PRIVILEGES:
        raise ValueError(f"'{privilege}' is no privilege")
    return privilege in privileges(user, path, pool=pool)


def may_vm(user: Any, privilege: str, vm: VM) -> bool:
    """:func:`may` for a VM, its pool included.

    A draft belongs to who made it, except that turning it into a VM needs ``VM.Allocate`` like any creation.
    """
    known = user is not None and user.is_authenticated and user.is_active
    if known and vm.stage == VM.Stage.DRAFT and vm.owner_id == user.pk and privilege != "VM.Allocate":
        return True
    return may(user, privilege, vm.path, pool=vm.pool.name if vm.pool else "")


def may_somewhere(user: Any, privilege: str) -> bool:
    """Whether ``user`` holds ``privilege`` on any path at all (to offer *Create VM*)."""
    if user is None or not user.is_authenticated or not user.is_active:
        return False
    if user.is_superuser:
        return True
    return any(privilege in ROLES.get(entry.role, frozenset()) for entry in _entries(user))


def require(user: Any, privilege: str, path: str, *, pool: str = "") -> None:
    """Raises :class:`AccessError` naming what is missing."""
    if not may(user, privilege, path, pool=pool):
        raise AccessError(f"Permission check failed ({path}, {privilege})")


def require_vm(user: Any, privilege: str, vm: VM) -> None:
    """:func:`require` for a VM. Raises :class:`AccessError`."""
    if not may_vm(user, privilege, vm):
        raise AccessError(f"Permission check failed ({vm.path}, {privilege})")


def visible_vms(user: Any, vms: QuerySet[VM] | None = None) -> QuerySet[VM]:
    """The VMs ``user`` may see (``VM.Audit``), filtered in the database: no query a row."""
    rows: QuerySet[VM] = VM.objects.all() if vms is None else vms
    if user is None or not user.is_authenticated or not user.is_active:
        return rows.none()
    if user.is_superuser:
        return rows
    default = may(user, "VM.Audit", "/vms")
    named = {entry.path for entry in _entries(user)}
    ids = [int(path[5:]) for path in named if path.startswith("/vms/") and path[5:].isdigit()]
    seen = [vmid for vmid in ids if may(user, "VM.Audit", f"/vms/{vmid}")]
    pools = [path[6:] for path in named if path.startswith("/pool/") and may(user, "VM.Audit", path)]
    if default:
        hidden = [vmid for vmid in ids if vmid not in seen]
        return rows.exclude(Q(vmid__in=hidden) & ~Q(pool__name__in=pools))
    return rows.filter(Q(vmid__in=seen) | Q(pool__name__in=pools))


def visible_storages(user: Any) -> list[Storage]:
    """The storages ``user`` may see (``Datastore.Audit`` or more)."""
    return [
        storage
        for storage in Storage.objects.filter(enabled=True)
        if privileges(user, f"/storage/{storage.name}") & {"Datastore.Audit", "Datastore.AllocateSpace"}
    ]
