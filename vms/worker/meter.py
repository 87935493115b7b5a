"""Measures the node and its guests every ten seconds: for the Summary, for graphs, for the sharing of memory.

A guest is read from outside (its process, its taps) and through its monitor (block counters, what its balloon
driver tells). What cannot be read is left out, never guessed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vms.errors import MonitorError, OutcomeUnknown
from vms.host import usage
from vms.models import Node
from vms.network.tap import tap_name
from vms.worker import measures
from vms.worker.balloon import Balloonist
from vms.worker.database import Database
from vms.worker.guests import LiveGuest
from vms.worker.supervisor import Supervisor

log = logging.getLogger(__name__)

ROUND = float(os.environ.get("PVELITE_ROUND") or 10)
"""Seconds between two looks, as in PVE; a test may be in a hurry."""
KEEP = 6
"""Looks that are averaged into one sample of the graphs."""
CARDS = 32
TOLD = 30.0
"""Seconds for which it holds what a guest without taps said of its traffic."""
PATIENCE = 3.0


@dataclass
class Seen:
    """A guest's counters at the last look."""

    process: usage.ProcessCounters
    blocks: tuple[int, int] | None
    links: tuple[int, int] | None


@dataclass
class Meter:
    """The looks of one worker's life."""

    node: Node
    supervisor: Supervisor
    database: Database
    balloonist: Balloonist
    _seen: dict[str, Seen] = field(default_factory=dict)
    _node: usage.NodeCounters | None = None
    _kept: list[tuple[dict[str, float], dict[int, dict[str, float]]]] = field(default_factory=list)

    async def run(self) -> None:
        """Look again and again. A look that fails is lost, not the worker."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("a look at the node and its guests failed")
            await asyncio.sleep(ROUND)

    async def look(self) -> None:
        """One round: measure everybody, store, let the memory be shared."""
        moment = time.time()
        guests = self.supervisor.guests()
        links = await asyncio.to_thread(usage.link_counters)
        samples = await asyncio.gather(*(self._guest(guest, moment, links) for guest in guests))
        alive = {str(guest.record["run_id"]) for guest in guests}
        self._seen = {run: seen for run, seen in self._seen.items() if run in alive}
        found = {guest.vm_id: sample for guest, sample in zip(guests, samples, strict=True) if sample}
        node = await asyncio.to_thread(self._node_sample, moment)
        node["vcpus"] = sum(sample.get("maxcpu", 0.0) for sample in found.values())
        await self.database(measures.store_usage, self.node, node, found)
        self._kept.append((node, found))
        if len(self._kept) >= KEEP:
            kept, self._kept = self._kept, []
            await self.database(measures.store_series, self.node, *averaged(kept), int(moment))
        await self.balloonist.share(node, {guest.vmid: found.get(guest.vm_id, {}) for guest in guests})

    def _node_sample(self, moment: float) -> dict[str, float]:
        after = usage.node_counters(moment)
        before, self._node = self._node or after, after
        return usage.node_sample(before, after)

    async def _guest(
        self, guest: LiveGuest, moment: float, links: Mapping[str, tuple[int, int]]
    ) -> dict[str, float]:
        process = await asyncio.to_thread(usage.process_counters, guest.running.pid, moment)
        if process is None or guest.over:
            return {}
        told = await ask(guest)
        blocks, taps = told.pop("blocks", None), tap_bytes(guest.vmid, links)
        run = str(guest.record["run_id"])
        before = self._seen.get(run)
        self._seen[run] = Seen(process, blocks, taps)
        config = guest.record.get("config", {})
        cpus = float(cpus_of(config))
        sample = {"maxcpu": cpus, "memhost": float(process.resident), "uptime": uptime(guest, moment), **told}
        sample.setdefault("maxmem", float(memory_of(config)))
        if taps is None and guest.traffic is not None and moment - guest.traffic[0] < TOLD:
            _, sample["netin"], sample["netout"] = guest.traffic
        if "balloon" in sample:
            sample |= promised(guest, config)
        if before is not None and moment > before.process.moment:
            seconds = moment - before.process.moment
            sample["cpu"] = max(0.0, process.cpu - before.process.cpu) / seconds / cpus
            for names, old, new in (
                (("diskread", "diskwrite"), before.blocks, blocks), (("netout", "netin"), before.links, taps)
            ):  # fmt: skip
                if old is not None and new is not None:
                    for name, first, second in zip(names, old, new, strict=True):
                        sample[name] = max(0, second - first) / seconds
        return sample


async def ask(guest: LiveGuest) -> dict[str, Any]:
    """What QEMU tells: bytes read and written, the balloon, the guest's own view of its memory."""
    found: dict[str, Any] = {}
    if guest.monitor is None:
        return found
    try:
        stats = await guest.monitor.execute("query-blockstats", timeout=PATIENCE)
        each = [entry["stats"] for entry in stats]
        found["blocks"] = (
            sum(int(entry["rd_bytes"]) for entry in each), sum(int(entry["wr_bytes"]) for entry in each)
        )  # fmt: skip
        balloon = await guest.monitor.query_balloon()
        if balloon is not None:
            found |= {"balloon": float(balloon), **await memory_told(guest)}
    except (MonitorError, OutcomeUnknown) as error:
        log.debug("VM %s was not measured: %s", guest.vmid, error)
    return found


