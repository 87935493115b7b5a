"""Drafts: a VM ID is reserved by a row while somebody fills in the wizard."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction

from vms import access
from vms.errors import AccessError, ConfigError, StateError
from vms.models import VM, Node, Pool, Task
from vms.models.vm import VMID_MAX, VMID_MIN
from vms.operations.base import submit
from vms.tasks import notify

ATTEMPTS = 20
"""How often a lost race for an ID is run again; each loss means that somebody else won."""


def next_vmid(start: int = VMID_MIN) -> int:
    """The lowest ID from ``start`` on that no VM and no draft has. Raises :class:`ConfigError`."""
    free = max(start, VMID_MIN)
    taken = VM.everything.filter(vmid__gte=free).order_by("vmid").values_list("vmid", flat=True)
    for vmid in taken.iterator():
        if vmid > free:
            break
        free = vmid + 1
    if free > VMID_MAX:
        raise ConfigError("vmid", f"every VM ID up to {VMID_MAX} is taken")
    return free


def vmid_taken(vmid: int) -> bool:
    """Whether a VM or a draft has this ID."""
    return VM.everything.filter(vmid=vmid).exists()


def check_vmid(vmid: int) -> int:
    """Raises :class:`ConfigError` for a number outside PVE's range."""
    if not VMID_MIN <= vmid <= VMID_MAX:
        raise ConfigError("vmid", f"{vmid} is not between {VMID_MIN} and {VMID_MAX}")
    return vmid


def new_draft(
    user: Any, node: Node, *, vmid: int | None = None, pool: Pool | None = None, name: str = ""
) -> VM:
    """A draft of ``user`` on ``node``; its row reserves the ID.

    Without ``vmid`` it gets the lowest that is free. Raises :class:`AccessError` when the user may create no
    VM anywhere, :class:`ConfigError` on ``vmid`` when the wanted one is taken.
    """
    if user is not None and not access.may_somewhere(user, "VM.Allocate"):
        raise AccessError("Permission check failed (/vms, VM.Allocate)")
    wanted = None if vmid is None else check_vmid(vmid)
    for _ in range(ATTEMPTS):
        number = wanted or next_vmid()
        try:
            with transaction.atomic():
                draft = VM.everything.create(
                    vmid=number, node=node, pool=pool, name=name, owner=user, stage=VM.Stage.DRAFT
                )
        except IntegrityError:
            if wanted is not None:
                raise taken(wanted) from None
            continue
        notify.changed("tree")
        return draft
    raise ConfigError("vmid", "too many VMs are being created at this moment; try again")


def taken(vmid: int) -> ConfigError:
    """The error for an ID somebody else has, with the next free one."""
    free = next_vmid()
    thrown = VM.everything.filter(vmid=vmid, stage=VM.Stage.TRASH).exists()
    text = "is in the trash and keeps its number there" if thrown else "already exists"
    return ConfigError("vmid", f"VM {vmid} {text}; the next free ID is {free}", hint=str(free))


def change_vmid(draft: VM, vmid: int) -> None:
    """Give a draft another ID. Raises :class:`ConfigError` on ``vmid`` when it is taken or illegal."""
    check_vmid(vmid)
    if draft.vmid == vmid:
        return
    try:
        with transaction.atomic():
            changed = VM.everything.filter(pk=draft.pk, stage=VM.Stage.DRAFT, lock="").update(vmid=vmid)
    except IntegrityError:
        raise taken(vmid) from None
    if not changed:
        raise StateError(f"VM {draft.vmid} is no draft any more; its ID stays.")
    draft.vmid = vmid
    notify.changed("tree")


def discard_draft(draft: VM, user: Any) -> None:
    """Throw a draft away; its ID is free again. Raises :class:`AccessError`, :class:`StateError`."""
    if user is not None and draft.owner_id != getattr(user, "pk", None):
        access.require(user, "VM.Allocate", draft.path)
    deleted, _ = VM.everything.filter(pk=draft.pk, stage=VM.Stage.DRAFT, lock="").delete()
    if not deleted:
        raise StateError(f"VM {draft.vmid} is being created or exists already; it is no draft to discard.")
    notify.changed("tree")


def finish_draft(draft: VM, user: Any, start: bool = False) -> Task:
    """Ask for the VM a draft describes. Raises :class:`AccessError`, :class:`ConfigErrors`."""
    return submit("qmcreate", vm=draft, user=user, params={"start": "1"} if start else {})
