"""A guest that was booted once, its memory kept in a file: later tests start from there in a moment.

Every guest from one file shares host name and random state; give it disks and cards after the start.
"""

from __future__ import annotations

import os
from pathlib import Path

from guestkit.guest import Guest
from guestkit.lab import Lab
from guestkit.media import Media
from guestkit.waiting import eventually

WARM = {"name": "warm", "ostype": "l26", "memory": "192", "balloon": "96", "agent": "1", "serial0": "socket"}
CONTROLLER = ["-device", '{"driver":"virtio-scsi-pci","id":"warmscsi"}']
FASTEST = 8 << 30
"""Bytes a second a state may be written with: no limit in practice."""


def warm_config(lab: Lab) -> dict[str, str]:
    """The configuration a warm guest was saved with: state belongs to one exact machine version."""
    machine = next(name for name in lab.facts.machines if name.startswith("pc-q35-"))
    return {**WARM, "machine": machine}


async def save_warm_state(lab: Lab, media: Media, target: Path, vmid: int = 900) -> None:
    """Boot the tiny guest (3 s on TCG), wait for its agent, write its whole state to ``target``."""
    guest = await lab.start(vmid, warm_config(lab), [*media.direct_boot(), *CONTROLLER])
    await guest.says("pvelite-guest: ready")
    await guest.agent_answers()
    await guest.monitor.stop()
    await guest.monitor.execute("migrate-set-parameters", {"max-bandwidth": FASTEST})
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        await guest.monitor.send_fd("state", descriptor)
        await guest.monitor.execute("migrate", {"uri": "fd:state"})
        await eventually(lambda: _saved(guest), "the guest's state to be saved")
    finally:
        os.close(descriptor)
    await guest.quit()


async def _saved(guest: Guest) -> bool:
    status = (await guest.monitor.execute("query-migrate"))["status"]
    assert status not in ("failed", "cancelled"), status
    return bool(status == "completed")


async def start_warm(lab: Lab, media: Media, state: Path, vmid: int) -> Guest:
    """Start a guest from the saved state; answers when it runs and its agent answers."""
    descriptor = os.open(state, os.O_RDONLY | os.O_CLOEXEC)
    incoming = ["-S", "-incoming", f"fd:{descriptor}"]
    try:
        guest = await lab.start(
            vmid,
            warm_config(lab),
            [*media.direct_boot(), *CONTROLLER, *incoming],
            pass_fds=(descriptor,),
        )
    finally:
        os.close(descriptor)
    await eventually(lambda: _arrived(guest), "the saved state to be read")
    await guest.monitor.cont()
    await guest.agent_answers()
    return guest


async def _arrived(guest: Guest) -> bool:
    return await guest.monitor.query_status() != "inmigrate"
