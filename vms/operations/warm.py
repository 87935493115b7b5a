"""Warm up: a template keeps the memory of its booted guest, and its clones go on from there.

The template's guest is started once, hidden, on overlays over its bases and without network cards. When it
is up and quiet it is stopped, its memory is written into a volume and the overlays become bases themselves:
what lies on them and reads that memory is the guest at that very moment. The template's own disks stay what
they were, so clones that boot are as pristine as before.

``VM.vmstate`` and ``VM.saved`` hold it: ``runningmachine`` and ``runningcpu``, ``disks`` (drive → base),
``shape`` and ``node`` (what it depends on, :mod:`vms.config.warmth`), ``at``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone

from vms import access
from vms.config.warmth import lean, node_words, refusals, shape
from vms.errors import ConfigError, ConfigErrors, StateError, StorageError
from vms.models import VM, Storage, Volume
from vms.models.configuration import config_of, with_parts
from vms.operations import cloudinit, newborn, saving, warmguest
from vms.operations.base import Context, Guest, Operation, Params, operation
from vms.operations.drives import driver_of
from vms.operations.guests import STOP_TIMEOUT, end
from vms.operations.inmemory import hidden
from vms.operations.start import bring_up
from vms.operations.steps import undoable, whole
from vms.operations.template import base_name
from vms.operations.volumes import keep_volume
from vms.operations.warmstate import warm
from vms.schema.option import opt
from vms.storage import base as storage_base
from vms.storage.names import is_base
from vms.tasks import notify

NOBODY = frozenset({"ciuser", "cipassword", "sshkeys"})
"""Cloud-init settings the hidden guest is not told: an account it made would be in every clone, whatever the
clone's own settings say."""
BOOT_TIMEOUT = 600
"""Seconds a guest gets to boot, answer through its agent and become quiet, unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class WarmParams(Params):
    """What Warm up can be told."""

    timeout: int | None = opt(
        "Timeout", default=BOOT_TIMEOUT, minimum=1, maximum=86400, unit="s",
        help="How long the guest may take to boot and become quiet.",
    )  # fmt: skip
    statestorage: str | None = opt(
        "State storage", max_length=63, advanced=True,
        help="Where the memory is kept; beside the first disk without it.",
    )  # fmt: skip


@operation("qmwarm", privilege="VM.Allocate", label="Warm up", params=WarmParams)
class WarmUp(Operation):
    """Boot a template's guest once and keep its memory for its clones."""

    def authorise(self, user: Any, vm: VM, params: Any) -> None:
        super().authorise(user, vm, params)
        access.require_vm(user, "VM.PowerMgmt", vm)
        saving.authorise_space(user, vm, params.statestorage or "")
        for _, volume in own_disks(with_parts(VM.everything.filter(pk=vm.pk)).get()):
            access.require(user, "Datastore.AllocateSpace", f"/storage/{volume.storage.name}")

    def check(self, vm: VM, params: Any) -> None:
        if not vm.template:
            raise StateError(f"VM {vm.vmid} is no template.", hint="Convert it to a template first.")
        if vm.vmstate_id is not None:
            raise StateError(f"VM {vm.vmid} keeps a warm state already.", hint="Discard it first.")
        full = with_parts(VM.everything.filter(pk=vm.pk)).get()
        mapping = config_of(full)
        found = refusals(mapping)
        if found:
            raise ConfigErrors(found)
        own_disks(full)
        storage = saving.choose_storage(full, mapping, params.statestorage or "")
        saving.check_room(full, storage, saving.room_for(mapping))

    async def run(self, ctx: Context) -> None:
        vm = ctx.vm
        mapping = {key: text for key, text in lean(config_of(vm)).items() if key not in NOBODY}
        disks = own_disks(vm)
        await remember(ctx, disks)
        ctx.step("noted")
        ctx.on_undo("the template's cloud-init drive", lambda: own_seed(ctx))
        overlays = await lay_over(ctx, disks)
        guest = await boot(ctx, vm, mapping, overlays)
        state = await save(ctx, guest)
        machine = await saving.machine_of(guest)
        await end(ctx, STOP_TIMEOUT)
        ctx.step("ended")
        await own_seed(ctx)
        bases = {slot: await make_base(ctx, storage, made) for slot, (storage, made) in overlays.items()}
        gone = [made.volid.partition(":")[2] for _, made in overlays.values()]
        kept = {**machine, "shape": shape(lean(config_of(vm))), "node": node_words(ctx.services.facts)}
        await whole(ctx.db(keep, vm, state, bases, kept, gone))
        ctx.keep()
        await ctx.log(f"VM {vm.vmid} is warm: its clones go on from here")

    async def resume(self, ctx: Context) -> None:
        """Well when it was done; else the hidden guest is ended and nothing of it is left."""
        await ctx.db(ctx.vm.refresh_from_db)
        if warm(ctx.vm):
            return
        await end(ctx, 0)
        await ctx.services.clean(ctx.vm.vmid)
        await newborn.remove_left(ctx, ctx.vm.saved.get("storages", []), ctx.vm.saved.get("before", []))
        await ctx.db(forget, ctx.vm)
        await own_seed(ctx)
        raise StateError(
            f"The worker was restarted while VM {ctx.vm.vmid} was being warmed up. Nothing of it is left.",
            hint="Warm it up again.",
        )


