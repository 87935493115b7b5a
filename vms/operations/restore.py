"""Restore: a VM as it was in a backup, under a new number or in the place of one that is there.

New disks are made, written and proved against the archive's sums while the old ones stay untouched. The
configuration changes over in one transaction; only then the old disks are freed. Whatever fails before leaves
what was there as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import transaction

from vms import access
from vms.errors import AccessError, ConfigError, StateError, StorageError, VMError
from vms.models import VM, Node, Task, Volume
from vms.models.configuration import save_config, size_text
from vms.models.notes import note_work
from vms.operations import mirror, restoreplan, restoresnaps, restorevolumes
from vms.operations.archivefile import present_backup, reading
from vms.operations.backuprights import require_backup
from vms.operations.base import Context, Operation, Params, operation, parse_params, submit
from vms.operations.clone import pool_named
from vms.operations.cloneplan import storage_named
from vms.operations.create import start_after
from vms.operations.destroy import check_bases
from vms.operations.drafts import new_draft
from vms.operations.drives import driver_of
from vms.operations.memory import to_the_end
from vms.operations.protection import check_protection, note_owner
from vms.operations.restoreplan import Plan
from vms.operations.restorevolumes import DONE, GONE, SHOTS, Made
from vms.operations.start import came_up
from vms.operations.volumes import keep_volume
from vms.qemu.diskserver import end_left
from vms.schema.option import opt
from vms.storage.names import backup_begun
from vms.tasks import notify
from vms.tasks.queue import ONLY_FOR


@dataclass(frozen=True, kw_only=True)
class RestoreParams(Params):
    """What Restore can be told. The VM that is made, or replaced, is the task's own."""

    archive: str = opt(
        "Backup", required=True, hidden=True, max_length=300, help="Its id: STORAGE:backup/vzdump-qemu-…."
    )
    storage: str | None = opt(
        "Storage", max_length=63, help="Where all its disks go; without it each goes where it was."
    )
    force: bool | None = opt(
        "Overwrite",
        default=False,
        help="Replace the VM that has this number, its snapshots too; it has to be stopped.",
    )
    unique: bool | None = opt(
        "Unique", default=False, help="Give it new MAC addresses and a new UUID, as a copy of the VM needs."
    )
    start: bool | None = opt("Start after restore", default=False, help="Start the VM once it is there.")
    bwlimit: int | None = opt(
        "Bandwidth limit", minimum=0, maximum=1 << 40, unit="KiB/s", help="How fast it is read at most."
    )
    pool: str | None = opt("Resource pool", max_length=100, help="The pool a new VM is put into.")


def restore(
    archive: str, user: Any, *, node: Node, vmid: int | None = None, params: Mapping[str, str] | None = None
) -> Task:
    """Ask for a restore of the backup ``archive`` (its volume id) on ``node``.

    ``vmid`` None takes the number the backup was made of when it is free, else the next free one; the row
    holds it from now on. ``params`` are texts as a door received them (:class:`RestoreParams`). Raises
    :class:`AccessError`, :class:`ConfigErrors`, :class:`StateError`, :class:`NotFound`; nothing is reserved
    then.
    """
    given = {key: text for key, text in (params or {}).items() if text != ""} | {"archive": archive}
    parsed: RestoreParams = parse_params(RestoreParams, given)
    if user is not None:
        require_backup(user, archive)
    present_backup(archive, node)
    with transaction.atomic():
        there = VM.objects.filter(vmid=vmid).first() if vmid is not None else None
        if there is not None:
            if not parsed.force:
                text = f"VM {vmid} already exists; say 'force' to replace it, or choose another number"
                raise ConfigError("vmid", text)
            return submit("qmrestore", vm=there, user=user, params=given)
        target = new_draft(user, node, vmid=vmid or _free_own(archive), pool=pool_named(parsed.pool))
        task = submit("qmrestore", vm=target, user=user, params=given)
        VM.everything.filter(pk=target.pk).update(draft={ONLY_FOR: task.pk})
    return task


def _free_own(archive: str) -> int | None:
    """The number in the backup's name, when no VM has it."""
    begun = backup_begun(archive.partition(":")[2].removeprefix("backup/"))
    return None if begun is None or VM.everything.filter(vmid=begun[0]).exists() else begun[0]


