"""A live QEMU process as the worker holds it, and what its run states are called."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vms.models import VM
from vms.qemu.agent import Agent
from vms.qemu.monitor import Monitor
from vms.qemu.process import Running, Watch, start_time
from vms.worker import rows

STATUS: Mapping[str, VM.Status] = {
    "running": VM.Status.RUNNING,
    "paused": VM.Status.PAUSED,
    "prelaunch": VM.Status.PRELAUNCH,
    "inmigrate": VM.Status.PRELAUNCH,
    "suspended": VM.Status.SUSPENDED,
    "io-error": VM.Status.IO_ERROR,
    "internal-error": VM.Status.INTERNAL_ERROR,
    "guest-panicked": VM.Status.GUEST_PANICKED,
    "shutdown": VM.Status.SHUTDOWN,
}
"""QEMU's run state → ours. The states of a save or a migration in progress are a pause to a person."""


def status_of(run_state: str) -> str:
    """``VM.Status`` for a run state of ``query-status``."""
    return str(STATUS.get(run_state, VM.Status.PAUSED).value)


@dataclass(eq=False)
class LiveGuest:
    """One process.

    ``status`` is what QEMU last said, ``shown`` what the row was last made to say. ``expected`` says why its
    end will be no accident, in words; ``over`` that it has ended and its row says so, or is about to.
    ``traffic``: bytes a second (received, sent) by the guest's own count, with the moment it was told.
    ``target``: bytes of memory it was last told to live with by the sharing of the node's.
    ``held``: a task makes it stand still for a moment, which no row tells of. ``kept``: a task still reads
    its disks, so the process stays when its guest has powered off. ``stored`` is called once a row tells of
    this run.
    """

    vmid: int
    vm_id: int
    running: Running
    record: Mapping[str, Any]
    agent: Agent
    monitor: Monitor | None = None
    status: str = ""
    shown: str = ""
    expected: str = ""
    over: bool = False
    held: bool = False
    traffic: tuple[float, float, float] | None = None
    target: int | None = None
    kept: bool = False
    kick: asyncio.Event = field(default_factory=asyncio.Event)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    watch: Watch | None = None
    follower: asyncio.Task[None] | None = None
    stored: Callable[[], None] | None = None
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def store(self) -> None:
        """Write the launch record and the status (on a database thread, perhaps inside a transaction).

        Events may be written by another thread meanwhile; so the follower looks again afterwards.
        """
        if self.over:
            return
        self.shown = self.status
        rows.store_launch(self.vm_id, self.vmid, self.record, self.shown)
        if self.over:
            rows.store_end(self.vm_id, self.vmid)
        self.loop.call_soon_threadsafe(self.kick.set)
        if self.stored is not None:
            self.loop.call_soon_threadsafe(self.stored)


def marker_path(run_dir: Path, vmid: int) -> Path:
    """Where the launch record lies from before the process exists until the row holds it.

    Beside the VM's run folder, not in it: that one belongs to QEMU's user.
    """
    return run_dir / "vm" / f"{vmid}.launch"


def write_marker(run_dir: Path, vmid: int, record: Mapping[str, Any]) -> None:
    """Note what is about to be launched, so that a worker that dies now leaves a truth to find."""
    path = marker_path(run_dir, vmid)
    near = path.with_suffix(".new")
    handle = os.open(near, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(record, file)
    near.replace(path)


def read_marker(run_dir: Path, vmid: int) -> dict[str, Any]:
    """The record of the last launch; empty when there is none."""
    try:
        found = json.loads(marker_path(run_dir, vmid).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def processes(run_dir: Path) -> dict[int, Running]:
    """Every QEMU of this node, by VM ID, read from the process table.

    Pid files do not suffice: QEMU writes its own only after it has set itself up, and a worker may have died
    before that. A process counts when its arguments name the pid file of a VM's run folder.
    """
    pidfile = re.compile(re.escape(os.fsencode(run_dir / "vm")) + rb"/([1-9][0-9]{2,8})/qemu\.pid")
    found: dict[int, Running] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            match = pidfile.fullmatch(words[words.index(b"-pidfile") + 1])
            began = start_time(int(entry.name))
            if match is not None and began is not None:
                found[int(match[1])] = Running(int(entry.name), began)
    return found
