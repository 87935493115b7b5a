"""A disk goes to another VM: its volume gets the other's number, its contents stay where they are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from vms.config.upkeep import is_unused, volume_of, without_devices
from vms.config.vmconfig import parse_value
from vms.errors import ConfigError, StateError
from vms.hardware import part_of
from vms.models import VM, Volume
from vms.models.configuration import config_of, is_drive, save_config, size_text, with_parts
from vms.models.notes import note_work
from vms.operations.base import Context
from vms.operations.drives import (
    FIRMWARE,
    Drive,
    check_defined,
    check_digest,
    driver_of,
    find_drive,
    remember,
    volumes_there,
)
from vms.operations.memory import to_the_end
from vms.operations.waiting import fresh_of, fresh_of_now, needed_by
from vms.schema.option import options_of
from vms.storage import base
from vms.tasks import notify

NOTE = "reassign"
"""In ``VM.draft`` of the VM that gives: the volume, and what the other one had on that storage before."""


@dataclass(frozen=True, kw_only=True)
class Gift:
    """What a reassignment comes to: the drive, who gets it, the key it has there and its value but for the
    volume's new name."""

    drive: Drive
    target: VM
    key: str


def plan(vm: VM, params: Any) -> Gift:
    """What is asked for. Raises :class:`ConfigError` or :class:`StateError` when it cannot be."""
    for name in ("storage", "format", "delete", "bwlimit"):
        if getattr(params, name):
            raise ConfigError(name, "does not go with target-vmid: the disk stays where it lies")
    drive = find_drive(vm, params.disk)
    target = _target(vm, params)
    if drive.is_seed:
        raise ConfigError("disk", "a cloud-init drive is its own VM's; it cannot be given away")
    reason = needed_by(drive.volume)
    if reason:
        raise ConfigError("disk", reason)
    if drive.volume.vmid != vm.vmid:
        raise ConfigError("disk", f"'{drive.volume.volid}' is not this VM's own")
    if vm.running and not drive.is_unused:
        raise StateError(
            f"VM {vm.vmid} is running: {drive.slot} is in use there.",
            hint="Stop it, or detach the disk first.",
        )
    key = params.target_disk or drive.slot
    if key != drive.slot and not is_unused(key) and (key in FIRMWARE or drive.slot in FIRMWARE):
        raise ConfigError("target-disk", f"{drive.slot} cannot become {key}")
    _check_key(target, key)
    parse_value(key, given_text(key, drive, drive.volume.volid))
    return Gift(drive=drive, target=target, key=key)


def _target(vm: VM, params: Any) -> VM:
    if params.target_vmid == vm.vmid:
        raise ConfigError("target-vmid", "is this VM itself; choose another key by detaching and attaching")
    target: VM | None = with_parts(VM.objects.filter(vmid=params.target_vmid)).first()
    if target is None:
        raise ConfigError("target-vmid", f"there is no VM {params.target_vmid}")
    if target.node_id != vm.node_id:
        raise ConfigError("target-vmid", f"VM {target.vmid} is on node {target.node.name}, the disk is not")
    check_defined(target)
    check_digest(target, params.target_digest)
    return target


def _check_key(target: VM, key: str) -> None:
    """Raise unless the disk can become ``key`` of that VM now."""
    if not is_drive(key):
        raise ConfigError("target-disk", f"'{key[:40]}' is no disk; write scsi1 or unused0")
    if key in config_of(target) or target.pending.get(key):
        raise ConfigError("target-disk", f"'{key}' is already in use in VM {target.vmid}")
    if target.running and not is_unused(key):
        raise StateError(
            f"VM {target.vmid} is running.",
            hint="Give it the disk as unused0 and attach it there, or stop it.",
        )


