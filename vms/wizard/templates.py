"""The templates a new machine may be cloned from: the wizard's way round all of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vms import access
from vms.hardware import OPTIONS
from vms.models import VM
from vms.models.configuration import with_parts


@dataclass(frozen=True)
class Offer:
    """A template. ``size`` is what all its disks show a guest, in bytes; ``warm``: it keeps saved memory."""

    vm: VM
    system: str
    size: int
    warm: bool


def offered(user: Any) -> list[Offer]:
    """The templates ``user`` may clone, by number. A constant number of queries."""
    rows = with_parts(access.visible_vms(user).filter(template=True)).order_by("vmid")
    return [offer_of(vm) for vm in rows if access.may_vm(user, "VM.Clone", vm)]


def offer_of(vm: VM) -> Offer:
    """One template as the list shows it."""
    disks = [disk for disk in vm.disks.all() if disk.media == "disk" and not disk.slot.startswith("unused")]
    systems = dict(OPTIONS["ostype"].choices)
    return Offer(
        vm,
        systems.get(vm.ostype, "Not set"),
        sum(disk.size or 0 for disk in disks),
        vm.vmstate_id is not None,
    )
