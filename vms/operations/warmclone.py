"""A clone of a warm template: it goes on where the template's guest was, as somebody else.

It has no network card before it has been told who it is, so nobody ever meets two guests with one identity.
When it cannot be told, it is taken back as if it had never been: a guest that answers to another one's name
must not live on.
"""

from __future__ import annotations

from functools import partial

from django.db import transaction

from vms.errors import StateError, VMError
from vms.models import VM, Disk, Volume
from vms.models.configuration import config_of
from vms.operations.base import Context
from vms.operations.guests import end
from vms.operations.memory import Saved
from vms.operations.start import bring_up, parts_of
from vms.operations.steps import whole
from vms.operations.warmguest import introduce, without_cards
from vms.tasks import notify
from vms.tasks.queue import ONLY_FOR


async def begin(ctx: Context, state: Saved) -> None:
    """Let the clone go on from ``state`` and tell it who it is. Raises :class:`VMError`; then it is gone."""
    try:
        vm = await ctx.db(parts_of, ctx.vm)
        await bring_up(ctx, without_cards(vm), state=state)
        ctx.step("goes on")
        guest = ctx.services.guest(vm.vmid)
        if guest is None:
            raise StateError("the clone ended as soon as it went on")
        await introduce(ctx, guest, vm)
    except VMError as error:
        await take_back(ctx)
        raise StateError(f"clone failed: {error}", hint=error.hint) from error
    except BaseException:
        await whole(take_back(ctx))
        raise
    guest.record = {**guest.record, "config": config_of(vm)}  # what was plugged in is part of the run
    ctx.at_end(partial(finished, vm))


def finished(vm: VM) -> None:
    """It is a VM like any other (in the transaction that ends the task)."""
    VM.everything.filter(pk=vm.pk).update(draft={})


async def take_back(ctx: Context) -> None:
    """End a clone that has no identity of its own, and leave nothing of it."""
    await ctx.roll_back()
    await end(ctx, 0)
    await ctx.services.clean(ctx.vm.vmid)
    for volume in await ctx.db(own, ctx.vm):
        driver = ctx.services.storage(volume.storage.name, volume.storage.facts())
        await driver.free(volume.volid)
        await ctx.log(f"removed volume '{volume.volid}'")
    await ctx.db(undefine, ctx.vm, ctx.task.pk)


def own(vm: VM) -> list[Volume]:
    """The volumes that were made for it."""
    rows = Volume.objects.filter(disks__vm=vm, vmid=vm.vmid, content=Volume.Content.IMAGES)
    return list(rows.select_related("storage").distinct())


def undefine(vm: VM, task: int) -> None:
    """The VM is a draft again, which goes with its task."""
    with transaction.atomic():
        rows = own(vm)
        Disk.objects.filter(vm=vm).delete()
        Volume.objects.filter(pk__in=[row.pk for row in rows]).delete()
        VM.everything.filter(pk=vm.pk).update(stage=VM.Stage.DRAFT, draft={ONLY_FOR: task})
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")
