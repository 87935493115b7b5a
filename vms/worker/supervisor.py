"""Watches over the guests of this node.

An event is a reason to ask, not a fact to store: on every event that may mean a change the supervisor queries
QEMU and writes what it says. The end of a process comes from its pidfd, child or not; then what the run left
on the host is removed and the row says stopped.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from vms.errors import MonitorError, OutcomeUnknown, QemuError
from vms.host import cgroup
from vms.host.paths import RunPaths
from vms.models import VM, Node
from vms.network import rate
from vms.qemu import process, sharing, storagedaemon, tpm
from vms.qemu.agent import Agent
from vms.qemu.events import Ask, reason
from vms.qemu.monitor import Event, Monitor
from vms.qemu.process import Running
from vms.worker import rows
from vms.worker.database import Database
from vms.worker.guests import LiveGuest, marker_path, processes, read_marker, status_of

log = logging.getLogger(__name__)

POWER_OFF_GRACE = 60.0
"""Seconds QEMU gets to end after its guest has powered off, as in PVE."""
RECONNECT = 0.2
"""Seconds between two attempts to reach the monitor of a process that lives."""


class Supervisor:
    """The live guests by VM ID."""

    def __init__(self, node: Node, paths: RunPaths, database: Database) -> None:
        self.node = node
        self.paths = paths
        self._db = database
        self._guests: dict[int, LiveGuest] = {}
        self._work: set[asyncio.Task[None]] = set()
        self.settle: Callable[[int], Awaitable[None]] | None = None
        """Called with a VM's row number once its process has ended and before its row says so."""
        self.agents = asyncio.Event()
        """Set when a guest's agent came or went."""

    def guests(self) -> list[LiveGuest]:
        """Every live process."""
        return list(self._guests.values())

    def _agent(self, vmid: int) -> Agent:
        return Agent(self.paths.vm(vmid).agent)

    def guest(self, vmid: int) -> LiveGuest | None:
        """The live process of a VM, or None."""
        return self._guests.get(vmid)

    # ---- beginning

    async def attach(self, vm: VM, launched: Any, record: dict[str, Any]) -> LiveGuest:
        """Watch a process just launched. Its row is written by ``guest.store``, which the task's end does.

        ``record`` gets ``observed``: the Unix time at which QEMU first said what state it is in.
        """
        guest = LiveGuest(vm.vmid, vm.pk, launched.running, record, self._agent(vm.vmid))
        guest.stored = self.agents.set  # one that went on from saved memory has its agent already
        self._guests[vm.vmid] = guest
        self._listen(guest, launched.monitor)
        try:
            guest.status = status_of(await launched.monitor.query_status())
            record["observed"] = time.time()
        except (MonitorError, OutcomeUnknown):
            guest.status = VM.Status.UNKNOWN.value  # it fell over already: its end is about to be told
        guest.shown = guest.status
        self._watch(guest)
        return guest

    async def adopt(self) -> None:
        """Find the guests an earlier worker left running; put right the rows of those that are gone."""
        running = await asyncio.to_thread(processes, self.paths.run_dir)
        known = await self._db(rows.vms_of, self.node)
        for vmid in running.keys() - {vm.vmid for vm in known}:
            log.warning("process %s runs VM %s, which no row knows; left alone", running[vmid].pid, vmid)
        for vm in known:
            found = running.get(vm.vmid)
            if found is not None:
                await self._adopt(vm, found)
            elif vm.status != VM.Status.STOPPED or self.paths.vm(vm.vmid).folder.exists():
                accident = "QEMU ended while no worker was running" if vm.running else ""
                await self.clean(vm.vmid)
                if self.settle is not None:
                    await self.settle(vm.pk)
                await self._db(rows.store_end, vm.pk, vm.vmid, accident=accident)

    async def _adopt(self, vm: VM, found: Running) -> None:
        record: dict[str, Any] = dict(vm.launch)
        if (record.get("pid"), record.get("start_time")) != (found.pid, found.start_time):
            # The last worker died between launching this process and storing it.
            record = {**read_marker(self.paths.run_dir, vm.vmid), "pid": found.pid}
            record["start_time"] = found.start_time
            record.setdefault("run_id", process_run_id(found))
        guest = LiveGuest(vm.vmid, vm.pk, found, record, self._agent(vm.vmid))
        guest.status = VM.Status.UNKNOWN.value
        self._guests[vm.vmid] = guest
        await self._connect(guest)
        if guest.monitor is not None:
            with suppress(MonitorError, OutcomeUnknown):
                guest.status = status_of(await guest.monitor.query_status())
        guest.shown = vm.status
        if record != vm.launch or guest.status != vm.status:
            await self._db(guest.store)
        log.info("adopted VM %s, process %s, %s", vm.vmid, found.pid, guest.status)
        self._watch(guest)
        guest.kick.set()

    def _watch(self, guest: LiveGuest) -> None:
        """From here on the process's end is noticed and its events are followed."""
        guest.watch = process.watch(guest.running, lambda code: self._start(self._bury(guest, code)))
        guest.follower = asyncio.create_task(self._follow(guest), name=f"follow-{guest.vmid}")
        if guest.watch is None:
            self._start(self._bury(guest, None))

    def _listen(self, guest: LiveGuest, monitor: Monitor) -> None:
        def heard(event: Event) -> None:
            ask = reason(event.name)
            if ask is Ask.END and not guest.expected:
                guest.expected = END_REASONS.get(str(event.data.get("reason")), "the guest powered off")
            if ask is Ask.AGENT:
                self.agents.set()
            if ask in (Ask.STATUS, Ask.END, Ask.BLOCK):
                guest.kick.set()

        guest.monitor = monitor
        monitor.on_event(heard)
        monitor.on_close(guest.kick.set)

    async def _connect(self, guest: LiveGuest) -> None:
        """One attempt to reach the monitor; leaves ``guest.monitor`` None when it fails."""
        guest.monitor = None
        try:
            monitor = await Monitor.connect(self.paths.vm(guest.vmid).qmp, timeout=2)
        except MonitorError as error:
            log.warning("VM %s: %s", guest.vmid, error)
            return
        self._listen(guest, monitor)

    # ---- following

    async def _follow(self, guest: LiveGuest) -> None:
        while True:
            await guest.kick.wait()
            guest.kick.clear()
            try:
                await self._look(guest)
            except (MonitorError, OutcomeUnknown):
                # The process lives or its end is about to be told; either way ask again.
                await asyncio.sleep(RECONNECT)
                if guest.monitor is None or guest.monitor.closed:
                    await self._connect(guest)
                guest.kick.set()

    async def _look(self, guest: LiveGuest) -> None:
        """Ask, store, and end a QEMU whose guest has powered off."""
        if guest.monitor is None:
            raise MonitorError("query-status", "Disconnected", "no connection")
        status = status_of(await guest.monitor.query_status())
        if guest.agent.owed and status == VM.Status.RUNNING != guest.status:
            self.agents.set()  # it goes on, and was left frozen
        async with guest.writing:
            guest.status = status
            if status != guest.shown and not guest.over and not guest.held:
                guest.shown = status
                await self._db(rows.store_status, guest.vm_id, guest.vmid, status)
        if status == VM.Status.SHUTDOWN and not guest.kept:
            self.expect_end(guest.vmid, "the guest powered off")
            await guest.monitor.quit()
            self._start(self._insist(guest))

    async def _insist(self, guest: LiveGuest) -> None:
        if not await self.gone(guest.vmid, POWER_OFF_GRACE):
            await process.terminate(guest.running)

    async def observe(self, vmid: int) -> str:
        """Ask QEMU for the status now, store it, hint the pages; returns it (``stopped``: no process)."""
        guest = self._guests.get(vmid)
        if guest is None:
            return VM.Status.STOPPED.value
        try:
            await self._look(guest)
        except (MonitorError, OutcomeUnknown):
            if not process.alive(guest.running):
                await self.gone(vmid, 5)
                return VM.Status.STOPPED.value
        return guest.status or VM.Status.UNKNOWN.value

    # ---- ending

    def expect_end(self, vmid: int, why: str) -> None:
        """Say that the process is about to end on purpose."""
        guest = self._guests.get(vmid)
        if guest is not None and not guest.expected:
            guest.expected = why

    async def gone(self, vmid: int, timeout: float) -> bool:
        """Wait until the VM's process has ended and was cleaned up. False on time-out."""
        guest = self._guests.get(vmid)
        if guest is None:
            return True
        try:
            async with asyncio.timeout(timeout):
                await guest.ended.wait()
        except TimeoutError:
            return False
        return True

    async def _bury(self, guest: LiveGuest, code: int | None) -> None:
        """The process has ended: remove what it left, then say so."""
        if guest.follower is not None:
            guest.follower.cancel()
        if guest.monitor is not None:
            await guest.monitor.close()
        accident = "" if guest.expected else f"QEMU (process {guest.running.pid}) {end_words(code)}"
        if accident:
            log.error("VM %s: %s", guest.vmid, accident)
        else:
            log.info("VM %s ended: %s", guest.vmid, guest.expected)
        try:
            await self._clean(guest.vmid)
            if self.settle is not None:
                await self.settle(guest.vm_id)
        finally:
            async with guest.writing:
                guest.over = True
                await self._db(rows.store_end, guest.vm_id, guest.vmid, accident=accident)
            del self._guests[guest.vmid]
            guest.ended.set()

    async def clean(self, vmid: int) -> None:
        """Remove what a run left on the host. Does nothing while a process of the VM lives."""
        if vmid not in self._guests:
            await self._clean(vmid)

    async def _clean(self, vmid: int) -> None:
        paths = self.paths.vm(vmid)
        try:
            await tpm.stop(paths)
            await sharing.stop(paths)
            await storagedaemon.stop(paths)
        except QemuError as error:
            log.warning("VM %s: %s", vmid, error)
        await asyncio.to_thread(self.paths.clear, vmid)
        await asyncio.to_thread(cgroup.remove, self.paths.run_dir, vmid)
        await rate.free(vmid)
        marker_path(self.paths.run_dir, vmid).unlink(missing_ok=True)

    def _start(self, work: Any) -> None:
        """Keep hold of a background task until it ends; asyncio itself does not."""
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("the supervisor stumbled", exc_info=task.exception())

    async def leave(self) -> None:
        """Let go of every guest; they go on."""
        for guest in self._guests.values():
            if guest.follower is not None:
                guest.follower.cancel()
            if guest.watch is not None:
                guest.watch.close()
        monitors = [guest.monitor.close() for guest in self._guests.values() if guest.monitor is not None]
        await asyncio.gather(*monitors)
        for task in list(self._work):
            task.cancel()


END_REASONS = {
    "guest-shutdown": "the guest powered off",
    "host-qmp-quit": "QEMU was told to quit",
    "host-qmp-system-reset": "a reset ended it",
    "host-signal": "QEMU was ended by a signal to terminate",
    "guest-reset": "the guest rebooted and the VM ends on a reboot",
    "guest-panic": "the guest crashed",
}
"""QMP's reason in SHUTDOWN → words."""


def end_words(code: int | None) -> str:
    """How a process ended that nobody had asked to."""
    if code is None:
        return "ended unexpectedly"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended unexpectedly with exit code {code}"


def process_run_id(running: Running) -> str:
    """A run id for a run whose record is lost: the same however often it is asked for."""
    return f"{running.pid:08x}{running.start_time:024x}"[:32]
