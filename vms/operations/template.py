"""Convert to template: the disks become bases, which nobody writes any more and clones lie on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction

from vms.errors import ConfigError, StateError, StorageError
from vms.models import VM, Disk, Snapshot, Volume
from vms.models.configuration import config_of, is_drive, save_config, with_parts
from vms.operations.base import Context, Operation, Params, operation
from vms.operations.steps import whole
from vms.schema.option import opt
from vms.storage.names import is_base
from vms.tasks import notify


@dataclass(frozen=True, kw_only=True)
class TemplateParams(Params):
    """What Convert to template can be told."""

    disk: str | None = opt(
        "Disk",
        max_length=12,
        advanced=True,
        help="Make only this drive a base, such as scsi1; all of them without it.",
    )


@operation("qmtemplate", privilege="VM.Allocate", label="Convert to template", params=TemplateParams)
class Template(Operation):
    """Make a template of a VM. There is no way back but a full clone."""

    def check(self, vm: VM, params: Any) -> None:
        if vm.stage != VM.Stage.DEFINED:
            raise StateError(f"VM {vm.vmid} is not created yet; finish its wizard first.")
        if vm.template and not params.disk:
            raise StateError("you can't convert a template to a template")
        if vm.running:
            raise StateError("you can't convert a VM to template if VM is running", hint="Shut it down.")
        if Snapshot.objects.filter(vm=vm).exists():
            raise StateError(
                "unable to create template, because VM contains snapshots", hint="Delete its snapshots first."
            )
        convertible(with_parts(VM.everything.filter(pk=vm.pk)).get(), params.disk or "")

    async def run(self, ctx: Context) -> None:
        vm = ctx.vm
        if ctx.services.guest(vm.vmid) is not None:
            raise StateError("you can't convert a VM to template if VM is running", hint="Shut it down.")
        made: dict[str, str] = {}
        disks = convertible(vm, ctx.params.disk or "")
        for number, (disk, volume) in enumerate(disks):
            await ctx.progress(number / len(disks), f"making {disk.slot} a base")
            made[disk.slot] = await make_base(ctx, disk.slot, volume)
            ctx.step(f"{disk.slot} is a base")
        await ctx.db(become, vm, made)
        ctx.keep()
        await ctx.log(f"VM {vm.vmid} is a template")

    async def resume(self, ctx: Context) -> None:
        """Go on: what is a base already is found as one."""
        if ctx.vm.template and not ctx.params.disk:
            return
        await ctx.log("the worker was restarted; going on")
        await self.run(ctx)


def convertible(vm: VM, only: str = "") -> list[tuple[Disk, Volume]]:
    """The drives that become bases, with their volumes; ``only`` one of them where it is named.

    Raises :class:`ConfigError` on the drive that cannot.
    """
    found = []
    for disk in vm.disks.all():
        volume = disk.volume
        if disk.slot.startswith("unused") or disk.media == "cdrom" or (only and disk.slot != only):
            continue
        if volume is None:
            raise ConfigError(disk.slot, f"'{disk.file}' is no volume of a storage and cannot become a base")
        if volume.vmid != vm.vmid:
            raise ConfigError(disk.slot, f"'{volume.volid}' belongs to VM {volume.vmid}")
        if not is_base(volume.name):
            found.append((disk, volume))
    if only and not found:
        raise ConfigError("disk", f"'{only}' is no disk of VM {vm.vmid} that could become a base")
    return found


def base_name(volid: str) -> str:
    """What a disk is called once it is a base."""
    storage, _, name = volid.partition(":")
    head, slash, leaf = name.rpartition("/")
    return f"{storage}:{head}{slash}{leaf.replace('vm-', 'base-', 1)}"


async def make_base(ctx: Context, slot: str, volume: Volume) -> str:
    """Make one drive's volume a base; answers its new id. A disk again unless the task succeeds.

    Raises :class:`ConfigError` on the drive.
    """
    driver = ctx.services.storage(volume.storage.name, volume.storage.facts())
    base = base_name(volume.volid)

    async def back() -> None:
        if await there(driver, base):
            await driver.from_base(base)

    ctx.on_undo(f"base {base}", back)
    try:
        # A worker that died may have come this far.
        if await there(driver, volume.volid) or not await there(driver, base):
            await whole(driver.to_base(volume.volid))
    except StorageError as error:
        raise ConfigError(slot, str(error), hint=error.hint) from error
    await ctx.log(f"{slot}: '{volume.volid}' is now the base '{base}'")
    return base


async def there(driver: Any, volid: str) -> bool:
    """Whether the storage has that volume."""
    try:
        await driver.find(volid)
    except StorageError:
        return False
    return True


def become(vm: VM, made: dict[str, str]) -> None:
    """The one transaction in which the VM becomes a template."""
    with transaction.atomic():
        mapping = config_of(with_parts(VM.everything.filter(pk=vm.pk)).get())
        for slot, volid in made.items():
            _, comma, rest = mapping[slot].partition(",")
            row = Volume.objects.get(disks__vm=vm, disks__slot=slot)
            row.name, row.present = volid.partition(":")[2], True
            # A scan may have seen the base meanwhile and made a row of its own.
            same = Volume.objects.filter(storage=row.storage, node=row.node, name=row.name)
            same.exclude(pk=row.pk).delete()
            row.save(update_fields=["name", "present"])
            mapping[slot] = f"{volid}{comma}{rest}"
        save_config(vm, {**mapping, "template": "1"})
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")


def bases_of(vm: VM) -> list[str]:
    """The drives of a template whose volumes are bases."""
    return [
        disk.slot
        for disk in vm.disks.all()
        if disk.volume is not None and is_drive(disk.slot) and is_base(disk.volume.name)
    ]
