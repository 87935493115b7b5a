"""The cloud-init drive: written when it is made, before a start when its content changed, and when asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from django.utils import timezone

from vms.config.creation import complete
from vms.config.nocloud import Resolver
from vms.config.pending import hotplugged
from vms.config.seeds import Change, Role, difference, drive_of, named, seed_of, shown, sources
from vms.config.snippets import fingerprint
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError, MonitorError, StateError, StorageError
from vms.hardware.context import LaunchContext, NodeFacts
from vms.hardware.parts import Blockdev
from vms.host.resolver import read_resolver
from vms.models import VM
from vms.models.configuration import config_of, with_parts
from vms.operations import mirror, snippets
from vms.operations.base import Context, Operation, operation
from vms.operations.nextstart import paths_of
from vms.qemu import cmdline, medium
from vms.storage import seed
from vms.tasks import notify

NO_DRIVE = "VM {} has no cloud-init drive"


def blank() -> bytes:
    """What the drive holds until its VM has its addresses."""
    return seed.build("cidata", {})


def check_seed(vm: VM, mapping: Mapping[str, str]) -> None:
    """Raise :class:`ConfigError` when the draft wants a seed nobody can write."""
    if drive_of(VMConfig.parse(mapping)):
        facts = NodeFacts.from_json(vm.node.facts)
        config = VMConfig.parse(complete(mapping, facts))
        seed_of(vm.vmid, config, Resolver(), snippets.texts(named(config)))


def read(vm: VM) -> tuple[VM, dict[str, str]]:
    """The VM's rows and configuration as they are now."""
    fresh = with_parts(VM.everything.filter(pk=vm.pk)).get()
    return fresh, config_of(fresh)


async def refresh(ctx: Context, vm: VM, mapping: Mapping[str, str]) -> bool:
    """Write the VM's seed again when its content changed since; answers whether it did.

    Raises :class:`ConfigError` on the drive, or on what is wrong with its content, when it cannot be written.
    """
    config = VMConfig.parse(mapping)
    slot = drive_of(config)
    disk = next((disk for disk in vm.disks.all() if disk.slot == slot), None)
    if disk is None or disk.volume is None:
        return False
    volume = disk.volume
    custom = await ctx.db(snippets.texts, named(config)) if named(config) else {}
    found = seed_of(vm.vmid, config, Resolver(*await asyncio.to_thread(read_resolver)), custom)
    record = made_from(mapping, custom)
    driver = ctx.services.storage(volume.storage.name, volume.storage.facts())
    wanted = seed.fingerprint(found.label, found.contents)
    if await asyncio.to_thread(seed.read_mark, driver.path(volume.volid)) == wanted:
        if {**vm.seed, "written": ""} != {**record, "written": ""}:
            ctx.at_end(partial(remember, vm, record))
        return False
    if volume.vmid != vm.vmid:
        raise ConfigError(slot, f"'{volume.volid}' is the cloud-init drive of VM {volume.vmid}")
    try:
        content = await asyncio.to_thread(seed.build, found.label, found.contents)
        await driver.allocate_seed(vm.vmid, content, volume.format)
    except StorageError as error:
        raise ConfigError(slot, str(error), hint=error.hint) from error
    await ctx.db(remember, vm, record)
    await ctx.log(f"{slot}: wrote the cloud-init drive '{volume.volid}'")
    return True


# ---- what the image was made from


def made_from(mapping: Mapping[str, str], custom: Mapping[Role, str]) -> dict[str, Any]:
    """What ``VM.seed`` remembers of an image just written."""
    return {
        "values": sources(mapping),
        "custom": {role: fingerprint(text) for role, text in custom.items()},
        "written": timezone.now().isoformat(timespec="seconds"),
    }


def remember(vm: VM, record: Mapping[str, Any]) -> None:
    """Store it."""
    VM.everything.filter(pk=vm.pk).update(seed=dict(record))
    vm.seed = dict(record)
    mirror.schedule(vm)
    notify.changed(f"vm-{vm.vmid}")


