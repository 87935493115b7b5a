"""Shares the node's memory among its guests when it runs short (the rule: :mod:`vms.config.ballooning`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from vms.config.ballooning import Share, goal_of, round_of
from vms.errors import MonitorError, OutcomeUnknown
from vms.models import Node
from vms.worker.database import Database
from vms.worker.guests import LiveGuest
from vms.worker.supervisor import Supervisor

log = logging.getLogger(__name__)


class Balloonist:
    """Tells guests how much memory to live with, once a round."""

    def __init__(self, node: Node, supervisor: Supervisor, database: Database) -> None:
        self._node = node
        self._supervisor = supervisor
        self._db = database

    async def share(self, node: Mapping[str, float], guests: Mapping[int, Mapping[str, float]]) -> None:
        """One round, from what was just measured of the node and of each guest (by VM ID)."""
        shares = []
        for guest in self._supervisor.guests():
            share = share_of(guest, guests.get(guest.vmid, {}))
            if share is not None:
                shares.append(share)
        if not shares:
            return
        target = await self._db(Node.objects.values_list("balloon_target", flat=True).get, pk=self._node.pk)
        goal = goal_of(int(node["memtotal"]), int(node["memused"]), target)
        for vmid, size in round_of(shares, goal).items():
            await self._tell(vmid, size)

    async def _tell(self, vmid: int, size: int) -> None:
        guest = self._supervisor.guest(vmid)
        if guest is None or guest.monitor is None or guest.over:
            return
        try:
            await guest.monitor.balloon(size)
            guest.target = size
        except (MonitorError, OutcomeUnknown) as error:
            log.info("VM %s was not told to live with %s bytes: %s", vmid, size, error)


def share_of(guest: LiveGuest, sample: Mapping[str, float]) -> Share | None:
    """The guest as the rule sees it; ``None`` for one that takes no part."""
    config = guest.record.get("config", {})
    minimum, shares = int(config.get("balloon", "0")) << 20, int(config.get("shares", "1000"))
    if not minimum or not shares or "balloon" not in sample or "freemem" not in sample:
        return None
    return Share(
        vmid=guest.vmid, maximum=int(sample["maxmem"]), minimum=minimum, balloon=int(sample["balloon"]),
        free=int(sample["freemem"]), shares=shares,
    )  # fmt: skip
