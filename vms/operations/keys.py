"""Typing into a guest: a combination of keys, or a text as a keyboard of some layout would.

A text may be a password. It travels in a parcel (:mod:`vms.tasks.parcel`); rows and logs know how many
characters it has, and nothing else of it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vms import access
from vms.errors import ConfigError, MonitorError, StateError
from vms.models import VM, Task
from vms.operations.base import Context, Operation, Params, operation, submit
from vms.operations.guests import live, must_run
from vms.qemu.keyboard import Stroke, chord
from vms.qemu.layouts import DEFAULT, LAYOUTS
from vms.schema.option import opt
from vms.tasks import parcel

PRIVILEGE = "VM.Console"
KEY, TEXT = "sendkey", "typetext"
"""The types of the two tasks."""
LOCKS = frozenset(
    {"backup", "clone", "create", "migrate", "rollback", "snapshot", "snapshot-delete", "suspending"}
)
"""Under these the guest may run, and then it can be typed into."""
LONGEST = 8192
"""Characters typed by one task at most."""
SLOWEST, FASTEST, USUAL = 2, 50, 20
"""Characters a second. A PS/2 keyboard's queue holds 16 bytes, and a character takes up to eight."""
HOLD = 20
"""Milliseconds a key is held at most; less where the pace asks for it."""
TOLD_EVERY = 1.0
"""Seconds between two words on how far it is."""


def awake(vm: VM) -> None:
    """Raise :class:`StateError` unless the guest runs and can hear its keyboard."""
    must_run(vm)
    if vm.status != VM.Status.RUNNING:
        raise StateError(f"VM {vm.vmid} is {vm.status}: it hears no keys.", hint="Resume it first.")


@dataclass(frozen=True, kw_only=True)
class KeyParams(Params):
    """Keys by QEMU's names, joined by ``-``, as PVE's command takes them."""

    key: str = opt("Key", required=True, max_length=120, help="Keys to press together: ctrl-alt-delete.")


@operation(KEY, privilege=PRIVILEGE, label="Send key", params=KeyParams)
class SendKey(Operation):
    """Press keys together and let them go."""

    accepts_locks = LOCKS
    beside_clones = True
    takes_turn = False

    def check(self, vm: VM, params: KeyParams) -> None:
        chord(params.key)
        awake(vm)

    def title(self, vm: VM, params: KeyParams) -> str:
        return f"Send {'-'.join(chord(params.key))} to {vm.vmid} ({vm.display_name})"

    async def run(self, ctx: Context) -> None:
        await ctx.monitor.send_key(chord(ctx.params.key), HOLD)


@dataclass(frozen=True, kw_only=True)
class TextParams(Params):
    """How a text is typed; the text itself lies in the parcel."""

    layout: str = opt("Keyboard layout", default=DEFAULT, max_length=20, help="The layout set in the guest.")
    rate: int = opt("Speed", default=USUAL, minimum=SLOWEST, maximum=FASTEST, unit="characters a second")
    count: int = opt("Characters", required=True, hidden=True, minimum=1, maximum=LONGEST)
    parcel: str = opt("Parcel", required=True, hidden=True, pattern="[0-9a-f]{32}")


def judged(text: str, layout: str) -> list[tuple[Stroke, ...]]:
    """The strokes that type ``text``, one tuple a character. Raises :class:`ConfigError`."""
    if layout not in LAYOUTS:
        raise ConfigError("layout", f"there is no layout '{layout}': {', '.join(LAYOUTS)}")
    if not text:
        raise ConfigError("text", "is missing: say what to type")
    if len(text) > LONGEST:
        raise ConfigError("text", f"{len(text)} characters are more than {LONGEST}, the most that is typed")
    return LAYOUTS[layout].type(text)


def type_text(text: str, *, vm: VM, user: Any, layout: str = DEFAULT, rate: int = USUAL) -> Task:
    """Type ``text``. Raises :class:`AccessError`, :class:`StateError`, :class:`ConfigError` for what the
    layout cannot type: nothing is sent then."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if user is not None:
        access.require_vm(user, PRIVILEGE, vm)
    judged(text, layout)
    awake(vm)
    params = {
        "layout": layout, "rate": str(rate), "count": str(len(text)), "parcel": parcel.send({"text": text}),
    }  # fmt: skip
    return submit(TEXT, vm=vm, user=user, params=params)


@operation(TEXT, privilege=PRIVILEGE, label="Type text", params=TextParams)
class TypeText(Operation):
    """Type a text, slowly enough for the guest."""

    accepts_locks = LOCKS
    beside_clones = True
    takes_turn = False

    def check(self, vm: VM, params: TextParams) -> None:
        if params.layout not in LAYOUTS:
            raise ConfigError("layout", f"there is no layout '{params.layout}'")
        awake(vm)

    def title(self, vm: VM, params: TextParams) -> str:
        what = "1 character" if params.count == 1 else f"{params.count} characters"
        return f"Type {what} into {vm.vmid} ({vm.display_name})"

    async def run(self, ctx: Context) -> None:
        text = (await asyncio.to_thread(parcel.fetch, ctx.params.parcel))["text"]
        strokes = judged(text, ctx.params.layout)
        name = LAYOUTS[ctx.params.layout].label
        await ctx.log(f"{len(strokes)} characters, layout {name}, {ctx.params.rate} a second")
        typist = Typist(ctx, strokes, 1 / ctx.params.rate)
        try:
            async with KEYBOARDS[ctx.vm.vmid]:
                await typist.run()
        finally:
            if typist.done < len(strokes):
                await ctx.log(f"{typist.done} of {len(strokes)} characters were typed")

    async def resume(self, ctx: Context) -> None:
        raise StateError(
            "The worker was restarted in the middle of this task: a part of the text may have been typed.",
            hint="Look at the screen before you type it again.",
        )


KEYBOARDS: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
"""One text at a time goes to a VM, so that two are not mixed."""


class Typist:
    """Types ``strokes`` at one every ``pace`` seconds; ``done`` counts the characters."""

    def __init__(self, ctx: Context, strokes: Sequence[tuple[Stroke, ...]], pace: float) -> None:
        self.ctx = ctx
        self.strokes = strokes
        self.pace = pace
        self.done = 0
        self._told = 0.0

    async def run(self) -> None:
        """Raises :class:`StateError` when the guest stops hearing, in the middle or not."""
        due = asyncio.get_running_loop().time()
        for strokes in self.strokes:
            for keys in strokes:
                due = await self._wait(due)
                await self._press(keys)
            self.done += 1
            await self._tell()
        await self._wait(due)

    async def _wait(self, due: float) -> float:
        """Wait until the last stroke is over; when the next one will be. What was late is not caught up:
        the guest may have been slow too."""
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, due - now))
        return max(now, due) + self.pace

    async def _press(self, keys: Stroke) -> None:
        guest = live(self.ctx)
        if guest.status != VM.Status.RUNNING:
            raise StateError(f"VM {guest.vmid} is {guest.status} now: it hears no keys.")
        try:
            await guest.monitor.send_key(keys, max(1, min(HOLD, int(self.pace * 1000 / (2 * len(keys))))))
        except MonitorError as error:
            raise StateError(f"QEMU did not take a key: {error.description}.") from error

    async def _tell(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told >= TOLD_EVERY:
            self._told = now
            share = self.done / len(self.strokes)
            await self.ctx.progress(share, f"{self.done} of {len(self.strokes)} characters")