def changes(vm: VM, mapping: Mapping[str, str]) -> list[Change]:
    """What of the configuration the VM's image does not know; empty when nobody knows what it was made from.

    A text of somebody's own that has another version counts as a change of ``cicustom``.
    """
    if not vm.seed or not drive_of(VMConfig.parse(mapping)):
        return []
    found = list(difference(vm.seed.get("values", {}), mapping))
    if any(change.key == "cicustom" for change in found):
        return found
    for role, volid in named(VMConfig.parse(mapping)).items():
        if snippets.checksum(volid) not in ("", vm.seed.get("custom", {}).get(role, "")):
            found.append(Change("cicustom", f"{role}={volid}, an older text", f"{role}={volid}"))
    return found


def document(vm: VM, mapping: Mapping[str, str], role: Role) -> str:
    """What an image written now would hold, the password as asterisks. Raises :class:`ConfigError`."""
    config = VMConfig.parse(mapping)
    return shown(role, vm.vmid, config, Resolver(*read_resolver()), snippets.texts(named(config)))


# ---- now, at the guest's running time too


async def reload_medium(ctx: Context, vm: VM, mapping: Mapping[str, str]) -> None:
    """Put the image as it is now into the running guest's drive. Raises :class:`StateError`."""
    slot = drive_of(VMConfig.parse(mapping))
    storages = {disk.volume.storage for disk in vm.disks.all() if disk.volume is not None}
    facts = replace(ctx.services.facts, storages={row.name: row.facts() for row in storages})
    context = LaunchContext(vmid=vm.vmid, facts=facts, paths=paths_of(vm.vmid))
    running = vm.launch.get("config", mapping)
    if slot not in running:
        await ctx.log(f"{slot}: the guest does not have this drive before its next start")
        return
    parts = cmdline.parts(VMConfig.parse({**running, slot: mapping[slot]}), context)
    node = next(part for part in parts if isinstance(part, Blockdev) and part.key == slot)
    try:
        await medium.change(ctx.monitor, slot, node.qmp())
    except MonitorError as error:
        raise StateError(
            f"the image is written, but the running guest could not be given it: {error}",
            hint="The guest reads it at its next start.",
        ) from error
    await ctx.log(f"{slot}: the running guest has the new image")


async def regenerate(ctx: Context) -> None:
    """Write the image now, and change the medium of a guest that runs."""
    vm, mapping = await ctx.db(read, ctx.vm)
    wrote = await refresh(ctx, vm, mapping)
    ctx.step("image written")
    if ctx.services.guest(vm.vmid) is not None:
        await reload_medium(ctx, vm, mapping)
        ctx.step("medium changed")
    elif not wrote:
        await ctx.log("the cloud-init drive is up to date")


async def renew(ctx: Context) -> None:
    """After a change: fill a drive that was just made; with ``hotplug: cloudinit``, give a running guest an
    image that knows the configuration."""
    vm, mapping = await ctx.db(read, ctx.vm)
    if await is_blank(ctx, vm, mapping):
        await regenerate(ctx)
    elif ctx.services.guest(vm.vmid) is not None and "cloudinit" in hotplugged(mapping.get("hotplug")):
        older: list[Change] = await ctx.db(changes, vm, mapping)
        if older:
            await regenerate(ctx)


async def is_blank(ctx: Context, vm: VM, mapping: Mapping[str, str]) -> bool:
    """Whether the VM has a cloud-init drive that nothing was ever written to."""
    slot = drive_of(VMConfig.parse(mapping))
    disk = next((disk for disk in vm.disks.all() if disk.slot == slot), None)
    if disk is None or disk.volume is None:
        return False
    driver = ctx.services.storage(disk.volume.storage.name, disk.volume.storage.facts())
    mark = await asyncio.to_thread(seed.read_mark, driver.path(disk.volume.volid))
    return mark == seed.fingerprint("cidata", {})


@operation("qmcloudinit", privilege="VM.Config.Cloudinit", label="Regenerate cloud-init of")
class Regenerate(Operation):
    """Write the cloud-init drive now; a running guest sees its medium change."""

    def check(self, vm: VM, params: Any) -> None:
        mapping = config_of(vm)
        config = VMConfig.parse(mapping)
        if not drive_of(config):
            raise StateError(NO_DRIVE.format(vm.vmid), hint="Add one on its Cloud-Init page.")
        snippets.texts(named(config))

    async def run(self, ctx: Context) -> None:
        await regenerate(ctx)

    async def resume(self, ctx: Context) -> None:
        """Safe to do twice."""
        await regenerate(ctx)