async def memory_told(guest: LiveGuest) -> dict[str, float]:
    """The guest's own view, by its balloon driver; empty while there is none."""
    assert guest.monitor is not None  # noqa: S101  (the caller has asked it a moment ago)
    path = {"path": "/machine/peripheral/balloon0", "property": "guest-stats"}
    stats = (await guest.monitor.execute("qom-get", path, timeout=PATIENCE)).get("stats", {})
    # What a driver has not told stands there as -1, which QEMU writes without its sign.
    told = {name: int(value) for name, value in stats.items() if 0 < int(value) < 1 << 62}
    total, free = told.get("stat-total-memory"), told.get("stat-free-memory")
    available = told.get("stat-available-memory", free)
    if total is None or available is None:
        return {}
    return {"mem": float(max(0, total - available)), "freemem": float(available if free is None else free)}


def tap_bytes(vmid: int, links: Mapping[str, tuple[int, int]]) -> tuple[int, int] | None:
    """Bytes the guest sent and received over its taps; ``None`` when it has none."""
    taps = [links[name] for name in (tap_name(vmid, index) for index in range(CARDS)) if name in links]
    if not taps:
        return None
    return sum(received for received, _ in taps), sum(sent for _, sent in taps)


def promised(guest: LiveGuest, config: Mapping[str, str]) -> dict[str, float]:
    """How much memory a guest with a balloon is to live with, by the sharing or as it was started, and its
    part in the sharing: ``minimum`` (bytes; 0: none) and ``shares``."""
    memory, minimum = memory_of(config), int(config.get("balloon") or 0) << 20
    shares = float(config.get("shares") or 1000)
    least = minimum if minimum < memory and shares else 0
    target = guest.target if guest.target is not None else minimum or memory
    return {"target": float(target), "minimum": float(least), "shares": shares}


def cpus_of(config: Mapping[str, str]) -> int:
    """The virtual CPUs of a run."""
    total = int(config.get("sockets", "1")) * int(config.get("cores", "1"))
    return int(config.get("vcpus", total))


def memory_of(config: Mapping[str, str]) -> int:
    """The memory of a run, in bytes."""
    return int(config.get("memory", "512").removeprefix("current=")) << 20


def uptime(guest: LiveGuest, moment: float) -> float:
    """Seconds since the run began."""
    return max(0.0, moment - float(guest.record.get("observed", moment)))


def averaged(
    kept: list[tuple[dict[str, float], dict[int, dict[str, float]]]],
) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
    """Several looks as one: the node's sample, and each VM's by its row."""
    guests: dict[int, list[dict[str, float]]] = defaultdict(list)
    for _, found in kept:
        for vm_id, sample in found.items():
            guests[vm_id].append(sample)
    return mean([node for node, _ in kept]), {vm_id: mean(samples) for vm_id, samples in guests.items()}


def mean(samples: list[dict[str, float]]) -> dict[str, float]:
    """The average of each quantity over the samples that have it."""
    names = {name for sample in samples for name in sample}
    found = {name: [sample[name] for sample in samples if name in sample] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}