def own_disks(vm: VM) -> list[tuple[str, Volume]]:
    """The drives whose contents belong to the guest's moment. Raises :class:`ConfigError` for no base."""
    found = []
    for disk in vm.disks.all():
        if disk.volume is None or disk.media == "cdrom" or disk.slot.startswith("unused"):
            continue
        if not is_base(disk.volume.name):
            raise ConfigError(disk.slot, f"'{disk.volume.volid}' is no base; convert that disk first")
        found.append((disk.slot, disk.volume))
    return found


# ---- what was there before


async def remember(ctx: Context, disks: list[tuple[str, Volume]]) -> None:
    """Note what was there before, so that a warm-up that was cut short removes only its own."""
    chosen = await ctx.db(saving.choose_storage, ctx.vm, config_of(ctx.vm), ctx.params.statestorage or "")
    storages = {row.name: row for row in (chosen, *(volume.storage for _, volume in disks))}
    before = await newborn.existing(ctx, storages.values())
    notes = {"before": sorted(before), "storages": sorted(storages), "state": chosen.name}
    ctx.vm.saved = notes
    ctx.on_undo("notes of the warm-up", lambda: ctx.db(forget, ctx.vm))
    await ctx.db(lambda: VM.everything.filter(pk=ctx.vm.pk).update(saved=notes))


def forget(vm: VM) -> None:
    """Nothing is kept, and rows that a scan made of what was being made are gone."""
    before, storages = vm.saved.get("before", []), vm.saved.get("storages", [])
    with transaction.atomic():
        VM.everything.filter(pk=vm.pk).update(vmstate=None, saved={})
        made = Volume.objects.filter(vmid=vm.vmid, storage__name__in=storages, content=Volume.Content.IMAGES)
        rows = made.filter(disks=None, clones=None)
        for row in rows.select_related("storage"):
            if row.volid not in before:
                row.delete()
    vm.saved = {}
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")


# ---- the steps


Overlays = dict[str, tuple[Storage, storage_base.Volume]]


async def lay_over(ctx: Context, disks: list[tuple[str, Volume]]) -> Overlays:
    """An overlay over each base, for the guest to write on."""
    found: Overlays = {}
    for slot, volume in disks:
        driver = driver_of(ctx, volume.storage)
        try:
            made = await undoable(
                ctx, driver.clone(ctx.vm.vmid, volume.volid),
                lambda made: f"overlay {made.volid}", partial(newborn.discard, ctx, volume.storage),
            )  # fmt: skip
        except StorageError as error:
            raise ConfigError(slot, str(error), hint=error.hint) from error
        found[slot] = (volume.storage, made)
        ctx.step(f"{slot} laid over")
    return found


async def boot(ctx: Context, vm: VM, mapping: Mapping[str, str], overlays: Overlays) -> Guest:
    """Start the hidden guest and wait until it is up and quiet."""
    await ctx.progress(None, "booting the template's guest")
    await bring_up(ctx, hidden(vm, mapping, overlays))
    guest = ctx.services.guest(vm.vmid)
    if guest is None:
        raise StateError("the template's guest ended as soon as it ran")
    await ctx.db(guest.store)
    ctx.step("started")
    await warmguest.settle(ctx, guest, ctx.params.timeout or BOOT_TIMEOUT)
    ctx.step("quiet")
    return guest


async def own_seed(ctx: Context) -> None:
    """Let the template's cloud-init drive hold its own settings again."""
    vm, mapping = await ctx.db(cloudinit.read, ctx.vm)
    await cloudinit.refresh(ctx, vm, mapping)


async def save(ctx: Context, guest: Guest) -> Volume:
    """Stop the guest and write its memory into a volume of the template."""
    vm = ctx.vm
    storage = await ctx.db(Storage.objects.get, name=vm.saved["state"])
    driver = driver_of(ctx, storage)
    name = await saving.free_name(driver, vm.vmid, "warm")
    found = await undoable(
        ctx, driver.allocate_state(vm.vmid, name, saving.room_for(config_of(vm))),
        lambda made: f"saved memory {made.volid}", partial(newborn.discard, ctx, storage),
    )  # fmt: skip
    ctx.step("place made")
    row = await ctx.db(keep_volume, storage, vm.node, found)
    await saving.check_savable(guest)
    await guest.monitor.stop()
    ctx.step("stopped")
    await ctx.progress(None, "saving the memory")
    state = await saving.write(ctx, guest, row)
    ctx.step("saved")
    return state


async def make_base(ctx: Context, storage: Storage, overlay: storage_base.Volume) -> storage_base.Volume:
    """An overlay nobody writes any more becomes a base."""
    driver, base = driver_of(ctx, storage), base_name(overlay.volid)

    async def back() -> None:
        await driver.from_base(base)

    made: storage_base.Volume = await whole(driver.to_base(overlay.volid))
    ctx.on_undo(f"base {base}", back)
    ctx.step("a base made")
    return made


def keep(
    vm: VM, state: Volume, bases: Mapping[str, storage_base.Volume], kept: Mapping[str, Any], gone: list[str]
) -> None:
    """The one transaction in which the template becomes warm. ``gone``: what the bases were called before."""
    with transaction.atomic():
        Volume.objects.filter(vmid=vm.vmid, name__in=gone, disks=None).delete()  # a scan may have seen them
        rows = {row.name: row for row in Storage.objects.all()}
        for volume in bases.values():
            keep_volume(rows[volume.volid.partition(":")[0]], vm.node, volume)
        saved = {
            **kept, "disks": {slot: volume.volid for slot, volume in bases.items()},
            "at": timezone.now().isoformat(), "size": state.size,
        }  # fmt: skip
        VM.everything.filter(pk=vm.pk).update(vmstate=state, saved=saved)
    notify.changed(f"vm-{vm.vmid}", "tree", "storage")
