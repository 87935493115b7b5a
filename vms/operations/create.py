"""Create: a draft becomes a VM.

The draft's rows are the wish. Volumes are made, the configuration is completed and stored, and only then is
the row a VM. When anything fails before, the volumes are freed and the row is the draft it was, with the
error on its field.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import transaction

from vms import access
from vms.config.creation import complete
from vms.config.relations import check_config
from vms.errors import ConfigError, ConfigErrors, StateError, StorageError, VMError
from vms.models import VM, Disk, Storage, StorageStatus, Volume
from vms.models.configuration import NEW_SEED, config_of, save_config, size_text
from vms.operations import cloudinit, images, mirror, newborn, snippets
from vms.operations.base import Context, Operation, Params, operation
from vms.operations.places import place_errors
from vms.operations.start import bring_up, came_up
from vms.operations.volumes import keep_volume
from vms.qemu import tpm
from vms.schema.option import opt
from vms.storage import base as storage_base
from vms.tasks import notify

DEFAULT_FORMAT = "qcow2"
"""What a disk is when nothing else was said and the storage can: it can be part of a snapshot."""
NO_TPM = "storage '{}' cannot hold a TPM's state: its emulator reaches no image of a cluster"


@dataclass(frozen=True, kw_only=True)
class CreateParams(Params):
    """What Create can be told besides the configuration."""

    start: bool | None = opt(
        "Start after created", default=False, help="Start the VM as soon as it is there."
    )


@operation("qmcreate", privilege="VM.Allocate", label="Create", lock="create", params=CreateParams)
class Create(Operation):
    """Make the VM a draft describes."""

    def authorise(self, user: Any, vm: VM, params: Any) -> None:
        """The VM itself, room on each storage, each bridge, and the start when it was asked for."""
        pool = vm.pool.name if vm.pool else ""
        access.require(user, "VM.Allocate", vm.path, pool=pool)
        if params.start:
            access.require(user, "VM.PowerMgmt", vm.path, pool=pool)
        for disk in vm.disks.select_related("storage", "volume__storage"):
            if disk.volume is None and disk.storage is not None:
                access.require(user, "Datastore.AllocateSpace", f"/storage/{disk.storage.name}")
            elif disk.volume is not None:
                may_use(user, disk.volume.storage.name)
        for nic in vm.nics.all():
            if nic.bridge:
                path = f"/sdn/zones/localnetwork/{nic.bridge}"
                access.require(user, "SDN.Use", f"{path}/{nic.tag}" if nic.tag else path)
        images.authorise(user, vm)
        snippets.authorise(user, config_of(vm))

    def check(self, vm: VM, params: Any) -> None:
        if vm.stage != VM.Stage.DRAFT:
            raise StateError(
                f"unable to create VM {vm.vmid} - VM {vm.vmid} already exists on node '{vm.node.name}'"
            )
        mapping = config_of(vm)
        check_config(mapping)
        errors = place_errors((disk.slot, disk.file) for disk in vm.disks.all())
        if errors:
            raise ConfigErrors(errors)
        check_room(vm)
        images.check(vm)
        cloudinit.check_seed(vm, mapping)

    async def run(self, ctx: Context) -> None:
        try:
            await self._create(ctx)
        except VMError as error:
            await ctx.db(store_error, ctx.vm, error)
            raise
        except Exception as error:
            await ctx.db(store_error, ctx.vm, VMError(f"Internal error ({type(error).__name__})"))
            raise
        ctx.keep()
        await ctx.progress(None, "")
        if ctx.params.start:
            await ctx.log("Execute autostart")
            await start_after(ctx)

    async def _create(self, ctx: Context) -> None:
        vm = ctx.vm
        before = await existing(ctx, vm)
        await ctx.db(remember, vm, before)
        ctx.step("noted")
        volumes = await make_volumes(ctx, vm)
        await ctx.db(define, vm, volumes, ctx.services.facts)
        ctx.step("defined")
        await cloudinit.refresh(ctx, *await ctx.db(cloudinit.read, vm))
        await ctx.log(f"VM {vm.vmid} is defined")

    async def resume(self, ctx: Context) -> None:
        """Well when the VM was defined already; else the draft is back and nothing else is left."""
        vm = ctx.vm
        if vm.stage == VM.Stage.DEFINED:
            if ctx.params.start and await came_up(ctx) == VM.Status.STOPPED:
                await ctx.services.clean(vm.vmid)
                await ctx.warn("the VM is there, but the worker was restarted before it was started")
            return
        left = await existing(ctx, vm) - set(vm.draft.get("volumes_before", []))
        for volid in sorted(left):
            await remove(ctx, vm, volid)
            await ctx.log(f"removed volume '{volid}', which belonged to nothing yet")
        error = StateError(
            f"The worker was restarted while VM {vm.vmid} was being created. The draft is as it was; "
            "finish it again."
        )
        await ctx.db(store_error, vm, error)
        raise error


def may_use(user: Any, storage: str) -> None:
    """Raise :class:`AccessError` unless ``user`` may put this storage's volumes into a drive."""
    path = f"/storage/{storage}"
    if not access.may(user, "Datastore.AllocateSpace", path):
        access.require(user, "Datastore.Audit", path)