@operation("qmrestore", privilege="VM.Backup", label="Restore", lock="create", params=RestoreParams)
class Restore(Operation):
    """Make the VM what a backup holds."""

    def title(self, vm: VM, params: RestoreParams) -> str:
        how = "Restore VM" if vm.stage == VM.Stage.DRAFT else "Restore over VM"
        return f"{how} {vm.vmid} from {params.archive.rpartition('/')[2]}"

    def authorise(self, user: Any, vm: VM, params: RestoreParams) -> None:
        """The backup, the VM, and room; what its configuration needs is asked once that is read."""
        require_backup(user, params.archive)
        pool = vm.pool.name if vm.pool else ""
        wanted = "VM.Allocate" if vm.stage == VM.Stage.DRAFT else "VM.Backup"
        access.require(user, wanted, vm.path, pool=pool)
        if params.start:
            access.require(user, "VM.PowerMgmt", vm.path, pool=pool)
        if params.storage:
            access.require(user, "Datastore.AllocateSpace", f"/storage/{params.storage}")

    def check(self, vm: VM, params: RestoreParams) -> None:
        present_backup(params.archive, vm.node)
        if params.storage:
            storage_named(params.storage)
        if vm.stage == VM.Stage.DRAFT:
            return
        if not params.force:
            raise StateError(f"VM {vm.vmid} already exists", hint="Say 'force' to replace it.")
        if vm.running:
            raise StateError(f"unable to restore VM {vm.vmid} - vm is running", hint="Stop it first.")
        check_protection(vm, f"VM {vm.vmid}")
        check_bases(vm)
        if vm.vmstate_id is not None:
            raise StateError(f"VM {vm.vmid} keeps saved memory.", hint="Discard it first.")

    async def run(self, ctx: Context) -> None:
        if ctx.services.guest(ctx.vm.vmid) is not None:
            raise StateError(f"unable to restore VM {ctx.vm.vmid} - vm is running", hint="Stop it first.")
        backup = await ctx.db(present_backup, ctx.params.archive, ctx.services.node)
        await ctx.log(f"restoring '{backup.volid}'")
        async with reading(ctx, backup, "restore", limit=(ctx.params.bwlimit or 0) * 1024) as found:
            plan = await planned(ctx, backup, found.manifest, found.conf)
            await restorevolumes.remember(ctx, plan)
            ctx.step("noted")
            made = await restorevolumes.make(ctx, plan, backup)
            await restorevolumes.fill(ctx, plan, made, found)
        ctx.step("written")
        if plan.template:
            await restorevolumes.as_bases(ctx, plan, made)
        # From here on a cancellation comes too late: the VM is there, whole, in a moment.
        await to_the_end(settle(ctx, plan, made))
        await ctx.progress(None, "")
        await restorevolumes.free_old(ctx, plan.gone)
        await restoresnaps.remove_shots(ctx, plan.shots)
        await finish(ctx)

    async def resume(self, ctx: Context) -> None:
        """Well when the VM was there already; else all is as it was before."""
        vm = ctx.vm
        if vm.stage == VM.Stage.DEFINED and vm.draft.get(DONE) == ctx.task.pk:
            await end_left(restorevolumes.folder(ctx))
            await restorevolumes.free_old(ctx, list(vm.draft[GONE]))
            await restoresnaps.remove_shots(ctx, list(vm.draft[SHOTS]))
            ctx.at_end(partial(note_work, vm, {}))
            if ctx.params.start and await came_up(ctx) == VM.Status.STOPPED:
                await ctx.services.clean(vm.vmid)
                await ctx.warn("the VM is restored, but it does not run")
            return
        await restorevolumes.remove_left(ctx)
        if vm.stage == VM.Stage.DRAFT:
            raise StateError(
                f"The worker was restarted while VM {vm.vmid} was being restored. Nothing of it is left.",
                hint="Restore it again.",
            )
        await ctx.db(note_work, vm, {})
        raise StateError(
            f"The worker was restarted while VM {vm.vmid} was being restored. It is as it was.",
            hint="Restore it again.",
        )


async def planned(ctx: Context, backup: Volume, manifest: Any, conf: bytes) -> Plan:
    """What the archive makes of the VM. Raises :class:`StorageError` that names the archive."""

    def make(formats: Mapping[str, tuple[str, ...]]) -> Plan:
        plan = restoreplan.plan_of(ctx.vm, manifest, conf, ctx.params, formats)
        restoresnaps.plan_snapshots(plan, ctx.vm)
        restoreplan.authorise(ctx.user, ctx.vm, plan)
        return plan

    rows = await ctx.db(restoreplan.stores)
    formats = {}
    for row in rows:
        try:
            formats[row.name] = tuple(driver_of(ctx, row).formats)
        except StorageError:
            continue  # of a kind this node cannot use; a disk for it is refused when it is made
    try:
        plan = await ctx.db(make, formats)
    except AccessError:
        raise
    except VMError as error:
        raise StorageError(f"backup '{backup.volid}': qemu.conf: {error}", hint=error.hint) from error
    for text in plan.notes:
        await ctx.log(text)
    for text in plan.warnings:
        await ctx.warn(text)
    return plan


async def settle(ctx: Context, plan: Plan, made: Made) -> None:
    """Make the row the restored VM, for good."""
    await ctx.db(define, ctx.vm, plan, made, ctx.task)
    ctx.keep()
    ctx.step("defined")
    await ctx.log(f"VM {ctx.vm.vmid} is restored")


def define(vm: VM, plan: Plan, made: Made, task: Task) -> None:
    """The one transaction in which the VM becomes what the backup holds."""
    with transaction.atomic():
        mapping = dict(plan.mapping)
        for piece in plan.pieces:
            volume = made[piece.slot]
            keep_volume(piece.storage, vm.node, volume)
            mapping[piece.slot] = piece.with_volume(volume.volid, size_text(volume.size))
        values: dict[str, Any] = {
            "stage": VM.Stage.DEFINED, "draft": {GONE: plan.gone, SHOTS: plan.shots, DONE: task.pk},
            "foreign": dict(plan.kept), "pending": {}, "parent": None, "seed": {}, "launch": {}, "agent": {},
        }  # fmt: skip
        VM.everything.filter(pk=vm.pk).update(**values)
        vm.snapshots.all().delete()
        save_config(vm, mapping)
        note_owner(vm, task.username, "as it was in its backup")
        mirror.schedule(vm)
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")


async def finish(ctx: Context) -> None:
    """Start it where that was asked for; the VM is there either way."""
    if ctx.params.start:
        await ctx.log("Execute autostart")
        await start_after(ctx)
    ctx.at_end(partial(note_work, ctx.vm, {}))
