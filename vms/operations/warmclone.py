"""A clone of a warm template: it goes on where the template's guest was, as somebody else.

It has no network card before it has been told who it is, so nobody ever meets two guests with one identity.
All of it happens before the clone's rows are a VM's: when it cannot be told, it never was one.
"""

from __future__ import annotations

from functools import partial

from vms.errors import StateError
from vms.models import VM
from vms.models.configuration import config_of
from vms.operations.base import Context
from vms.operations.guests import end
from vms.operations.inmemory import without_cards
from vms.operations.memory import Saved
from vms.operations.start import bring_up
from vms.operations.steps import Branch
from vms.operations.warmguest import apply_settings, introduce


async def begin(ctx: Context, born: VM, state: Saved) -> None:
    """Let the clone, as its rows will be, go on from ``state``, and tell it who it is.

    Raises :class:`VMError`.
    """
    branch = Branch(ctx, f"start of VM {born.vmid}")
    # Once it goes on, its start does not take itself back any more; until it is somebody, the task does.
    ctx.on_undo(f"run of VM {born.vmid}", partial(over, ctx))
    await bring_up(branch.ctx, without_cards(born), state=state)
    ctx.step("goes on")
    guest = ctx.services.guest(born.vmid)
    if guest is None:
        raise StateError("the clone ended as soon as it went on")
    await introduce(ctx, guest, born)
    guest.record = {**guest.record, "config": config_of(born)}  # what was plugged in is part of the run
    ctx.services.note_launch(born.vmid, guest.record)


async def finish(ctx: Context) -> None:
    """The clone is a VM and runs. What is left is its cloud-init's, and no reason to take it back."""
    guest = ctx.services.guest(ctx.vm.vmid)
    if guest is not None:
        await ctx.db(guest.store)
        await apply_settings(ctx, guest)


async def over(ctx: Context) -> None:
    """End the process of a clone that is no VM, and remove what its run has left."""
    if ctx.services.guest(ctx.vm.vmid) is not None:
        await end(ctx, 0)
    await ctx.services.clean(ctx.vm.vmid)
