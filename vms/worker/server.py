"""The worker: one Channels worker per node, the only process that touches QEMU.

It hears the bell on channel ``node.<name>`` or looks every two seconds, claims waiting rows and hands them to
the runner; the supervisor watches the guests. Killing it stops no guest and loses no task: whoever starts
next adopts the processes and settles the rows.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import secrets
import signal
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from channels.layers import get_channel_layer
from channels.worker import Worker
from django.db import Error as DatabaseError

from pvelite.conf import Conf, conf
from vms.errors import StateError
from vms.host.paths import RunPaths, qemu_user
from vms.models import Node
from vms.operations import mirror, trash
from vms.operations.seed import seed_node
from vms.operations.waiting import settle_ended
from vms.tasks import queue
from vms.worker import autostart, rows, schedule
from vms.worker.balloon import Balloonist
from vms.worker.database import Database
from vms.worker.ends import Ends
from vms.worker.meter import Meter
from vms.worker.runner import Runner
from vms.worker.sampler import Sampler
from vms.worker.screens import Artist
from vms.worker.services import Services
from vms.worker.storages import Scanner
from vms.worker.supervisor import Supervisor
from vms.worker.survey import Survey

log = logging.getLogger(__name__)

QEMU_USER = "pvelite"
"""The system user that ``./up`` makes for QEMU."""
POLL = 2.0
HEARTBEAT = 5.0
SURVEY = 30.0
TRASH = 60.0
SCHEDULE = 10.0
"""Seconds: looking for rows without a bell, saying that we live, reading storages and bridges again, emptying
the trash of what is due, beginning the backup jobs whose time has come."""
STOP_GRACE = 3.0
"""Seconds that running tasks get when the worker is stopped."""
LAST_GRACE = 5.0
"""Seconds the process may need for its very end."""


async def deaf(scope: Any, receive: Any, send: Any) -> None:
    """The application Channels would hand messages to: none. A message is a bell and says nothing."""


class NodeWorker(Worker):
    """The worker of one node, for one life."""

    def __init__(self, settings: Conf, node: Node) -> None:
        layer = get_channel_layer()
        if layer is None:
            raise StateError("there is no channel layer; check CHANNEL_LAYERS in the settings")
        super().__init__(deaf, [f"node.{node.name}"], layer)
        self.node = node
        self.boot = secrets.token_hex(16)
        self._kick = asyncio.Event()
        self._stop = asyncio.Event()
        self._db = Database()
        user, reason = qemu_user(QEMU_USER, settings.home)
        paths = RunPaths(settings.run_dir, settings.log_dir, user)
        self._supervisor = Supervisor(node, paths, self._db)
        self._sampler = Sampler(self._supervisor, self._db)
        self._artist = Artist(self._supervisor)
        self._meter = Meter(node, self._supervisor, self._db, Balloonist(node, self._supervisor, self._db))
        scanner = Scanner(node, self._db, user)
        ends = Ends(self._db)
        self._services = Services(node, self.boot, settings.home, paths, self._supervisor, scanner, ends)
        self._supervisor.settle = partial(settle_ended, self._services, self._db)
        self._runner = Runner(self._services, self._db, ends)
        self._survey = Survey(self._services, scanner, self._db, reason)

    async def handle(self) -> None:
        """Live until asked to stop."""
        await self._db(rows.begin_life, self.node, self.boot)
        await self._supervisor.adopt()
        await self._db(autostart.begin, self.node)
        await self._db(schedule.go_on, self.node)
        await self._survey.measure()
        await self._db(mirror.repair, self.node)
        await self.recover()
        loops = [
            self.listener(self.channels[0]), self.pump(), self._every(HEARTBEAT, self._beat),
            self._every(SURVEY, self._survey.again), self._every(TRASH, self._empty_trash),
            self._every(SCHEDULE, self._begin_jobs),
            self._meter.run(), self._sampler.run(), self._artist.run(),
        ]  # fmt: skip
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(loop) for loop in loops]
        log.info("worker of node %s is ready (process %s)", self.node.name, os.getpid())
        stopping: asyncio.Task[Any] = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=STOP_GRACE)  # one may be at a program it started, and ends it first
        await self._leave()
        for task in done - {stopping}:
            task.result()  # a loop that ended by itself ended by a mistake: let it be seen

    def stop(self) -> None:
        """Ask it to end: tasks end first, guests go on."""
        self._stop.set()

    async def _leave(self) -> None:
        await self._runner.drain(STOP_GRACE)
        await self._supervisor.leave()
        await self._db(rows.end_life, self.node, self.boot)
        self._db.close()

    async def recover(self) -> None:
        """Take over what an earlier life left running, each row to its definite end."""
        left = await self._db(queue.inherit, self.node, self.boot)
        for row in left:
            self._runner.spawn(row, inherited=True)
        held = {row.vm_id for row in left if row.vm_id is not None}
        await self._db(rows.free_locks, self.node, held)

    async def listener(self, channel: str) -> None:
        """Hear the bell. A layer that is down only delays: the pump looks anyway."""
        delay = 0.1
        while True:
            try:
                await self.channel_layer.receive(channel)
                delay = 0.1
            except Exception as error:
                log.debug("no bell: %s: %s", type(error).__name__, error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5)
            self._kick.set()
            self._artist.bell.set()

    async def pump(self) -> None:
        """Claim rows and hand them over; pass on cancellations."""
        while True:
            self._kick.clear()
            count = 0
            try:
                if self._runner.running:
                    for pk in await self._db(queue.cancellations, self.node, self.boot):
                        self._runner.cancel(pk)
                count = await self._take()
            except DatabaseError as error:
                log.error("the queue cannot be read: %s", error)
            if count < queue.CLAIM_LIMIT:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._kick.wait(), POLL)

    async def _take(self) -> int:
        """Claim rows and begin with them, all that are claimed also when the worker is stopped just then."""
        taking = asyncio.ensure_future(self._runner.take())
        try:
            await asyncio.shield(taking)
        finally:
            taken = await taking
            for row, prepared in taken:
                self._runner.spawn(row, prepared)
        return len(taken)

    async def _every(self, seconds: float, work: Any) -> None:
        while True:
            try:
                await work()
            except (DatabaseError, OSError) as error:
                log.error("%s: %s", work.__name__, error)
            await asyncio.sleep(seconds)

    async def _empty_trash(self) -> None:
        await self._db(trash.empty_due, self.node)

    async def _begin_jobs(self) -> None:
        await self._db(schedule.begin_due)

    async def _beat(self) -> None:
        wanted = await self._db(rows.beat, self.node)
        if wanted != self.node.accelerator:
            self.node.accelerator = wanted
            await self._survey.measure()


def lock(run_dir: Path, name: str) -> int:
    """Be the only worker of this node; a second one would settle the first one's rows.

    Waits a moment for one that is just ending. Raises :class:`StateError`.
    """
    path = run_dir / f"node.{name}.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + 5
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(handle)
                raise StateError(f"another worker of node {name} runs here ({path})") from None
            time.sleep(0.05)


async def live(settings: Conf, node: Node) -> None:
    """One life of the worker, ended by SIGTERM or SIGINT."""
    gc.freeze()  # what is loaded stays loaded: no collection in the middle of a start looks through it
    worker = NodeWorker(settings, node)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    await worker.handle()
    end_soon()


def end_soon() -> None:
    """Leave, whatever the loop still waits for: all is stored.

    The end of a program that was just being started when its task was cut off may never come (Python 3.11).
    """
    timer = threading.Timer(LAST_GRACE, os._exit, (0,))
    timer.daemon = True
    timer.start()


def main() -> None:
    """Run this node's worker until told to stop. Django is set up already."""
    settings = conf()
    settings.run_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    settings.log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = lock(settings.run_dir, settings.node)
    try:
        node = seed_node(settings.node, settings.storage_dir)
        asyncio.run(live(settings, node))
    finally:
        os.close(held)
