"""Saving a guest's memory: whether it can be done, where it goes, how much room it takes, the writing."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from vms import access
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError, StateError, StorageError
from vms.hardware.display import Vga
from vms.models import VM, Storage, StorageStatus, Volume
from vms.operations.base import Context, Guest
from vms.operations.volumes import keep_volume
from vms.qemu import statefile
from vms.storage.names import gib

BESIDES = 96 << 20
"""Bytes of a saved guest that are no memory of its own: firmware, device states, head-room."""
SCREEN = 16
"""MiB of a graphics card that says nothing of its memory."""
_STUCK = re.compile(r"hostpci\d+|virtiofs\d+|amd-sev|intel-tdx|ivshmem")
"""Keys of what cannot be put into a file: it lives in the node's hardware or in another process."""


def blockers(mapping: Mapping[str, str]) -> list[str]:
    """The keys that keep this guest's memory from being saved."""
    return [key for key in mapping if _STUCK.fullmatch(key)]


def check_movable(mapping: Mapping[str, str]) -> None:
    """Raise :class:`StateError` when something of the guest cannot be saved (PVE's words)."""
    found = blockers(mapping)
    if found:
        raise StateError(
            f"Cannot live-migrate, snapshot (with RAM), or hibernate a VM with: {', '.join(found)}",
            hint="Remove it under Hardware, or do without the memory.",
        )


def room_for(mapping: Mapping[str, str]) -> int:
    """Bytes the saved memory takes at most.

    PVE reserves twice the memory, because its guest goes on while it is saved. Ours stands still: every page
    is written once, eight bytes before it, the screen's memory too.
    """
    config = VMConfig.parse(mapping)
    memory = str(mapping.get("memory", "512")).removeprefix("current=")
    vga: Vga = config.part("vga", Vga)
    heads = re.fullmatch(r"qxl([2-4])?", vga.type or "")
    # A SPICE card has two more banks of its own, and one such card makes each screen.
    screens = 4 * int(heads[1] or 1) if heads else 1
    mib = (int(memory) if memory.isdigit() else 512) + screens * (vga.memory or SCREEN)
    return (mib << 20) * 1005 // 1000 + BESIDES


def choose_storage(vm: VM, mapping: Mapping[str, str], wanted: str = "") -> Storage:
    """Where the memory goes: ``wanted``, else ``vmstatestorage``, else a storage of one of its disks (a
    shared one first), else ``local``.

    Raises :class:`ConfigError` on ``statestorage`` for one that cannot hold it.
    """
    named = wanted or mapping.get("vmstatestorage", "")
    storages = {row.name: row for row in Storage.objects.all()}
    if not named:
        own = [disk.volume.storage for disk in vm.disks.select_related("volume__storage") if disk.volume]
        usable = [row for row in own if row.enabled and "images" in row.content and row.spec.files]
        usable.sort(key=lambda row: (not row.shared, row.kind != Storage.Kind.DIR, row.name))
        named = usable[0].name if usable else "local"
    found = storages.get(named)
    if found is None:
        known = ", ".join(sorted(storages)) or "none yet"
        raise ConfigError("statestorage", f"storage '{named}' does not exist; there are: {known}")
    if not found.enabled or "images" not in found.content:
        why = "takes no disk images" if found.enabled else "is switched off"
        raise ConfigError("statestorage", f"storage '{named}' {why}; choose another")
    if not found.spec.files:
        raise ConfigError("statestorage", f"storage '{named}' holds no files, so no saved memory")
    return found


def check_room(vm: VM, storage: Storage, size: int) -> None:
    """Raise :class:`ConfigError` when the last look at the storage found less room than ``size`` bytes.

    Whoever allocates looks again; this is for who only asks.
    """
    status = StorageStatus.objects.filter(storage=storage, node=vm.node_id).first()
    if status is not None and not status.error and status.total and status.available < size:
        raise ConfigError(
            "statestorage",
            f"storage '{storage.name}' has no room for the memory: up to {gib(size)} GiB are needed, "
            f"{gib(status.available)} GiB are free",
        )


def authorise_space(user: Any, vm: VM, wanted: str) -> None:
    """Raise :class:`AccessError` unless ``user`` may put volumes on the storage the memory goes to."""
    storage = choose_storage(vm, _options(vm), wanted)
    access.require(user, "Datastore.AllocateSpace", f"/storage/{storage.name}")


def _options(vm: VM) -> dict[str, str]:
    return {key: str(text) for key, text in vm.options.items()}


def volume_name(storage: str, vmid: int, name: str) -> str:
    """The volume id that saved memory called ``name`` will have."""
    return f"{storage}:{vmid}/vm-{vmid}-state-{name}.raw"


async def free_name(driver: Any, vmid: int, wanted: str) -> str:
    """``wanted``, or the first of ``wanted-2``, ``wanted-3`` … that no saved memory there has."""
    name, number = wanted, 1
    while True:
        try:
            await driver.find(volume_name(driver.name, vmid, name))
        except StorageError:
            return name
        number += 1
        name = f"{wanted}-{number}"


async def check_free(ctx: Context, volid: str) -> None:
    """Raise :class:`StateError` when there is a volume of that name already: it would be somebody else's."""
    name = volid.partition(":")[0]
    storage = await ctx.db(lambda: Storage.objects.get(name=name))
    try:
        await ctx.services.storage(storage.name, storage.facts()).find(volid)
    except StorageError:
        return
    raise StateError(
        f"there is a volume '{volid}' already, which no snapshot knows", hint="Choose another name."
    )


async def machine_of(guest: Guest) -> dict[str, str]:
    """What the guest runs on, as it must be given to who reads its memory (PVE's keys)."""
    answer = await guest.monitor.execute("qom-get", {"path": "/machine", "property": "type"})
    machine = str(answer).removesuffix("-machine")
    return {"runningmachine": machine, "runningcpu": str(guest.record.get("cpu", ""))}


async def check_savable(guest: Guest) -> None:
    """Raise :class:`StateError` with QEMU's own reasons when it cannot save the guest."""
    reasons = (await guest.monitor.execute("query-migrate")).get("blocked-reasons", [])
    if reasons:
        raise StateError(f"QEMU cannot save this guest's memory: {'; '.join(map(str, reasons))}")


async def write(
    ctx: Context, guest: Guest, volume: Volume, then: Callable[[], Awaitable[None]] | None = None
) -> Volume:
    """Write the memory of a guest that stands still into its volume; the row then tells the true size.

    ``then`` is done as soon as QEMU has written it, while the disk still takes it in. Raises
    :class:`QemuError` with QEMU's reason, for example that the storage is full.
    """
    driver = ctx.services.storage(volume.storage.name, volume.storage.facts())
    began = told = time.monotonic()

    async def tell(fraction: float) -> None:
        nonlocal told
        if time.monotonic() - told > 1:
            told = time.monotonic()
            await ctx.progress(fraction, "saving the memory")

    descriptor = statefile.opened(driver.path(volume.volid), writing=True)
    try:
        await statefile.save(guest.monitor, descriptor, tell)
        if then is not None:
            await then()
        await statefile.settle(descriptor)
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    took = time.monotonic() - began
    await ctx.log(f"saved {size >> 20} MiB of memory to '{volume.volid}' in {took:.2f} s")
    found = await driver.find(volume.volid)
    return await ctx.db(keep_volume, volume.storage, ctx.vm.node, found)
