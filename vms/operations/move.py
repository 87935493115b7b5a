"""Move: a disk's contents go to another storage or another format, or the disk goes to another VM.

A disk nobody has open is copied; one of a running guest is mirrored until both sides are the same
(:mod:`vms.operations.mirroring`). The configuration changes in one transaction once the new volume is whole;
until then the old one is the disk, and afterwards it lies in an ``unusedN`` until it is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vms.config.upkeep import free_unused, is_seed
from vms.errors import AccessError, ConfigError, StateError, VMError
from vms.models import VM, Storage, Volume
from vms.models.configuration import config_of
from vms.models.notes import note_work
from vms.operations import cloudinit, mirroring, reassign
from vms.operations.base import Context, Operation, Params, check_clones, check_lock, operation
from vms.operations.create import NO_TPM
from vms.operations.drives import (
    Drive,
    authorise_disk,
    check_defined,
    check_digest,
    delete_volume,
    driver_of,
    find_drive,
    put_volume,
    remember,
    remove_new,
    target_storage,
    volumes_there,
)
from vms.operations.memory import to_the_end
from vms.operations.mirroring import NOTE
from vms.operations.volumes import find_volume, snapshots_with
from vms.operations.waiting import fresh_of_now
from vms.schema.option import opt
from vms.storage import base


@dataclass(frozen=True, kw_only=True)
class MoveParams(Params):
    """Which disk, and where to: a storage or a format, or another VM."""

    disk: str = opt("Disk", required=True, max_length=12, help="The disk's key, such as scsi0 or unused0.")
    storage: str | None = opt(
        "Target storage", max_length=63, help="The storage to move it to; empty: the one it lies on."
    )
    format: Literal["raw", "qcow2"] | None = opt(
        "Format", labels={"raw": "Raw disk image (raw)", "qcow2": "QEMU image format (qcow2)"},
        help="The format it gets there; empty: the one it has.",
    )  # fmt: skip
    delete: bool | None = opt(
        "Delete source", default=False,
        help="Delete the old volume afterwards; otherwise it stays as an unused disk.",
    )  # fmt: skip
    bwlimit: int | None = opt(
        "Bandwidth limit", minimum=0, maximum=1 << 40, unit="KiB/s",
        help="How fast it may be copied; 0 for as fast as it can.",
    )  # fmt: skip
    target_vmid: int | None = opt(
        "Target VM", key="target-vmid", minimum=100, maximum=999_999_999,
        help="The VM that gets the disk; its contents stay where they are.",
    )  # fmt: skip
    target_disk: str | None = opt(
        "Target disk", key="target-disk", max_length=12,
        help="The key it gets in the other VM, such as scsi1 or unused0; empty: the one it has.",
    )  # fmt: skip
    digest: str | None = opt(
        "Digest", max_length=64, hidden=True,
        help="Of the configuration the change was made from; refused when that is no longer the one.",
    )  # fmt: skip
    target_digest: str | None = opt(
        "Target digest", key="target-digest", max_length=64, hidden=True,
        help="The same for the other VM's configuration.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Move:
    """What a move within one VM comes to. ``speed`` is in bytes a second, 0 for all there is."""

    drive: Drive
    storage: Storage
    format: str
    delete: bool
    speed: int


def plan(vm: VM, params: Any) -> Move:
    """What is asked for. Raises :class:`ConfigError` or :class:`StateError` when it cannot be."""
    drive = find_drive(vm, params.disk)
    source = drive.volume
    storage = target_storage(params.storage or source.storage.name)
    formats = storage.spec.formats
    if params.format and params.format not in formats:
        raise ConfigError("format", f"storage '{storage.name}' holds {formats[0]} disks only")
    fmt = params.format or base.fitting(formats, source.format)
    if drive.is_tpm and storage.kind == Storage.Kind.RBD:
        raise ConfigError("storage", NO_TPM.format(storage.name))
    if drive.is_tpm and fmt != "raw":
        raise ConfigError("format", "a TPM's state is raw, whatever holds it")
    if storage.pk == source.storage_id and fmt == source.format:
        raise ConfigError("storage", "you can't move to the same storage with same format")
    kept = snapshots_with(source)
    if kept and params.delete:
        raise ConfigError(
            "delete", f"'{source.volid}' is in snapshot {kept[0]}: it can be moved, but not deleted"
        )
    if vm.running and drive.is_tpm:
        raise StateError(f"VM {vm.vmid} is running: its TPM has that disk open.", hint="Stop the VM first.")
    if vm.running and drive.is_seed:
        raise StateError(
            f"VM {vm.vmid} is running: its cloud-init drive is written anew where it goes.",
            hint="Stop the VM first.",
        )
    free_unused(config_of(vm))
    speed = (params.bwlimit or 0) << 10
    return Move(drive=drive, storage=storage, format=fmt, delete=bool(params.delete), speed=speed)


@operation("qmmove", privilege="VM.Config.Disk", label="Move disk", params=MoveParams)
class MoveDisk(Operation):
    """Move a disk to another storage, another format or another VM."""

    def authorise(self, user: Any, vm: VM, params: Any) -> None:
        disk = vm.disks.filter(slot=params.disk).select_related("volume__storage").first()
        here = [disk.volume.storage.name] if disk is not None and disk.volume is not None else []
        authorise_disk(user, vm, *([params.storage] if params.storage else here))
        if params.target_vmid:
            target = VM.objects.filter(vmid=params.target_vmid).select_related("pool").first()
            if target is None:
                raise AccessError(f"Permission check failed (/vms/{params.target_vmid}, VM.Config.Disk)")
            authorise_disk(user, target)

    def check(self, vm: VM, params: Any) -> None:
        check_defined(vm)
        check_digest(vm, params.digest)
        if params.target_vmid is not None:
            target = reassign.plan(vm, params).target
            check_lock(self, target)
            check_clones(self, target)
        elif params.target_disk is not None:
            raise ConfigError("target-disk", "goes with target-vmid only")
        elif params.storage is None and params.format is None:
            raise ConfigError("storage", "is missing: say where the disk shall go, or to which VM")
        else:
            plan(vm, params)

    def title(self, vm: VM, params: Any) -> str:
        where = f" to VM {params.target_vmid}" if params.target_vmid else ""
        return f"Move {params.disk} of {vm.vmid} ({vm.display_name}){where}"

    async def run(self, ctx: Context) -> None:
        if ctx.params.target_vmid is not None:
            await reassign.carry_out(ctx)
            return
        move = await ctx.db(plan, ctx.vm, ctx.params)
        drive, source = move.drive, move.drive.volume
        before = sorted(await volumes_there(ctx, move.storage, ctx.vm.vmid))
        await remember(ctx, {NOTE: {"source": source.volid, "before": before}})
        ctx.step("noted")
        live = ctx.services.guest(ctx.vm.vmid) is not None and not drive.is_unused
        if drive.is_seed:
            await rewrite_seed(ctx, move)
        elif live:
            await mirroring.carry_out(ctx, drive, move.storage, move.format, move.speed)
        else:
            await copy_disk(ctx, move)
        await to_the_end(finish(ctx, source, delete=move.delete or drive.is_seed))
        if live:
            await mirroring.trim(ctx)

    async def resume(self, ctx: Context) -> None:
        """When the disk was moved already, what was left to do is done; otherwise nothing of it is left."""
        if ctx.params.target_vmid is not None:
            await reassign.settle(ctx)
            return
        await settle(ctx)


async def copy_disk(ctx: Context, move: Move) -> None:
    """Copy a disk that no guest has open, and put the copy in its place."""
    source = move.drive.volume

    async def told(fraction: float) -> None:
        await ctx.progress(fraction, f"copying {move.drive.slot}: {fraction:.0%}")

    target = driver_of(ctx, move.storage)
    await ctx.log(f"{move.drive.slot}: copying '{source.volid}' to storage '{move.storage.name}'")
    async with driver_of(ctx, source.storage).reading(source.volid) as (found, _):
        made = await target.copy(ctx.vm.vmid, found, move.format, told, speed=move.speed)
    ctx.on_undo(f"volume {made.volid}", lambda: remove_new(ctx, move.storage, made.volid))
    ctx.step("copied")
    await put(ctx, move, made)


async def rewrite_seed(ctx: Context, move: Move) -> None:
    """A cloud-init drive is not copied: it is written anew where it goes."""
    driver = driver_of(ctx, move.storage)
    made = await driver.allocate_seed(ctx.vm.vmid, cloudinit.blank(), move.format)
    ctx.on_undo(f"volume {made.volid}", lambda: remove_new(ctx, move.storage, made.volid))
    ctx.step("seed made")
    await put(ctx, move, made)
    await cloudinit.refresh(ctx, *await ctx.db(cloudinit.read, ctx.vm))


async def put(ctx: Context, move: Move, made: base.Volume) -> None:
    """The new volume is the disk from here on, whatever comes."""

    async def both() -> None:
        await ctx.db(lambda: put_volume(ctx.vm, move.drive, move.storage, made, live=False))
        ctx.keep()

    await to_the_end(both())
    ctx.step("stored")
    await ctx.log(f"{move.drive.slot}: is '{made.volid}' now")


async def finish(ctx: Context, source: Volume, *, delete: bool) -> None:
    """Delete the old volume when that was asked for; what fails here is a warning, the disk has moved."""
    await ctx.progress(None, "")
    if delete:
        try:
            await delete_volume(ctx, source)
        except VMError as error:
            await ctx.warn(f"the old volume was not deleted: {error}")
    mapping = config_of(await ctx.db(fresh_of_now, ctx.vm))
    left = next((key for key, text in mapping.items() if text == source.volid), "")
    if left:
        await ctx.log(f"the old volume '{source.volid}' is {left} now")
    await ctx.db(note_work, ctx.vm, {})


async def settle(ctx: Context) -> None:
    """A worker died during a move: go on when the disk was moved, else see that nothing is left of it."""
    slot, note = ctx.params.disk, ctx.vm.draft.get(NOTE)
    if note is None:
        raise StateError(f"The worker was restarted before {slot} was moved.", hint="Move it again.")
    source = await ctx.db(find_volume, note["source"], ctx.vm.node)
    storage = await ctx.db(target_storage, ctx.params.storage or source.storage.name)
    new = await volumes_there(ctx, storage, ctx.vm.vmid) - set(note["before"])
    drive = await ctx.db(find_drive, ctx.vm, slot)
    await ctx.log("the worker was restarted during this move")
    if not await mirroring.settle(ctx, drive, source, storage, new):
        for volid in sorted(new):
            await remove_new(ctx, storage, volid)
        await ctx.db(note_work, ctx.vm, {})
        raise StateError(
            f"The worker was restarted while {slot} was being moved; it is where it was.",
            hint="Move it again.",
        )
    seed = is_seed(source.volid)
    if seed:
        await cloudinit.refresh(ctx, *await ctx.db(cloudinit.read, ctx.vm))
    await finish(ctx, source, delete=bool(ctx.params.delete) or seed)
