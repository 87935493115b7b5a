"""Small pictures of the screens that somebody looks at, and of no other."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from contextlib import suppress
from dataclasses import dataclass

from vms.errors import MonitorError, OutcomeUnknown, StateError
from vms.hardware.screens import has_agent_channel
from vms.hardware.serial import display_of
from vms.models import VM
from vms.qemu.screen import picture_of
from vms.tasks import screens
from vms.tasks.screens import Thumbnail
from vms.worker.guests import LiveGuest
from vms.worker.supervisor import Supervisor

log = logging.getLogger(__name__)

EVERY = 2.0
"""Seconds between two questions whether somebody looks."""
SHARE = 20
"""A picture that took a second is not drawn again for so many: big screens are drawn less often."""
WIDTH, HEIGHT = 384, 288
"""Pixels at most, so a picture has 324 KiB at most and about a tenth of that."""


@dataclass
class Drawn:
    """What was drawn last of one run. ``due``: not again before that."""

    digest: bytes = b""
    clipboard: bool | None = None
    due: float = 0.0


class Artist:
    """Draws while somebody looks. ``bell`` hurries it: somebody has begun to look."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._drawn: dict[str, Drawn] = {}
        self.bell = asyncio.Event()

    async def run(self) -> None:
        """Draw again and again. A round that fails is lost, not the worker."""
        while True:
            self.bell.clear()
            try:
                await self._round()
            except Exception:
                log.exception("the screens could not be drawn")
            with suppress(TimeoutError):
                await asyncio.wait_for(self.bell.wait(), EVERY)

    async def _round(self) -> None:
        alive = {str(guest.record["run_id"]): guest for guest in self._supervisor.guests() if shows(guest)}
        wanted = await asyncio.to_thread(screens.looked, alive) if alive else set()
        self._drawn = {run: self._drawn.get(run, Drawn()) for run in wanted}
        for run in sorted(wanted, key=lambda each: self._drawn[each].due):
            await self._draw(alive[run], run, self._drawn[run])

    async def _draw(self, guest: LiveGuest, run: str, drawn: Drawn) -> None:
        began = time.monotonic()
        if began < drawn.due or guest.monitor is None:
            return
        try:
            picture = await picture_of(guest.monitor)
            digest = hashlib.blake2b(picture.pixels, digest_size=16).digest()
            clipboard = await listened(guest)
            same = digest == drawn.digest and clipboard is drawn.clipboard
            holds = same and await asyncio.to_thread(screens.keep_on, run)
            if not holds:
                small = await asyncio.to_thread(picture.shrunk, WIDTH, HEIGHT)
                thumbnail = Thumbnail(await asyncio.to_thread(small.png), clipboard=clipboard)
                await asyncio.to_thread(screens.keep, run, thumbnail)
            drawn.digest, drawn.clipboard = digest, clipboard
        except StateError as error:
            with suppress(StateError):  # it may be Redis that is away
                await asyncio.to_thread(screens.keep, run, Thumbnail(b"", str(error)))
        except (MonitorError, OutcomeUnknown, OSError) as error:
            log.debug("no picture of VM %s: %s", guest.vmid, error)
        drawn.due = time.monotonic() + (time.monotonic() - began) * SHARE


def shows(guest: LiveGuest) -> bool:
    """Whether it has a graphics card that can be asked: not while its memory is still being read."""
    display = display_of(guest.record.get("config", {}))
    screenless = display.startswith(("none", "serial"))
    return not screenless and not guest.held and guest.status not in (VM.Status.PRELAUNCH, VM.Status.UNKNOWN)


async def listened(guest: LiveGuest) -> bool | None:
    """Whether the guest has opened its end of the clipboard's channel; None where it has none."""
    if guest.monitor is None or not has_agent_channel(guest.record.get("config", {})):
        return None
    found = await guest.monitor.execute("query-chardev")
    return any(bool(entry.get("frontend-open")) for entry in found if entry.get("label") == "vdagent")
