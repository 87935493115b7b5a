"""One key of a running machine changes: what its QEMU and its node are told.

Called for keys that :mod:`vms.config.pending` says can take effect while the machine runs. Each function may
be done twice, and raises :class:`VMError` when it was not done: then the key goes on waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vms.config.pending import How, Verdict, name_of
from vms.config.upkeep import boot_disks, holds_volume, is_wish, volume_of
from vms.config.vmconfig import VMConfig, parse_value
from vms.errors import ConfigError, StateError, VMError
from vms.hardware import is_drive
from vms.hardware.context import LaunchContext, NodeFacts, RuntimePaths
from vms.hardware.net import Net
from vms.hardware.parts import Blockdev, Device, Netdev, Part
from vms.hardware.pci import BRIDGE_KEY
from vms.host import cgroup
from vms.models import VM, Storage
from vms.models.waiting import volumes_named
from vms.network import rate, tap
from vms.operations.base import Context, Guest
from vms.operations.cards import open_card
from vms.operations.share import share_of
from vms.operations.start import activate_volume
from vms.qemu import blocknodes, hotplug, live, medium
from vms.qemu.cmdline import parts as parts_of
from vms.qemu.hotplug import Difference, difference
from vms.qemu.hotplug import name_of as id_of

SHARED = frozenset({"xhci", "ehci"})
"""Controllers that come with the first device on them, whichever that is."""


@dataclass(frozen=True)
class Change:
    """``key`` of a running machine goes from ``before`` to ``after``, both whole configurations."""

    key: str
    before: Mapping[str, str]
    after: Mapping[str, str]

    @property
    def text(self) -> str | None:
        return self.after.get(self.key)

    @property
    def without(self) -> dict[str, str]:
        """The configuration between pulling the old device out and plugging the new one in."""
        return {key: text for key, text in self.before.items() if key != self.key}


class Machine:
    """A running machine and what its parts are made from."""

    def __init__(self, ctx: Context, vm: VM, guest: Guest, storages: Mapping[str, Mapping[str, Any]]) -> None:
        self.ctx = ctx
        self.vm = vm
        self.guest = guest
        self.monitor = guest.monitor
        facts: NodeFacts = ctx.services.facts
        paths = ctx.services.paths
        self.context = LaunchContext(
            vmid=vm.vmid,
            facts=replace(facts, storages={**facts.storages, **storages}),
            paths=RuntimePaths.of(str(paths.run_dir), str(paths.serial_dir), vm.vmid),
            machine=str(vm.launch.get("machine") or ""),
        )

    @classmethod
    async def of(cls, ctx: Context, vm: VM) -> Machine:
        """The VM's running machine. Raises :class:`StateError` when there is none."""
        guest = ctx.services.guest(vm.vmid)
        if guest is None or guest.monitor is None:
            raise StateError(f"VM {vm.vmid} is not running.")
        storages = await ctx.db(lambda: {row.name: row.facts() for row in Storage.objects.all()})
        return cls(ctx, vm, guest, storages)

    def parts(self, mapping: Mapping[str, str], taps: Mapping[str, int] | None = None) -> list[Part]:
        """What a cold start of ``mapping`` would have."""
        drives = {key: text for key, text in mapping.items() if not (holds_volume(key) and is_wish(text))}
        return parts_of(VMConfig.parse(drives), replace(self.context, taps=taps or {}))

    def difference(
        self,
        key: str,
        before: Mapping[str, str],
        after: Mapping[str, str],
        taps: Mapping[str, int] | None = None,
    ) -> Difference:
        """The parts that come and go with ``key``. Raises :class:`ConfigError` when others would have to."""
        found = difference(self.parts(before), self.parts(after, taps))
        for part in (*found.added, *found.removed):
            if part.key == BRIDGE_KEY and isinstance(part, Device):
                why = f"it needs the controller '{id_of(part)}', which comes with the next start"
                raise ConfigError(key, why)

        def mine(part: Part) -> bool:
            return part.key == key or id_of(part) in SHARED

        return Difference(
            tuple(part for part in found.added if mine(part)),
            tuple(part for part in found.removed if mine(part)),
        )

    # ---- one key

    async def change(self, one: Change, verdict: Verdict) -> bool:
        """Let one key take effect; answers whether the machine is so now. Raises :class:`VMError`."""
        if one.key == "vcpus":
            return await self._processors(one)
        await self._told(one, verdict)
        return True

    async def _told(self, one: Change, verdict: Verdict) -> None:
        kind = name_of(one.key)
        if verdict.how in (How.UNPLUG, How.REPLUG):
            self._may_go(one)
        if kind == "net":
            await self._card(one, verdict)
        elif verdict.how is not How.TELL:
            await self._device(one, verdict)
        elif is_drive(one.key):
            await self._drive(one)
        elif kind == "tablet":
            await self._exchange(self.difference(one.key, one.before, one.after))
        elif kind == "memory":
            await live.memory(self.monitor, self.difference(one.key, one.before, one.after))
        elif kind == "balloon":
            await self._balloon(one)
        else:
            await self._share(one)

    def _may_go(self, one: Change) -> None:
        if one.key in boot_disks(one.before):
            raise ConfigError(one.key, f"can't unplug bootdisk '{one.key}'")

    async def _exchange(self, found: Difference) -> None:
        await hotplug.unplug(self.monitor, found.removed)
        await hotplug.plug(self.monitor, found.added)

    async def _device(self, one: Change, verdict: Verdict) -> None:
        """A drive or a USB device comes, goes, or is another one."""
        if verdict.how in (How.UNPLUG, How.REPLUG):
            gone = self.difference(one.key, one.before, one.without).removed
            await hotplug.unplug(self.monitor, gone)
            if is_drive(one.key):
                await blocknodes.remove_left(self.monitor, one.key)
        if one.text is not None:
            await self._activate(one)
            come = self.difference(one.key, one.without, one.after).added
            await hotplug.plug(self.monitor, come)

    async def _activate(self, one: Change) -> None:
        """The volume of a drive must be there and be readable by QEMU."""
        if one.text is None or not is_drive(one.key):
            return
        for volume in await self.ctx.db(volumes_named, self.vm, [volume_of(one.text)]):
            await activate_volume(self.ctx, one.key, volume)

    async def _drive(self, one: Change) -> None:
        """A medium is changed, or limits are."""
        drive = parse_value(one.key, one.after[one.key])
        if not drive.is_cdrom or volume_of(one.before[one.key]) == volume_of(one.after[one.key]):
            await live.throttle(self.monitor, one.key, drive)
            return
        await self._activate(one)
        come = [
            part for part in self.parts(one.after) if part.key == one.key and not isinstance(part, Device)
        ]
        await live.ensure_throttle(self.monitor, come)
        nodes = [part.qmp() for part in come if isinstance(part, Blockdev)]
        await medium.change(self.monitor, one.key, nodes[0] if nodes else None)

    async def _processors(self, one: Change) -> bool:
        found = self.difference(one.key, one.before, one.after)
        return await live.processors(self.monitor, self.guest.agent, found, cpus_of(one.after))

    async def switch_on(self, mapping: Mapping[str, str]) -> None:
        """Let the guest use all the CPUs the machine has: some were to be fewer and are not any more."""
        await live.switch(self.guest.agent, cpus_of(mapping))

    async def _balloon(self, one: Change) -> None:
        lower = one.after.get("shares") == "0"
        memory = VMConfig.parse(one.after).value("memory").value("current")
        minimum = int(one.text or 0)
        told = await live.balloon(self.monitor, minimum, memory, lower=lower)
        if told:
            await self.ctx.log(f"balloon: {told}")

    async def _share(self, one: Change) -> None:
        share, run_dir = share_of(one.after), self.ctx.services.paths.run_dir
        await asyncio.to_thread(cgroup.apply, run_dir, self.vm.vmid, self.guest.running.pid, share)

    # ---- cards

    async def _card(self, one: Change, verdict: Verdict) -> None:
        net: Net | None = parse_value(one.key, one.text) if one.text is not None else None
        if verdict.how is How.TELL and net is not None:
            await self._recable(one, net)
            return
        if verdict.how in (How.UNPLUG, How.REPLUG):
            gone = self.difference(one.key, one.before, one.without).removed
            await hotplug.unplug(self.monitor, gone)
            await rate.free(self.vm.vmid, int(one.key.removeprefix("net")))
        if net is not None:
            await self._plug_card(one, net)
            if net.link_down:
                await self.monitor.set_link(one.key, up=False)

    async def _plug_card(self, one: Change, net: Net) -> None:
        if one.key in await hotplug.present(self.monitor):
            return  # plugged in before we were interrupted
        if not net.bridge:
            await hotplug.plug(self.monitor, self.difference(one.key, one.without, one.after).added)
            return
        opened = await open_card(self.vm.vmid, one.key, net)
        with contextlib.closing(opened):
            taps = {one.key: opened.fd}
            come = self.difference(one.key, one.without, one.after, taps).added
            name = f"tap-{one.key}"
            await self.monitor.send_fd(name, opened.fd)
            handed = [_with_fd(part, name) for part in come]
            try:
                await hotplug.plug(self.monitor, handed)
            except VMError:
                with contextlib.suppress(VMError):
                    await self.monitor.execute("closefd", {"fdname": name})
                raise

    async def _recable(self, one: Change, net: Net) -> None:
        """The node's end changes while the card stays: its bridge, its VLAN, its rate, its cable."""
        was: Net = parse_value(one.key, one.before[one.key])
        index = int(one.key.removeprefix("net"))
        if net.bridge and (was.bridge, was.tag, was.trunks) != (net.bridge, net.tag, net.trunks):
            await tap.replug(self.vm.vmid, index, net.bridge, tag=net.tag, trunks=net.trunk_tags)
        if net.bridge and (was.rate or 0) != (net.rate or 0):
            await rate.limit(self.vm.vmid, index, net.rate or 0)
        if bool(was.link_down) != bool(net.link_down):
            await self.monitor.set_link(one.key, up=not net.link_down)


def cpus_of(mapping: Mapping[str, str]) -> int:
    """How many CPUs a machine has plugged in."""
    config = VMConfig.parse(mapping)
    total = config.value("sockets") * config.value("cores")
    return int(config.get("vcpus") or total)


def _with_fd(part: Part, name: str) -> Part:
    """A tap by the name under which QEMU holds its descriptor."""
    if isinstance(part, Netdev) and "fd" in part.options:
        return replace(part, options={**part.options, "fd": name})
    return part
