"""Backup: a VM, as it is at one moment, in one file (PVE's ``vzdump``).

A running guest goes on while it is read; it stands still for some milliseconds, its file systems frozen for
them where its agent helps. ``VM.draft`` tells whoever has to end an unfinished backup what there is of it.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vms import access
from vms.backup.archive import ArchiveWriter
from vms.config import backupnotes, retention
from vms.errors import QemuError, StateError, StorageError, VMError
from vms.models import VM
from vms.operations import backupplan, backupread, backupwrite, freeze
from vms.operations.backupplan import Plan
from vms.operations.backupread import Reading
from vms.operations.backupsettle import settle_left
from vms.operations.backupstop import restarted
from vms.operations.backupwrite import KIB, Diary
from vms.operations.base import Context, Operation, Params, operation
from vms.operations.drives import driver_of
from vms.operations.steps import whole
from vms.schema.option import opt
from vms.storage import dump
from vms.storage.names import backup_part

NO_ROOM = 64 << 20
"""Bytes; a file system with less is full to most."""


@dataclass(frozen=True, kw_only=True)
class BackupParams(Params):
    """What Backup can be told, under PVE's names."""

    storage: str | None = opt(
        "Storage",
        default=backupplan.STORAGE,
        max_length=63,
        help="Where the backup goes; it has to take backups.",
    )
    mode: Literal["snapshot", "suspend", "stop"] | None = opt(
        "Mode", default="snapshot", labels={"snapshot": "Snapshot", "suspend": "Suspend", "stop": "Stop"},
        help="How a running guest is brought to one state: going on, paused for a moment, or shut down and "
        "started again.",
    )  # fmt: skip
    compress: Literal["0", "zstd"] | None = opt(
        "Compression", default="0", labels={"0": "none", "zstd": "Zstandard"},
        help="Whether the archive is packed.",
    )  # fmt: skip
    bwlimit: int | None = opt(
        "Bandwidth limit", default=0, minimum=0, maximum=1 << 40, unit="KiB/s",
        help="How fast disks are read at most; 0 for as fast as it goes.",
    )  # fmt: skip
    notes_template: str | None = opt(
        "Notes", key="notes-template", max_length=1000, lines=True, check=backupnotes.checked,
        help="What is kept beside the backup; {{guestname}}, {{vmid}}, {{node}} and {{cluster}} stand for "
        "what they say.",
    )  # fmt: skip
    protected: bool | None = opt(
        "Protected", default=False, help="Neither retention nor a person removes it."
    )
    prune_backups: str | None = opt(
        "Retention", key="prune-backups", max_length=200, check=retention.canonical,
        help="What stays of this VM's backups on the storage: keep-last=3,keep-daily=7. Without it the "
        "storage's own rules hold.",
    )  # fmt: skip
    remove: bool | None = opt(
        "Prune", default=True, help="Remove what retention does not keep, once the backup is there."
    )
    fleecing: str | None = opt(
        "Fleecing", max_length=200, check=backupplan.fleecing,
        help="Where goes what the guest overwrites meanwhile: enabled=1,storage=NAME.",
    )  # fmt: skip
    stopwait: int | None = opt(
        "Shutdown timeout", default=10, minimum=0, maximum=1440, unit="min",
        help="How long the guest may take to shut down in mode stop.",
    )  # fmt: skip


