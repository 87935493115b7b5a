"""Clone: another VM made of one that is there, of a template within milliseconds.

The task belongs to the VM that is made, whose draft row holds the number from the first moment; the source is
only read, by any number of clones at the same time (:mod:`vms.worker.turns`). The new row becomes a VM in one
transaction once every volume of it is there. Until then a clone that comes to nothing takes all of it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from django.db import transaction

from vms.config.cloning import cloned, copy_name
from vms.config.creation import new_mac
from vms.errors import ConfigError, StateError, VMError
from vms.models import VM, Nic, Pool, Task
from vms.models.configuration import save_config, size_text
from vms.operations import clonelive, cloneplan, clonevolumes, cloudinit, mirror, warmclone
from vms.operations.base import Context, Operation, operation, parse_params, submit
from vms.operations.cloneplan import CloneParams, Plan
from vms.operations.clonevolumes import Made
from vms.operations.create import start_after
from vms.operations.drafts import new_draft
from vms.operations.memory import to_the_end
from vms.operations.start import came_up
from vms.operations.volumes import keep_volume
from vms.tasks import notify
from vms.tasks.queue import ONLY_FOR, SOURCE


def clone(
    source: VM, user: Any, *, newid: int | None = None, params: Mapping[str, str] | None = None
) -> Task:
    """Ask for a clone of ``source``; its row holds ``newid``, or the next free number, from now on.

    ``params`` are texts as a door received them (:class:`~vms.operations.cloneplan.CloneParams`). Raises
    :class:`AccessError`, :class:`ConfigErrors`, :class:`StateError`; then nothing is reserved.
    """
    given = {key: text for key, text in (params or {}).items() if text != ""}
    if "description" in given:
        given["description"] = quote(given["description"], safe=" ,;:.!?()/-_")
    given[SOURCE] = str(source.vmid)
    parsed: CloneParams = parse_params(CloneParams, given)
    with transaction.atomic():
        target = new_draft(
            user, source.node, vmid=newid, pool=pool_named(parsed.pool), name=parsed.name or ""
        )
        task = submit("qmclone", vm=target, user=user, params=given)
        VM.everything.filter(pk=target.pk).update(draft={ONLY_FOR: task.pk})
    return task


def pool_named(name: str | None) -> Pool | None:
    """The pool of that name. Raises :class:`ConfigError`."""
    if not name:
        return None
    found = Pool.objects.filter(name=name).first()
    if found is None:
        raise ConfigError("pool", f"pool '{name}' does not exist")
    return found


@operation("qmclone", privilege="VM.Clone", label="Clone", lock="clone", params=CloneParams)
class Clone(Operation):
    """Make the VM another VM is, or was in a snapshot."""

    def title(self, vm: VM, params: CloneParams) -> str:
        source = VM.objects.filter(vmid=params.clone_of).first()
        return (
            f"Clone {source.vmid} ({source.display_name}) to {vm.vmid}"
            if source
            else super().title(vm, params)
        )

    def authorise(self, user: Any, vm: VM, params: CloneParams) -> None:
        cloneplan.authorise(user, vm, params)

    def check(self, vm: VM, params: CloneParams) -> None:
        if vm.stage != VM.Stage.DRAFT:
            raise StateError(f"unable to create VM {vm.vmid} - VM {vm.vmid} already exists")
        cloneplan.plan_of(params, vm)

    async def run(self, ctx: Context) -> None:
        try:
            plan = await ctx.db(cloneplan.plan_of, ctx.params, ctx.vm)
            await clonevolumes.remember(ctx, plan)
            ctx.step("source read")
            made = await clonevolumes.make(ctx, plan)
            # From here on a cancellation comes too late: the VM is there, whole, in a moment.
            await to_the_end(settle(ctx, plan, made))
        except VMError as error:
            raise StateError(f"clone failed: {error}", hint=error.hint) from error
        if plan.state is not None:
            await warmclone.begin(ctx, plan.state)
        elif ctx.params.start:
            await ctx.log("Execute autostart")
            await start_after(ctx)

    async def resume(self, ctx: Context) -> None:
        """Well when the VM was there already; else nothing is left, its number included."""
        vm = ctx.vm
        if vm.stage == VM.Stage.DEFINED and ctx.params.warm:
            await warmclone.take_back(ctx)
        elif vm.stage == VM.Stage.DEFINED:
            if ctx.params.start and await came_up(ctx) == VM.Status.STOPPED:
                await ctx.services.clean(vm.vmid)
                await ctx.warn("the clone is there, but the worker was restarted before it was started")
            return
        else:
            await clonelive.let_go(ctx, ctx.params.clone_of)
            await clonevolumes.remove_left(ctx)
        raise StateError(
            f"The worker was restarted while VM {vm.vmid} was being cloned. Nothing of it is left.",
            hint="Clone again.",
        )


async def settle(ctx: Context, plan: Plan, made: Made) -> None:
    """Make the row a VM and its volumes the VM's for good."""
    await ctx.db(define, ctx.vm, plan, made, ctx.params)
    ctx.keep()
    ctx.step("defined")
    if plan.source.pending and not plan.snapshot:
        keys = ", ".join(sorted(plan.source.pending))
        await ctx.warn(f"found pending changes for '{keys}', discarding for clone")
    how = "full" if plan.full else "linked"
    await ctx.log(f"VM {ctx.vm.vmid} is a {how} clone of {plan.source.vmid}")
    if ctx.params.start and plan.state is None:
        await ctx.progress(None, "starting")
    elif any(piece.how == "seed" for piece in plan.pieces):
        await write_seed(ctx)


def define(vm: VM, plan: Plan, made: Made, params: CloneParams) -> None:
    """The one transaction in which the clone's row becomes a VM."""
    with transaction.atomic():
        mapping = cloned(plan.mapping, macs=free_mac)
        mapping["name"] = params.name or copy_name(plan.mapping.get("name", ""), plan.source.vmid)
        if params.description:
            mapping["description"] = unquote(params.description)
        for piece in plan.made():
            volume, storage = made[piece.slot], piece.there[1]
            keep_volume(storage, vm.node, volume)
            mapping[piece.slot] = piece.with_volume(volume.volid, size_text(volume.size))
        save_config(vm, mapping)
        # A warm clone is one only when it has been told who it is; its end is written then.
        notes = {ONLY_FOR: vm.draft[ONLY_FOR]} if plan.state is not None else {}
        VM.everything.filter(pk=vm.pk).update(stage=VM.Stage.DEFINED, draft=notes)
        mirror.schedule(vm)
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")


def free_mac() -> str:
    """A new address that no other VM has."""
    while True:
        address = new_mac()
        if not Nic.objects.filter(mac=address).exists():
            return address


async def write_seed(ctx: Context) -> None:
    """Write the clone's cloud-init drive. Each start does it too, so a failure now is a warning."""
    try:
        await cloudinit.refresh(ctx, *await ctx.db(cloudinit.read, ctx.vm))
    except VMError as error:
        await ctx.warn(f"the cloud-init drive is written at the first start: {error}")
