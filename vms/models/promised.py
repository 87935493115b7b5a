"""What storages have promised: the sum of the sizes their disks may grow to, whatever they take now."""

from __future__ import annotations

from django.db.models import Q, Sum

from vms.models.node import Node
from vms.models.storage import Volume


def promised(node: Node | None) -> dict[int, int]:
    """Storage (its key) → bytes its disk images may take, as ``node`` sees them. One query.

    A linked clone counts as a whole: written to everywhere it takes as much. Storages without disks are not
    among the keys.
    """
    here = Q(node=None) | Q(node=node)
    rows = Volume.objects.filter(here, content=Volume.Content.IMAGES, present=True).order_by()
    return {row["storage"]: row["bytes"] or 0 for row in rows.values("storage").annotate(bytes=Sum("size"))}