def check_room(vm: VM) -> None:
    """Raise :class:`ConfigErrors` when the new disks do not fit, by what the storages last said."""
    wanted: dict[int, list[Disk]] = defaultdict(list)
    for disk in vm.disks.select_related("storage"):
        if disk.volume_id is None and disk.storage_id is not None:
            wanted[disk.storage_id].append(disk)
    errors = []
    for status in StorageStatus.objects.select_related("storage").filter(
        storage__in=wanted, node=vm.node, error=""
    ):
        disks = wanted[status.storage_id]
        total = sum(disk.new_size for disk in disks)
        if total > status.available:
            free = f"{status.available / (1 << 30):.1f} GiB"
            text = f"storage '{status.storage.name}' has {free} free, the new disks want {size_text(total)}"
            errors.append(ConfigError(disks[-1].slot, f"{text}; make them smaller", part="size"))
    if errors:
        raise ConfigErrors(errors)


async def existing(ctx: Context, vm: VM) -> set[str]:
    """The volumes that carry the VM's number now, on the storages its draft names."""
    found: set[str] = set()
    for disk in vm.disks.all():
        if disk.storage is not None:
            driver = ctx.services.storage(disk.storage.name, disk.storage.facts())
            listing = await driver.list("images", vm.vmid)
            found |= {volume.volid for volume in listing.volumes}
    return found


def remember(vm: VM, before: set[str]) -> None:
    """Note what was there before, so that a create that was cut short removes only its own."""
    vm.draft = {**vm.draft, "volumes_before": sorted(before)}
    vm.draft.pop("error", None)
    VM.everything.filter(pk=vm.pk).update(draft=vm.draft)


def store_error(vm: VM, error: VMError) -> None:
    """Put the error on the draft's field, where its wizard shows it."""
    if isinstance(error, ConfigErrors):
        texts = error.by_key()
    elif isinstance(error, ConfigError):
        texts = ConfigErrors([error]).by_key()
    else:
        texts = {"": f"{error} {error.hint}".strip()}
    VM.everything.filter(pk=vm.pk, stage=VM.Stage.DRAFT).update(draft={**vm.draft, "error": texts})
    notify.changed(f"vm-{vm.vmid}", "tree")


async def make_volumes(ctx: Context, vm: VM) -> dict[str, storage_base.Volume]:
    """Allocate every volume the draft wants; slot → volume. Freed again unless the create succeeds."""
    disks = [(disk, disk.storage) for disk in vm.disks.all() if disk.volume is None and disk.storage]
    await check_space(ctx, disks)
    made: dict[str, storage_base.Volume] = {}
    for number, (disk, storage) in enumerate(disks):
        await ctx.progress(number / len(disks), f"creating {disk.slot}")
        try:
            volume = await make_volume(ctx, vm, disk, storage)
        except VMError as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(disk.slot, str(error), hint=error.hint) from error
        made[disk.slot] = volume
        ctx.step(f"{disk.slot} made")
        text = f"{volume.volid},size={size_text(volume.size)}"
        await ctx.log(f"{disk.slot}: successfully created disk '{text}'")
    return made


