"""What guests tell of themselves through their agent: addresses, name and system, for the Summary page."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone

from vms.errors import MonitorError, OutcomeUnknown
from vms.models import VM
from vms.qemu.agent import Agent, Interface
from vms.worker import rows
from vms.worker.database import Database
from vms.worker.guests import LiveGuest
from vms.worker.supervisor import Supervisor

log = logging.getLogger(__name__)

INTERVAL = 10.0
"""Seconds between two looks; the agent's coming and going is told by an event at once."""
PATIENCE = 2.0
LONGEST_PAUSE = 12
"""Intervals between two questions to a channel that is open and silent."""


@dataclass
class Known:
    """What is known of one run's agent. ``open``: whether somebody holds the guest's end of the channel, by
    QEMU's word (None: not known). ``rest`` looks are left out, for ``pause`` were in vain.
    ``counted``: the bytes its cards have carried, and when it said so."""

    open: bool | None = None
    told: dict[str, Any] = field(default_factory=dict)
    counted: tuple[float, int, int] | None = None
    rest: int = 0
    pause: int = 1


class Sampler:
    """Asks the agents of all running guests, side by side. Nobody is asked where nobody listens."""

    def __init__(self, supervisor: Supervisor, database: Database) -> None:
        self._supervisor = supervisor
        self._db = database
        self._known: dict[str, Known] = {}

    async def run(self) -> None:
        """Look whenever an agent comes or goes, and every few seconds."""
        while True:
            moved = self._supervisor.agents.is_set()
            self._supervisor.agents.clear()
            guests = [guest for guest in self._supervisor.guests() if self._wanted(guest)]
            alive = {str(guest.record["run_id"]): guest for guest in guests}
            self._known = {run: self._known.get(run, Known()) for run in alive}
            await asyncio.gather(
                *(self._sample(guest, run, self._known[run], moved) for run, guest in alive.items())
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._supervisor.agents.wait(), INTERVAL)

    @staticmethod
    def _wanted(guest: LiveGuest) -> bool:
        text = str(guest.record.get("config", {}).get("agent", ""))
        on = text.split(",")[0].removeprefix("enabled=") in ("1", "on", "yes", "true")
        return on and guest.status == VM.Status.RUNNING

    async def _sample(self, guest: LiveGuest, run: str, known: Known, moved: bool) -> None:
        if moved or known.open is None:
            known.open, known.rest, known.pause = await self._listened(guest), 0, 1
        if guest.agent.busy:  # it is being asked something; its answer tells that it lives
            return
        if known.rest > 0:
            known.rest -= 1
            return
        told = {} if known.open is False else await self._ask(guest, known)
        if not told and known.open is not False:
            known.rest, known.pause = known.pause, min(2 * known.pause, LONGEST_PAUSE)
        if told == known.told or guest.over:
            return
        if await self._db(rows.store_agent, guest.vm_id, guest.vmid, run, told):
            known.told = told

    @staticmethod
    async def _listened(guest: LiveGuest) -> bool | None:
        """Whether the guest has opened its end of the channel."""
        if guest.monitor is None:
            return None
        try:
            found = await guest.monitor.execute("query-chardev")
        except (MonitorError, OutcomeUnknown):
            return None
        ends = [bool(entry.get("frontend-open")) for entry in found if entry.get("label") == "qga0"]
        return any(ends)

    async def _ask(self, guest: LiveGuest, known: Known) -> dict[str, Any]:
        """What the agent says; empty when nobody answers. Who it is, is asked when it comes."""
        agent, before = guest.agent, known.told
        if not await agent.ping(PATIENCE):
            return {}
        found: dict[str, Any] = {**before, "up": True}
        try:
            if not before or agent.owed:
                await self._look_for_frost(agent)
            if not before:
                found["since"] = timezone.now().isoformat(timespec="seconds")
                found["host"] = await agent.host_name()
                system = await agent.os_info()
                found["os"] = {
                    "name": system.pretty_name or system.name, "kernel": system.kernel,
                    "machine": system.machine,
                }  # fmt: skip
        except (MonitorError, OutcomeUnknown) as error:
            log.debug("an agent does not tell who it is: %s", error)
        with suppress(MonitorError, OutcomeUnknown):  # a frozen guest refuses: what it said before stays
            interfaces = await agent.interfaces()
            now = counted(interfaces)
            guest.traffic, known.counted = between(known.counted, now), now
            found["interfaces"] = [
                {"name": one.name, "mac": one.mac, "addresses": [address for address, _ in one.addresses]}
                for one in interfaces
            ]
        return found

    @staticmethod
    async def _look_for_frost(agent: Agent) -> None:
        """Thaw a guest that nobody holds still: its worker died, its agent did, or it stood still itself."""
        with suppress(MonitorError, OutcomeUnknown):
            if not agent.freezing and await agent.still() and not agent.freezing:
                log.warning("a guest was left frozen: %s file systems thawed", await agent.thaw())
            agent.owed = False


def counted(interfaces: list[Interface]) -> tuple[float, int, int] | None:
    """What went over the guest's cards, by its own word, and when it said so."""
    cards = [one.traffic for one in interfaces if one.name != "lo" and one.traffic is not None]
    if not cards:
        return None
    return time.time(), sum(received for received, _ in cards), sum(sent for _, sent in cards)


def between(
    before: tuple[float, int, int] | None, now: tuple[float, int, int] | None
) -> tuple[float, float, float] | None:
    """Bytes a second from one count to the next, and when; None where there is no next, or it began anew."""
    if before is None or now is None or now[0] <= before[0] or now[1] < before[1] or now[2] < before[2]:
        return None
    seconds = now[0] - before[0]
    return now[0], (now[1] - before[1]) / seconds, (now[2] - before[2]) / seconds