def given_text(key: str, drive: Drive, volid: str) -> str:
    """The drive's value under another key: options that bus does not know are left behind."""
    part = part_of(key)
    if is_unused(key) or part is None:
        return volid
    known = {option.name for option in options_of(part)} - {"format"}
    pairs = [pair.partition("=") for pair in drive.text.split(",")[1:]]
    rest = {name: value for name, _, value in pairs if name in known}
    rest["size"] = size_text(drive.volume.size)
    return ",".join([volid, *(f"{name}={rest[name]}" for name in sorted(rest))])


async def carry_out(ctx: Context) -> None:
    """Rename the volume, then change both configurations in one transaction."""
    gift = await ctx.db(plan, ctx.vm, ctx.params)
    volume = gift.drive.volume
    driver = driver_of(ctx, volume.storage)
    before = sorted(await volumes_there(ctx, volume.storage, gift.target.vmid))
    await remember(ctx, {NOTE: {"source": volume.volid, "before": before}})
    ctx.step("noted")

    async def both() -> None:
        made = await driver.rename(volume.volid, gift.target.vmid)
        ctx.on_undo(f"the name of {volume.volid}", lambda: _name_back(ctx, volume, made.volid))
        ctx.step("renamed")
        await ctx.db(hand_over, ctx.vm, gift, made)
        ctx.keep()
        await ctx.log(f"'{volume.volid}' is '{made.volid}' now, {gift.key} of VM {gift.target.vmid}")

    await to_the_end(both())
    ctx.step("stored")
    await ctx.db(note_work, ctx.vm, {})


async def _name_back(ctx: Context, volume: Volume, volid: str) -> None:
    """Give a renamed volume the name it had."""
    number = re.search(r"-disk-([0-9]+)", volume.volid.rpartition("/")[2])
    wanted = int(number[1]) if number else None
    await driver_of(ctx, volume.storage).rename(volid, ctx.vm.vmid, wanted)


def hand_over(vm: VM, gift: Gift, made: base.Volume) -> None:
    """The one transaction in which the disk changes hands."""
    volume = gift.drive.volume
    with transaction.atomic():
        giver, taker = fresh_of(vm), fresh_of(gift.target)
        mine = config_of(giver)
        del mine[gift.drive.slot]
        without_devices(mine, [gift.drive.slot])
        save_config(giver, mine)
        waiting = {key: text for key, text in giver.pending.items() if key.lstrip("!") != gift.drive.slot}
        VM.everything.filter(pk=giver.pk).update(pending=waiting)
        name = made.volid.partition(":")[2]
        # A scan may have met the file under its new name, and missed it under the old.
        Volume.objects.filter(storage=volume.storage, name=name, disks=None).exclude(pk=volume.pk).delete()
        Volume.objects.filter(pk=volume.pk).update(name=name, vmid=taker.vmid, present=True)
        theirs = config_of(taker)
        theirs[gift.key] = given_text(gift.key, gift.drive, made.volid)
        save_config(taker, theirs)
    notify.changed(f"vm-{vm.vmid}", f"vm-{gift.target.vmid}", "storage")


async def settle(ctx: Context) -> None:
    """A worker died meanwhile: the disk is the other's, or it is as it was."""
    note = ctx.vm.draft.get(NOTE)
    if note is None:
        raise StateError(
            f"The worker was restarted before {ctx.params.disk} was given away.", hint="Do it again."
        )
    await ctx.db(note_work, ctx.vm, {})
    mapping = await ctx.db(lambda: config_of(fresh_of_now(ctx.vm)))
    if volume_of(mapping.get(ctx.params.disk, "")) != note["source"]:
        await ctx.log("the worker was restarted after the disk had changed hands")
        return
    volume = (await ctx.db(find_drive, ctx.vm, ctx.params.disk)).volume
    for volid in sorted(
        await volumes_there(ctx, volume.storage, ctx.params.target_vmid) - set(note["before"])
    ):
        await _name_back(ctx, volume, volid)
        await ctx.log(f"'{volid}' is '{volume.volid}' again")
    raise StateError(
        f"The worker was restarted while {ctx.params.disk} was being given away; it is where it was.",
        hint="Do it again.",
    )