async def check_space(ctx: Context, disks: list[tuple[Disk, Storage]]) -> None:
    """All new disks together must fit, not only each of them."""
    totals: dict[str, int] = defaultdict(int)
    for disk, storage in disks:
        totals[storage.name] += disk.new_size
        driver = ctx.services.storage(storage.name, storage.facts())
        try:
            await driver.check_space(totals[storage.name])
        except StorageError as error:
            raise ConfigError(disk.slot, str(error), part="size", hint=error.hint) from error


async def make_volume(ctx: Context, vm: VM, disk: Disk, storage: Storage) -> storage_base.Volume:
    """One volume: an empty disk, a copy of the firmware's variables, or a new TPM."""
    driver = ctx.services.storage(storage.name, storage.facts())
    said = str(disk.options.get("format") or DEFAULT_FORMAT)
    fmt: Any = storage_base.fitting(driver.formats, said)
    if disk.slot == "tpmstate0" and not driver.paths:
        raise StorageError(NO_TPM.format(storage.name), hint="Choose another storage for it.")
    volume: storage_base.Volume
    if images.OPTION in disk.options:
        volume = await images.import_volume(ctx, vm, disk, driver, fmt)
    elif NEW_SEED.fullmatch(disk.source):
        volume = await driver.allocate_seed(vm.vmid, cloudinit.blank())
    elif disk.slot == "efidisk0":
        volume = await driver.allocate_copy(vm.vmid, efi_template(ctx, disk), fmt)
    elif disk.slot == "tpmstate0":
        volume = await driver.allocate(vm.vmid, tpm.STATE_SIZE, "raw")
    else:
        volume = await driver.allocate(vm.vmid, disk.size or 0, fmt)
    ctx.on_undo(f"volume {volume.volid}", lambda: newborn.discard(ctx, storage, volume))
    if disk.slot == "tpmstate0":
        await ctx.log("tpmstate0: making a new TPM with its certificates")
        await tpm.set_up(volume.path, ctx.services.home / "swtpm-ca", user=ctx.services.user)
    return volume


def efi_template(ctx: Context, disk: Disk) -> Path:
    """The firmware's variable store that this EFI disk begins as."""
    options = disk.options
    name = f"vars-{options.get('efitype', '2m')}"
    if str(options.get("pre-enrolled-keys", "0")) == "1" and name == "vars-4m":
        name = "vars-4m-ms"
    place = ctx.services.facts.ovmf.get(name)
    if not place:
        raise ConfigError(
            "efidisk0", f"this node has no UEFI firmware for it ({name})", hint="Install the package ovmf."
        )
    return Path(place)


def made_text(disk: Disk, volume: storage_base.Volume) -> str:
    """The drive's value once the volume it asked for is there."""
    rest = {key: text for key, text in disk.options.items() if key not in ("format", images.OPTION)}
    rest["size"] = size_text(volume.size)
    if disk.media == "cdrom":
        rest["media"] = "cdrom"
    return ",".join([volume.volid, *(f"{key}={rest[key]}" for key in sorted(rest))])


async def remove(ctx: Context, vm: VM, volid: str) -> None:
    """Free a volume of the VM by its id; a scan may have given it a row meanwhile."""
    storage, _, name = volid.partition(":")
    for disk in vm.disks.all():
        if disk.storage is not None and disk.storage.name == storage:
            await ctx.services.storage(storage, disk.storage.facts()).free(volid)
            rows = Volume.objects.filter(storage=disk.storage, name=name, disks=None)
            await ctx.db(rows.delete)
            return


def define(vm: VM, volumes: Mapping[str, storage_base.Volume], facts: Any) -> None:
    """The one transaction in which the draft becomes a VM."""
    with transaction.atomic():
        rows = {disk.slot: disk for disk in vm.disks.select_related("storage")}
        mapping = config_of(vm)
        for slot, volume in volumes.items():
            disk = rows[slot]
            keep_volume(Storage.objects.get(name=disk.file.partition(":")[0]), vm.node, volume)
            mapping[slot] = made_text(disk, volume)
        save_config(vm, complete(mapping, facts))
        VM.everything.filter(pk=vm.pk).update(stage=VM.Stage.DEFINED, draft={})
        mirror.schedule(vm)
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")


async def start_after(ctx: Context) -> None:
    """Start what was just created. A start that fails is a warning: the VM is there."""
    try:
        await bring_up(ctx)
    except VMError as error:
        await ctx.roll_back()
        await ctx.warn(f"start failed: {error}")
