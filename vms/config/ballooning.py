"""How guests share memory when the node runs short: who gives, who gets, how much in one round. Pure.

Proxmox's rule. A node aims at a share of its memory in use (80 %). What is missing or left over is handed
out by shares, never below a guest's minimum, never above its memory, and never more than 100 MiB a guest and
round, so that guests feel it gently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

MAX_CHANGE = 100 << 20
"""Bytes a guest's memory moves by in one round at most."""
TARGET = 80
"""Percent of the node's memory that guests and all else may use before guests have to give."""
SLACK = 10 << 20
"""Bytes around the target within which nothing is done."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """A guest as the rule sees it, in bytes; ``balloon`` is what it has, ``free`` what it says is free."""

    vmid: int
    maximum: int
    minimum: int
    balloon: int
    free: int = 0
    shares: int = 1000

    @property
    def eligible(self) -> bool:
        """Whether it takes part: a minimum, shares and a driver that reports."""
        return self.minimum > 0 and self.shares > 0 and self.balloon > 0

    @property
    def relaxed(self) -> bool:
        """Whether it has memory to spare."""
        return self.free > self.minimum * 0.25 and self.balloon >= self.minimum


def goal_of(total: int, used: int, target: int = TARGET) -> int:
    """Bytes the node could give to its guests; negative when they have to give some back."""
    return int(total * target / 100 - used)


def round_of(guests: Sequence[Share], goal: int, max_change: int = MAX_CHANGE) -> dict[int, int]:
    """VM ID → what its memory should become, for every guest whose memory should change."""
    eligible = [guest for guest in guests if guest.eligible]
    if -SLACK <= goal <= SLACK:
        return {}
    first = [guest for guest in eligible if guest.relaxed != (goal > 0)]
    return _distributed(first, goal, max_change) or _distributed(eligible, goal, max_change)


def _distributed(guests: Sequence[Share], goal: int, max_change: int) -> dict[int, int]:
    """Hand out ``goal`` bytes over these guests by their shares, pass after pass until nothing moves."""
    left, rest, plan = list(guests), goal, {guest.vmid: guest.balloon for guest in guests}
    again, progress = True, True
    while rest and again and progress and left:
        again, changes, moved = False, 0, 0
        base = sum(plan[guest.vmid] - guest.minimum for guest in left) + rest
        shares = sum(guest.shares for guest in left)
        going_on: list[Share] = []
        for guest in left:
            wanted = guest.minimum + int(base / shares * guest.shares)
            clamped = min(max(wanted, guest.minimum), guest.maximum)
            again |= clamped != wanted
            if goal > 0 and clamped > guest.balloon:
                new = min(clamped, guest.balloon + max_change)
            elif clamped < guest.balloon:
                new = max(clamped, guest.balloon - max_change)
            else:
                continue
            going_on.append(guest)
            moved += abs(new - plan[guest.vmid])
            changes += new - plan[guest.vmid]
            again |= new != plan[guest.vmid]
            plan[guest.vmid] = new
        left, progress = going_on, moved > 0
        rest -= changes
    before = {guest.vmid: guest.balloon for guest in guests}
    return {vmid: size for vmid, size in plan.items() if size != before[vmid]}


def settled(guests: Sequence[Share], goal: int, max_change: int = MAX_CHANGE) -> list[Share]:
    """What many rounds lead to, if what a guest gains or gives shows in its free memory."""
    now = list(guests)
    while True:
        plan = round_of(now, goal, max_change)
        if not plan:
            return now
        moved = {guest.vmid: plan.get(guest.vmid, guest.balloon) - guest.balloon for guest in now}
        goal -= sum(moved.values())
        now = [
            replace(
                guest, balloon=guest.balloon + moved[guest.vmid], free=max(0, guest.free + moved[guest.vmid])
            )
            for guest in now
        ]
