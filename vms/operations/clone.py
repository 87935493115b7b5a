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

from vms.config.cloning import copy_name
from vms.errors import ConfigError, StateError, VMError
from vms.models import VM, Pool, Task, Volume
from vms.models.configuration import config_of, save_config, size_text
from vms.operations import clonelive, cloneplan, clonevolumes, cloudinit, mirror, warmclone
from vms.operations.base import Context, Operation, operation, parse_params, submit
from vms.operations.cloneplan import CloneParams, Plan
from vms.operations.clonevolumes import Made
from vms.operations.drafts import new_draft
from vms.operations.inmemory import as_clone, unsaved
from vms.operations.memory import to_the_end
from vms.operations.protection import note_owner
from vms.operations.start import bring_up, came_up
from vms.operations.steps import Branch
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
        # Kept for run, which follows at once: nobody changes a VM that is being cloned.
        vm.__dict__["plan"] = cloneplan.plan_of(params, vm)

    async def run(self, ctx: Context) -> None:
        plan: Plan = ctx.vm.__dict__["plan"]
        try:
            await clonevolumes.remember(ctx, plan)
            ctx.step("source read")
            made = await clonevolumes.make(ctx, plan)
            mapping = configuration(plan, made, ctx.params)
            await begin(ctx, plan, as_clone(ctx.vm, mapping, volumes(ctx.vm, plan, made)))
            # From here on a cancellation comes too late: the VM is there, whole, in a moment.
            await to_the_end(settle(ctx, plan, made, mapping))
        except VMError as error:
            raise StateError(f"clone failed: {error}", hint=error.hint) from error
        if plan.state is not None and plan.seeded:
            await warmclone.finish(ctx)

    async def resume(self, ctx: Context) -> None:
        """Well when the VM was there already; else nothing is left, its number included."""
        vm = ctx.vm
        if vm.stage == VM.Stage.DEFINED:
            if (ctx.params.start or ctx.params.warm) and await came_up(ctx) == VM.Status.STOPPED:
                await ctx.warn("the clone is there, but it does not run")
            return
        await warmclone.over(ctx)
        await clonelive.let_go(ctx, ctx.params.clone_of)
        await clonevolumes.remove_left(ctx)
        raise StateError(
            f"The worker was restarted while VM {vm.vmid} was being cloned. Nothing of it is left.",
            hint="Clone again.",
        )


def configuration(plan: Plan, made: Made, params: CloneParams) -> dict[str, str]:
    """The clone's configuration, with its volumes in its drives."""
    mapping = dict(plan.anew)
    mapping["name"] = params.name or copy_name(plan.mapping.get("name", ""), plan.source.vmid)
    if params.description:
        mapping["description"] = unquote(params.description)
    for piece in plan.made():
        volume = made[piece.slot]
        mapping[piece.slot] = piece.with_volume(volume.volid, size_text(volume.size))
    return mapping


def volumes(vm: VM, plan: Plan, made: Made) -> dict[str, Volume]:
    """What is in the clone's drives, by slot. The rows of new volumes are not saved yet."""
    found = {piece.slot: piece.volume for piece in plan.pieces if piece.volume is not None}
    return found | {piece.slot: unsaved(vm, piece.there[1], made[piece.slot]) for piece in plan.made()}


async def begin(ctx: Context, plan: Plan, born: VM) -> None:
    """Start the clone, when that was asked for, before its rows are written: that is time somebody waits.

    A boot that fails is a warning, the clone being there; a warm one is no clone before it runs and is told.
    """
    cold = ctx.params.start and plan.state is None
    if not cold and plan.seeded:
        await write_seed(ctx, born)
    if plan.state is not None:
        await warmclone.begin(ctx, born, plan.state)
    elif cold:
        await ctx.log("Execute autostart")
        branch = Branch(ctx, f"start of VM {born.vmid}")
        try:
            await bring_up(branch.ctx, born)
            ctx.step("runs")
        except VMError as error:
            await branch.roll_back()
            await ctx.warn(f"start failed: {error}")


async def settle(ctx: Context, plan: Plan, made: Made, mapping: Mapping[str, str]) -> None:
    """Make the row a VM and its volumes the VM's for good."""
    await ctx.db(define, ctx.vm, plan, made, mapping, ctx.task.username)
    ctx.keep()
    ctx.step("defined")
    if plan.source.pending and not plan.snapshot:
        keys = ", ".join(sorted(plan.source.pending))
        await ctx.warn(f"found pending changes for '{keys}', discarding for clone")
    how = "full" if plan.full else "linked"
    await ctx.log(f"VM {ctx.vm.vmid} is a {how} clone of {plan.source.vmid}")


def define(vm: VM, plan: Plan, made: Made, mapping: Mapping[str, str], who: str) -> None:
    """The one transaction in which the clone's row becomes a VM."""
    with transaction.atomic():
        for piece in plan.made():
            keep_volume(piece.there[1], vm.node, made[piece.slot])
        save_config(vm, mapping)
        note_owner(vm, who, f"taken over from VM {plan.source.vmid}")
        VM.everything.filter(pk=vm.pk).update(stage=VM.Stage.DEFINED, draft={})
        mirror.schedule(vm)
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")


async def write_seed(ctx: Context, born: VM) -> None:
    """Write the clone's cloud-init drive. Each start does it too, so a failure now is a warning."""
    try:
        await cloudinit.refresh(ctx, born, config_of(born))
    except VMError as error:
        await ctx.warn(f"the cloud-init drive is written at the first start: {error}")
