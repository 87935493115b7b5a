"""What the worker writes about guests: updates of named fields, never a whole row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from vms.models import VM, AuditEntry, Node
from vms.tasks import notify
from vms.tasks.queue import ONLY_FOR

LOCKS_OF_TASKS = (
    "backup", "create", "destroyed", "clone", "suspending", "snapshot", "snapshot-delete", "rollback",
)  # fmt: skip
"""Locks that only a task of ours holds, and only while it runs."""


def tell(vmid: int) -> None:
    """Hint, once it is committed, that a VM has changed; the tree shows its state too."""
    transaction.on_commit(lambda: notify.changed(f"vm-{vmid}", "tree"))


def store_launch(vm_id: int, vmid: int, record: Mapping[str, Any], status: str) -> None:
    """A run begins: who it is, what it was given, what it says of itself."""
    VM.everything.filter(pk=vm_id).update(
        status=status, status_since=timezone.now(), run_id=record["run_id"], launch=dict(record)
    )
    tell(vmid)


def store_status(vm_id: int, vmid: int, status: str) -> None:
    """What was just observed."""
    VM.everything.filter(pk=vm_id).update(status=status, status_since=timezone.now())
    tell(vmid)


def store_agent(vm_id: int, vmid: int, run_id: str, agent: Mapping[str, Any]) -> bool:
    """What the guest agent told; False when the row does not tell of this run: not yet, or no longer."""
    if not VM.everything.filter(pk=vm_id, run_id=run_id).update(agent=dict(agent)):
        return False
    tell(vmid)
    return True


def store_end(vm_id: int, vmid: int, *, accident: str = "") -> None:
    """The run is over. ``accident`` in words is kept in the audit: nobody asked for this end."""
    VM.everything.filter(pk=vm_id).update(
        status=VM.Status.STOPPED, status_since=timezone.now(), run_id="", agent={}
    )
    if accident:
        AuditEntry.objects.create(username="system", action="vm-ended", target=f"VM {vmid}: {accident}"[:200])
    tell(vmid)


def vms_of(node: Node) -> list[VM]:
    """Every row of this node, drafts too: a create that was cut short is one."""
    return list(VM.everything.filter(node=node).only("pk", "vmid", "status", "run_id", "launch", "lock"))


def free_locks(node: Node, held: set[int]) -> None:
    """Give back locks whose task is no more. ``held``: the VM rows that a task in hand is about."""
    rows = VM.everything.filter(node=node, lock__in=LOCKS_OF_TASKS).exclude(pk__in=held)
    busy = list(rows.filter(tasks__status__in=("queued", "running")).values_list("pk", flat=True))
    rows.exclude(pk__in=busy).filter(stage=VM.Stage.DRAFT, draft__has_key=ONLY_FOR).delete()
    rows.exclude(pk__in=busy).update(lock="")


def begin_life(node: Node, boot: str) -> None:
    """This worker's life begins: older claims are somebody else's from now on."""
    Node.objects.filter(pk=node.pk).update(boot=boot, heartbeat=timezone.now())
    notify.changed("node", "tree")


def beat(node: Node) -> str:
    """Say that the worker lives; answers the accelerator its operator wants."""
    Node.objects.filter(pk=node.pk).update(heartbeat=timezone.now())
    return str(Node.objects.values_list("accelerator", flat=True).get(pk=node.pk))


def end_life(node: Node, boot: str) -> None:
    """A clean stop: the node is off-line at once, not after three missed beats."""
    Node.objects.filter(pk=node.pk, boot=boot).update(heartbeat=None)
    notify.changed("node", "tree")


def store_facts(node: Node, facts: Mapping[str, Any]) -> None:
    """What was measured of the node."""
    Node.objects.filter(pk=node.pk).update(facts=dict(facts))
    notify.changed("node")
