"""What happens when a node has booted: its guests start, in their order.

The worker's first life after a boot asks for a bulk start; a worker that is merely started again must not. So
the boot is told apart by its id, which stands among the node's facts from the survey of an earlier life. The
row of the task is made before the new facts are stored: a worker killed in between asks again, and finds it.
"""

from __future__ import annotations

import logging

from django.db import transaction

from vms.host.facts import boot_id
from vms.models import VM, Node, Task
from vms.operations.base import submit_on
from vms.tasks.queue import UNFINISHED
from vms.worker.runner import CUT_SHORT

log = logging.getLogger(__name__)


def begin(node: Node) -> Task | None:
    """Ask for the guests' start when the node has booted since it was last measured (database work).

    Before the first measurement ever there is nothing to compare with, and nothing to start. A start that was
    cut short because the worker was stopped goes on.
    """
    with transaction.atomic():
        before = Node.objects.values_list("facts", flat=True).get(pk=node.pk).get("boot_id", "")
        last = Task.objects.filter(node=node, type="startall", user=None).order_by("-pk").first()
        if not before or (last is not None and last.status in UNFINISHED):
            return None
        if before == boot_id():
            cut = last is not None and last.status == Task.Status.ERROR and last.message == CUT_SHORT
            return submit_on("startall", node=node, user=None, params=last.params) if last and cut else None
        if not any(str(options.get("onboot", "0")) == "1" for options in options_of_guests(node)):
            return None
        log.info("node %s has booted: starting its guests", node.name)
        return submit_on("startall", node=node, user=None)


def options_of_guests(node: Node) -> list[dict[str, str]]:
    """The options of the node's VMs, templates aside."""
    return list(VM.objects.filter(node=node, template=False).values_list("options", flat=True))
