"""What guests tell of themselves through their agent: their addresses, for the Summary page."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from vms.errors import MonitorError, OutcomeUnknown
from vms.models import VM
from vms.qemu.agent import Agent
from vms.worker import rows
from vms.worker.database import Database
from vms.worker.guests import LiveGuest
from vms.worker.supervisor import Supervisor

log = logging.getLogger(__name__)

INTERVAL = 10.0
"""Seconds between two looks; the agent's coming and going is told by an event at once."""
PATIENCE = 2.0


class Sampler:
    """Asks the agents of all running guests, side by side."""

    def __init__(self, supervisor: Supervisor, database: Database) -> None:
        self._supervisor = supervisor
        self._db = database
        self._told: dict[str, dict[str, Any]] = {}

    async def run(self) -> None:
        """Look whenever an agent comes or goes, and every few seconds."""
        while True:
            self._supervisor.agents.clear()
            guests = [guest for guest in self._supervisor.guests() if self._wanted(guest)]
            await asyncio.gather(*(self._sample(guest) for guest in guests))
            alive = {str(guest.record["run_id"]) for guest in guests}
            self._told = {run: told for run, told in self._told.items() if run in alive}
            with suppress(TimeoutError):
                await asyncio.wait_for(self._supervisor.agents.wait(), INTERVAL)

    @staticmethod
    def _wanted(guest: LiveGuest) -> bool:
        text = str(guest.record.get("config", {}).get("agent", ""))
        on = text.split(",")[0].removeprefix("enabled=") in ("1", "on", "yes", "true")
        return on and guest.status == VM.Status.RUNNING

    async def _sample(self, guest: LiveGuest) -> None:
        told = await self._ask(guest.agent)
        run = str(guest.record["run_id"])
        if told == self._told.get(run, {}) or guest.over:
            return
        self._told[run] = told
        await self._db(rows.store_agent, guest.vm_id, guest.vmid, run, told)

    @staticmethod
    async def _ask(agent: Agent) -> dict[str, Any]:
        """What the agent says; empty when nobody answers."""
        if not await agent.ping(PATIENCE):
            return {}
        found: dict[str, Any] = {"up": True}
        with suppress(MonitorError, OutcomeUnknown):
            found["interfaces"] = [
                {"name": one.name, "mac": one.mac, "addresses": [address for address, _ in one.addresses]}
                for one in await agent.interfaces()
            ]
        return found
