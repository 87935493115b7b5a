"""Jobs QEMU does on its disks while the guest runs: waiting for them, and mirroring a disk elsewhere.

Every job here is started with ``auto-dismiss`` off, so that a job that has ended is still there to be asked
how; it is dismissed once that was read. A job outlives the worker that started it: :func:`end` settles one
that was left behind.

A mirror copies a whole drive into a graph opened beside it (:func:`open_target`) and then keeps both the
same. :func:`pivot` makes the device use the new one, :func:`split` ends the copying and leaves the device
where it is. QEMU 7.2 hangs when it is told to replace a node below a device with an I/O thread, so the whole
graph is exchanged, throttle filter and all.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from vms.errors import MonitorError
from vms.qemu.blocknodes import remove
from vms.qemu.monitor import Event, Monitor

Progress = Callable[[float], Awaitable[None]]

LOOK = 0.5
"""Seconds between two questions how far a job is."""

ENDED = ("aborting", "concluded", "null")
"""States of a job that takes no cancelling any more."""

GONE = "JobGone"
"""``MonitorError.error_class`` for a job that ended unseen or never was."""


async def query(monitor: Monitor, job_id: str) -> Mapping[str, Any] | None:
    """What QEMU says of a job (``query-jobs``), or None."""
    jobs = await monitor.execute("query-jobs")
    return next((job for job in jobs if job["id"] == job_id), None)


async def wait_job(monitor: Monitor, job_id: str, progress: Progress | None = None) -> None:
    """Wait until a job has ended, and dismiss it.

    Raises :class:`MonitorError` with the job's own words when it failed. When the caller is cancelled the
    job is cancelled in QEMU first.
    """
    await _until(monitor, job_id, ("concluded",), progress)
    await _dismiss(monitor, job_id)


async def wait_ready(monitor: Monitor, job_id: str, progress: Progress | None = None) -> None:
    """Wait until a mirror's two sides are the same. Raises and cancels as :func:`wait_job` does."""
    job = await _until(monitor, job_id, ("ready", "concluded"), progress)
    if job["status"] == "concluded":
        await _dismiss(monitor, job_id)
        raise MonitorError(job_id, GONE, "the copying ended before both sides were the same")


async def _until(
    monitor: Monitor, job_id: str, wanted: tuple[str, ...], progress: Progress | None
) -> Mapping[str, Any]:
    news = asyncio.Event()

    def heard(event: Event) -> None:
        if event.name == "JOB_STATUS_CHANGE" and event.data.get("id") == job_id:
            news.set()

    stop = monitor.on_event(heard)
    try:
        while True:
            news.clear()
            job = await query(monitor, job_id)
            if job is None:
                raise MonitorError(job_id, GONE, "QEMU no longer knows this job")
            if job["status"] in wanted:
                return job
            if progress is not None and job["total-progress"]:
                await progress(min(job["current-progress"] / job["total-progress"], 1.0))
            try:
                async with asyncio.timeout(LOOK):
                    await news.wait()
            except TimeoutError:
                continue
    except asyncio.CancelledError:
        ending = asyncio.ensure_future(end(monitor, job_id))
        await asyncio.wait({ending})
        ending.exception()  # QEMU may be gone, and the job with it
        raise
    finally:
        stop()


async def _dismiss(monitor: Monitor, job_id: str) -> None:
    """Forget a job that has ended; raise what it ended with."""
    job = await query(monitor, job_id)
    await monitor.execute("job-dismiss", {"id": job_id})
    if job is not None and job.get("error"):
        raise MonitorError(job_id, "GenericError", str(job["error"]))


async def end(monitor: Monitor, job_id: str) -> bool:
    """Cancel a job wherever it is and wait until nothing of it is left; answers whether there was one."""
    job = await query(monitor, job_id)
    if job is None:
        return False
    if job["status"] not in ENDED:
        try:
            await monitor.execute("job-cancel", {"id": job_id})
        except MonitorError:
            job = await query(monitor, job_id)
            if job is not None and job["status"] not in ENDED:  # it has not ended by itself meanwhile
                raise
    try:
        await wait_job(monitor, job_id)
    except MonitorError as error:
        if error.error_class == "Disconnected":
            raise
    return True


# ---- mirrors


def job_name(key: str) -> str:
    """The id of the job that mirrors the drive ``key``."""
    return f"mirror-{key}"


async def open_target(monitor: Monitor, graph: Mapping[str, Any]) -> str:
    """Open the graph a drive is to be copied into; answers its top node.

    ``graph`` is what a start would give to ``-blockdev``. While it is filled, blocks of zeroes take no room
    there, whatever the drive's options say; :func:`settle` applies those.
    """
    options = copy.deepcopy(dict(graph))
    _each(options, {"discard": "unmap", "detect-zeroes": "unmap"})
    await monitor.execute("blockdev-add", options)
    return str(options["node-name"])


def _each(node: dict[str, Any] | None, changes: Mapping[str, Any]) -> None:
    while isinstance(node, dict):
        node.update(changes)
        node = node.get("file")


async def settle(monitor: Monitor, graph: Mapping[str, Any]) -> None:
    """Give a graph that was a mirror's target the options it has in the configuration."""
    await monitor.execute("blockdev-reopen", {"options": [dict(graph)]})


async def mirror(
    monitor: Monitor, key: str, source: str, target: str, progress: Progress | None = None, *, speed: int = 0
) -> None:
    """Copy the drive ``key`` from top node ``source`` to top node ``target``, both open, until both are the
    same and stay so; then end it with :func:`pivot` or :func:`split`.

    ``speed`` is in bytes a second, 0 for all there is. Raises :class:`MonitorError`; a full target shows
    here. When the caller is cancelled, the job is cancelled in QEMU and the device stays where it was.
    """
    job_id = job_name(key)
    await monitor.execute(
        "blockdev-mirror",
        {
            "job-id": job_id, "device": source, "target": target, "sync": "full", "speed": speed,
            "auto-dismiss": False, "on-target-error": "report",
        },
    )  # fmt: skip
    await wait_ready(monitor, job_id, progress)


async def pivot(monitor: Monitor, key: str) -> None:
    """Let the device use the mirror's target from now on; the source is no longer written."""
    await monitor.execute("job-complete", {"id": job_name(key)})
    await wait_job(monitor, job_name(key))


async def split(monitor: Monitor, key: str) -> None:
    """End a mirror with both sides the same at this moment; the device stays on its source.

    For a copy of a running VM: freeze the guest's file systems, split every drive, thaw, close the targets.
    """
    await monitor.execute("block-job-cancel", {"device": job_name(key)})
    await wait_job(monitor, job_name(key))


async def abandon(monitor: Monitor, key: str, target: str) -> None:
    """Undo :func:`open_target` and :func:`mirror`: no job, no graph; harmless when there is neither."""
    await end(monitor, job_name(key))
    await remove(monitor, target)
