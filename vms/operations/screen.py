"""A picture of what a guest shows now, in its full size."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import Any

from vms import access
from vms.errors import StateError
from vms.hardware.serial import display_of
from vms.models import VM, Task
from vms.operations.base import Context, Operation, Params, operation, submit
from vms.operations.guests import must_run
from vms.operations.keys import LOCKS, PRIVILEGE
from vms.qemu.screen import picture_of
from vms.schema.option import opt
from vms.tasks import parcel

TYPE = "screendump"


@dataclass(frozen=True, kw_only=True)
class ScreenParams(Params):
    """Where the picture is left: it is for who may look at the screen, and stands in no row."""

    parcel: str = opt("Parcel", required=True, hidden=True, pattern="[0-9a-f]{32}")


def screenless(vm: VM) -> str:
    """Why a VM has no screen that could be drawn, as it runs or would be started; empty when it has."""
    running = vm.launch.get("config") if vm.running else None
    display = display_of(running if isinstance(running, dict) else vm.options)
    if display.startswith("serial"):
        return f"Its display is the serial terminal {display.removeprefix('serial')}."
    return "It has no screen: its display is none." if display == "none" else ""


def take(vm: VM, user: Any) -> Task:
    """Ask for a screenshot; :func:`taken` has it when the task has ended.

    Raises :class:`AccessError`, :class:`StateError`.
    """
    return submit(TYPE, vm=vm, user=user, params={"parcel": parcel.token()})


def taken(task: Task, user: Any) -> bytes | None:
    """The PNG; None while there is none, or no longer. ``user`` None may see everything.

    Raises :class:`AccessError` unless the user may look at the screen.
    """
    if task.type != TYPE or task.vm is None:
        return None
    if user is not None:
        access.require_vm(user, PRIVILEGE, task.vm)
    found = parcel.answered(str(task.params["parcel"]))
    return None if found is None else base64.b64decode(found["png"])


@operation(TYPE, privilege=PRIVILEGE, label="Screenshot", params=ScreenParams)
class Screendump(Operation):
    """Draw the screen, and leave the picture for who may look."""

    accepts_locks = LOCKS
    beside_clones = True
    takes_turn = False

    def check(self, vm: VM, params: ScreenParams) -> None:
        must_run(vm)
        if why := screenless(vm):
            raise StateError(f"VM {vm.vmid}: {why[0].lower()}{why[1:]}", hint="See Hardware, Display.")

    def title(self, vm: VM, params: ScreenParams) -> str:
        return f"{self.label} of {vm.vmid} ({vm.display_name})"

    async def run(self, ctx: Context) -> None:
        picture = await picture_of(ctx.monitor)
        png = await asyncio.to_thread(picture.png)
        answer = {"png": base64.b64encode(png).decode()}
        await asyncio.to_thread(parcel.answer, ctx.params.parcel, answer)
        await ctx.log(f"{picture.width} × {picture.height}, {len(png)} bytes")
