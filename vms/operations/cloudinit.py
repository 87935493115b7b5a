"""The cloud-init drive: written when it is made, and again before each start when its content changed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from vms.config.creation import complete
from vms.config.nocloud import Resolver
from vms.config.seeds import drive_of, seed_of
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError, StateError, StorageError
from vms.hardware.context import NodeFacts
from vms.host.resolver import read_resolver
from vms.models import VM
from vms.models.configuration import config_of, with_parts
from vms.operations.base import Context, Operation, operation
from vms.storage import seed


def blank() -> bytes:
    """What the drive holds until its VM has its addresses."""
    return seed.build("cidata", {})


def check_seed(vm: VM, mapping: Mapping[str, str]) -> None:
    """Raise :class:`ConfigError` when the draft wants a seed nobody can write."""
    if drive_of(VMConfig.parse(mapping)):
        facts = NodeFacts.from_json(vm.node.facts)
        seed_of(vm.vmid, VMConfig.parse(complete(mapping, facts)), Resolver())


def read(vm: VM) -> tuple[VM, dict[str, str]]:
    """The VM's rows and configuration as they are now."""
    fresh = with_parts(VM.everything.filter(pk=vm.pk)).get()
    return fresh, config_of(fresh)


async def refresh(ctx: Context, vm: VM, mapping: Mapping[str, str]) -> bool:
    """Write the VM's seed again when its content changed since; answers whether it did.

    Raises :class:`ConfigError` on the drive when it cannot be written.
    """
    config = VMConfig.parse(mapping)
    slot = drive_of(config)
    disk = next((disk for disk in vm.disks.all() if disk.slot == slot), None)
    if disk is None or disk.volume is None:
        return False
    volume = disk.volume
    found = seed_of(vm.vmid, config, Resolver(*await asyncio.to_thread(read_resolver)))
    driver = ctx.services.storage(volume.storage.name, volume.storage.facts())
    wanted = seed.fingerprint(found.label, found.contents)
    if await asyncio.to_thread(seed.read_mark, driver.path(volume.volid)) == wanted:
        return False
    if volume.vmid != vm.vmid:
        raise ConfigError(slot, f"'{volume.volid}' is the cloud-init drive of VM {volume.vmid}")
    content = await asyncio.to_thread(seed.build, found.label, found.contents)
    try:
        await driver.allocate_seed(vm.vmid, content, volume.format)
    except StorageError as error:
        raise ConfigError(slot, str(error), hint=error.hint) from error
    await ctx.log(f"{slot}: wrote the cloud-init drive '{volume.volid}'")
    return True


@operation("qmcloudinit", privilege="VM.Config.Cloudinit", label="Regenerate cloud-init of")
class Regenerate(Operation):
    """Write the cloud-init drive of a stopped VM now."""

    def check(self, vm: VM, params: Any) -> None:
        if vm.running:
            raise StateError(
                f"VM {vm.vmid} is running", hint="Its drive is written again at the next start anyway."
            )
        if not drive_of(VMConfig.parse(config_of(vm))):
            raise StateError(f"VM {vm.vmid} has no cloud-init drive", hint="Add one under Hardware.")

    async def run(self, ctx: Context) -> None:
        if not await refresh(ctx, ctx.vm, config_of(ctx.vm)):
            await ctx.log("the cloud-init drive is up to date")

    async def resume(self, ctx: Context) -> None:
        """Safe to do twice."""
        await self.run(ctx)
