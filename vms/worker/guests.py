"""A live QEMU process as the worker holds it, and what its run states are called."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vms.models import VM
from vms.qemu.monitor import Monitor
from vms.qemu.process import Running, Watch, start_time

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
    """One process. ``expected`` says why its end will be no accident, in words; ``over`` that its row
    says stopped, or is about to."""

    vmid: int
    vm_id: int
    running: Running
    run_id: str
    monitor: Monitor | None = None
    status: str = ""
    expected: str = ""
    over: bool = False
    kick: asyncio.Event = field(default_factory=asyncio.Event)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    watch: Watch | None = None
    follower: asyncio.Task[None] | None = None


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
    before that. A process counts when its arguments hold ``-id N`` and name N's run folder.
    """
    found: dict[int, Running] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"-id" not in words[:-1]:
                continue
            vmid = int(words[words.index(b"-id") + 1])
            folder = os.fsencode(run_dir / "vm" / str(vmid)) + b"/"
            began = start_time(int(entry.name))
            if began is not None and any(folder in word for word in words):
                found[vmid] = Running(int(entry.name), began)
    return found