@operation("vzdump", privilege="VM.Backup", label="Backup", lock="backup", params=BackupParams)
class Backup(Operation):
    """Put the VM into an archive."""

    reads = True

    def authorise(self, user: Any, vm: VM, params: Any) -> None:
        access.require_vm(user, self.privilege, vm)
        access.require(user, "Datastore.AllocateSpace", f"/storage/{params.storage or backupplan.STORAGE}")
        chosen = backupplan.Fleecing.parse(params.fleecing, "fleecing") if params.fleecing else None
        if chosen is not None and chosen.enabled:
            access.require(user, "Datastore.AllocateSpace", f"/storage/{chosen.storage}")

    def check(self, vm: VM, params: Any) -> None:
        backupplan.check_state(vm, params.mode or "snapshot")
        backupplan.target(params.storage)
        backupplan.fleece_storage(params.fleecing)

    async def run(self, ctx: Context) -> None:
        began = time.monotonic()
        driver = driver_of(ctx, await ctx.db(backupplan.target, ctx.params.storage))
        folder: Path = driver.dump_folder

        def taken(name: str) -> bool:
            return any((folder / one).exists() for one in (name, backup_part(name)))

        plan = await ctx.db(backupplan.make, ctx.vm, ctx.params, taken)
        diary = Diary(ctx)
        await introduce(ctx, plan, diary)
        ctx.on_undo("its notes", lambda: backupread.forget(ctx))
        await backupread.remember(ctx, task=ctx.task.pk, storage=plan.storage.name, archive=plan.name)
        ctx.step("noted")
        reading, plan = await self._opened(ctx, plan)
        ctx.on_undo(f"archive {plan.name}", lambda: asyncio.to_thread(dump.abandon, folder, plan.name))
        await self._written(ctx, plan, reading, diary)
        size = (folder / backup_part(plan.name)).stat().st_size
        await diary.log(f"archive: '{plan.volid}', {backupwrite.mib(size)} MiB")
        await diary.log(f"finished after {time.monotonic() - began:.0f} s")
        await whole(backupwrite.complete(ctx, plan, diary))
        await backupwrite.make_room(ctx, plan.storage)

    @staticmethod
    async def _opened(ctx: Context, plan: Plan) -> tuple[Reading, Plan]:
        """The disks, ready to be read, and the plan as the machine is by then."""
        mode, guest = ctx.params.mode or "snapshot", ctx.services.guest(plan.vm.vmid)
        if guest is None:
            await ctx.log("the VM is off: its disks are read as they are")
            return await backupread.open_off(ctx, plan), plan
        if mode == "stop":
            return await restarted(ctx, plan, guest)
        calm = mode == "snapshot" and freeze.wanted(plan.mapping)
        return await backupread.open_live(ctx, plan, guest, freeze=calm, go_on=False), plan

    @staticmethod
    async def _written(ctx: Context, plan: Plan, reading: Reading, diary: Diary) -> None:
        descriptor = await asyncio.to_thread(backupwrite.begin, ctx, plan)
        limit = (ctx.params.bwlimit or 0) * KIB
        try:
            ctx.step("archive begun")
            async with ArchiveWriter(descriptor, ctx.params.compress or "0", limit) as writer:
                try:
                    writing = backupwrite.write(ctx, plan, reading, writer, diary)
                    await backupread.while_whole(ctx, plan, reading, writing)
                except (QemuError, StorageError) as error:
                    raise await explained(ctx, plan, reading, error) from error
                await backupread.close(ctx, plan.vm, reading)
                ctx.step("disks let go")
                await ctx.progress(1, "writing it to the disk")
                await writer.finish()
        finally:
            os.close(descriptor)
        ctx.step("archive written")

    async def resume(self, ctx: Context) -> None:
        """A whole archive stays, an unfinished one goes; the guest does what it did before."""
        if await settle_left(ctx):
            await ctx.log("the worker was restarted when the archive was complete already")
            return
        raise StateError(
            f"The worker was restarted in the middle of this backup; nothing is left of it. "
            f"{await self.now(ctx)}"
        )


async def introduce(ctx: Context, plan: Plan, diary: Diary) -> None:
    """The first lines of the log: what was asked for, and what is left out."""
    asked = [f"--{name} {shlex.quote(str(text))}" for name, text in sorted(ctx.task.params.items())]
    await diary.log(f"starting new backup job: vzdump {plan.vm.vmid} {' '.join(asked)}".rstrip())
    await diary.log(f"VM {plan.vm.vmid} ({plan.vm.display_name}) is {plan.vm.status}")
    for held in plan.disks:
        await diary.log(f"include {held.key}: '{held.volume.volid}'")
    for key, why in plan.left_out.items():
        await diary.log(f"leave out {key}: {why}")
    if plan.vm.pending:
        await diary.log("pending changes are no part of a backup")
    if plan.vm.parent_id is not None:
        await diary.log("snapshots are no part of a backup")


async def explained(ctx: Context, plan: Plan, reading: Reading, error: VMError) -> VMError:
    """Why the archive could not be written, if more is known than the error says."""
    if not reading.drives or not (isinstance(error, QemuError) or str(error).startswith("NBD:")):
        return error
    vmid = plan.vm.vmid
    if await ctx.services.gone(vmid, 2) or await ctx.services.observe(vmid) == VM.Status.STOPPED:
        return StateError(f"VM {vmid} was stopped while it was backed up; nothing is left of the backup.")
    folders = {backupread.fleece_folder(ctx, plan, held) for held in plan.disks}
    full = [str(one) for one in sorted(folders) if await asyncio.to_thread(dump.room, one) < NO_ROOM]
    if full:
        return StateError(
            f"What the guest overwrote meanwhile could not be kept, because {full[0]} has no room left. The "
            "backup was given up; the guest goes on.",
            hint="Make room there, or choose another storage for fleecing.",
        )
    return StateError(f"A disk could no longer be read as it was: {error}. The guest goes on.")
