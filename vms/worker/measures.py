"""What the meter writes: the last look into the rows of VMs and node, averages into the rings."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction
from django.utils import timezone

from vms.models import VM, Node
from vms.models.metric import record


def store_usage(node: Node, sample: Mapping[str, float], guests: Mapping[int, Mapping[str, float]]) -> None:
    """The last look at everybody. What no longer runs has no usage."""
    now = timezone.now().timestamp()
    with transaction.atomic():
        Node.objects.filter(pk=node.pk).update(usage={**sample, "at": now})
        rows = [VM(pk=vm_id, usage={**found, "at": now}) for vm_id, found in guests.items()]
        VM.everything.bulk_update(rows, ["usage"], batch_size=200)
        idle = VM.everything.filter(node=node).exclude(pk__in=guests).exclude(usage={})
        idle.update(usage={})


def store_series(
    node: Node, sample: Mapping[str, float], guests: Mapping[int, Mapping[str, float]], moment: int
) -> None:
    """One averaged sample into the rings of the node and of each guest."""
    with transaction.atomic():
        there = set(VM.everything.filter(pk__in=guests).values_list("pk", flat=True))
        given = [(vm_id, found) for vm_id, found in guests.items() if vm_id in there]
        record(node.pk, [(None, sample), *given], moment)
