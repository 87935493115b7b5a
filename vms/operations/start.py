"""Start: from the rows to a running, watched QEMU.

What happens before QEMU runs is kept short, because a person waits: the rows were read in one go when the
task was admitted, everything is validated in memory, and the bookkeeping follows once the guest runs. Yet the
truth survives a worker killed at any point: the launch record is noted on disk before the process exists, the
process is found by its arguments, and whoever comes next removes what a start that did not happen has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vms.config.relations import check_config
from vms.config.rules import findings
from vms.config.vmconfig import VMConfig
from vms.errors import (
    ConfigError,
    ConfigErrors,
    LaunchError,
    StateError,
    StorageError,
    VMError,
)
from vms.hardware.context import LaunchContext, NodeFacts, RuntimePaths
from vms.models import VM, Volume
from vms.models.configuration import config_of, with_parts
from vms.network.tap import Tap
from vms.operations import cloudinit, memory
from vms.operations.base import Context
from vms.operations.cards import close_all, open_taps
from vms.operations.memory import Saved
from vms.operations.reach import unreadable
from vms.operations.share import share_time
from vms.operations.waiting import settle_keys
from vms.qemu import process, sharing, statefile, tpm
from vms.qemu.cmdline import command
from vms.qemu.monitor import Monitor
from vms.schema.types import CpuSet

STATS_INTERVAL = 2
"""Seconds between two memory reports of the balloon device, as in PVE."""


async def reload(ctx: Context, vm: VM) -> VM:
    """The VM as it is now, with all its parts; pending changes become the configuration."""
    fresh = await ctx.db(parts_of, vm)
    if not fresh.pending:
        return fresh
    await settle_keys(ctx.services, ctx.db, vm)
    return await ctx.db(parts_of, vm)


def parts_of(vm: VM) -> VM:
    """The VM as it is now, with all its parts."""
    fresh: VM = with_parts(VM.everything.filter(pk=vm.pk)).get()
    return fresh


def storages_of(vm: VM) -> dict[str, dict[str, Any]]:
    """The storages a VM's drives lie on, as pure readers want them (no query: the rows are at hand)."""
    rows = [disk.volume.storage if disk.volume else disk.storage for disk in vm.disks.all()]
    return {row.name: row.facts() for row in rows if row is not None}


def judge(mapping: Mapping[str, str], facts: NodeFacts) -> VMConfig:
    """The whole configuration, checked at the last moment, whoever wrote it.

    Raises :class:`ConfigErrors` naming each key that keeps this VM from starting on this node.
    """
    check_config(mapping)
    config = VMConfig.parse(mapping)
    blocked = [found for found in findings(config, facts) if found.severity == "block"]
    if blocked:
        raise ConfigErrors(ConfigError(next(iter(found.keys), "config"), found.text) for found in blocked)
    return config


def timeout_of(config: VMConfig) -> float:
    """Seconds QEMU gets to come up, by PVE's rule: large memory and many cards take longer."""
    memory = config.mapping.get("memory", "512").removeprefix("current=")
    mib = int(memory) if memory.isdigit() else 512
    nics = sum(1 for _ in config.slots("net"))
    return max(30.0, mib / 1024 if mib > 30720 else 30.0) + 5 * nics


async def bring_up(
    ctx: Context, vm: VM | None = None, *, state: Saved | None = None, halted: bool = False
) -> None:
    """Start the VM's QEMU and leave it watched. Raises what went wrong; then nothing is left behind.

    ``vm``: its rows as they were just read; without it they are read here. With ``state`` the guest goes on
    from that memory instead of booting, on the machine it was saved on; ``halted``: it stands still. What is
    pending waits on, and once the guest runs every step of the task stands (``ctx.keep``).
    """
    services = ctx.services
    if vm is None or (vm.pending and state is None):
        vm = await (reload(ctx, ctx.vm) if state is None else ctx.db(parts_of, ctx.vm))
    if services.guest(vm.vmid) is not None:
        raise StateError(f"VM {vm.vmid} already running")
    mapping = config_of(vm)
    out_of_reach = unreadable(mapping, services.user)
    facts: NodeFacts = replace(services.facts, storages=storages_of(vm), unreadable=out_of_reach)
    config = judge(mapping, facts)
    if state is None:
        await cloudinit.refresh(ctx, vm, mapping)
    await activate(ctx, vm)
    services.paths.prepare(vm.vmid)
    ctx.on_undo(f"run folder of VM {vm.vmid}", lambda: services.clean(vm.vmid))
    with contextlib.ExitStack() as held:  # QEMU has its own of all of them once it runs
        memory_fd = memory.open_state(ctx, state) if state is not None else None
        if memory_fd is not None:
            held.callback(os.close, memory_fd)
        taps = await open_taps(vm.vmid, config)
        held.callback(close_all, taps)
        await start_helpers(ctx, vm, config, facts)
        argv = command(config, launch_context(ctx, vm, facts, taps, state))
        argv += ["-S"] if halted and "-S" not in argv else []
        record, launched = await launch(ctx, vm, config, argv, taps, memory_fd)
    await ctx.log(f"QEMU runs as process {launched.running.pid}")
    await share_time(ctx, vm, launched.running.pid, mapping)
    if state is None:
        await watch(ctx, vm, launched, record, mapping)
    else:
        await memory.to_the_end(go_on(ctx, vm, launched, record, mapping, state))
    if not process.alive(launched.running):
        log = services.paths.vm(vm.vmid).log
        raise LaunchError(argv, None, f"QEMU ended as soon as it ran; its log is {log}")


async def launch(
    ctx: Context, vm: VM, config: VMConfig, argv: list[str], taps: Mapping[str, Tap], memory_fd: int | None
) -> tuple[dict[str, Any], process.Launched]:
    """Run the command; answers its launch record too. With ``memory_fd`` its memory has been read by then."""
    paths = ctx.services.paths.vm(vm.vmid)
    record = note(ctx, vm, config.mapping, argv)
    words, handed, timeout = argv, [one.fd for one in taps.values()], timeout_of(config)
    if memory_fd is not None:
        words, handed = [*argv, *statefile.incoming(memory_fd)], [*handed, memory_fd]
        timeout = max(timeout, memory.patience(memory_fd))
    launched = await process.launch(
        words, qmp=paths.qmp, log=paths.log, user=ctx.services.user, pass_fds=handed, timeout=timeout,
        cpus=pinned(config),
    )  # fmt: skip
    ctx.on_undo(f"process of VM {vm.vmid}", lambda: _kill(ctx, vm.vmid, launched))
    if memory_fd is not None:
        await memory.read(ctx, launched, words, memory_fd, paths.log)
    record |= {"pid": launched.running.pid, "start_time": launched.running.start_time}
    return record, launched


async def watch(
    ctx: Context, vm: VM, launched: process.Launched, record: dict[str, Any], mapping: Mapping[str, str]
) -> None:
    """From here on the worker follows the process, and the row will say what it is."""
    # Side by side: each question waits for QEMU's one lock, which the guest holds while it is emulated.
    guest, record["machine"] = await asyncio.gather(
        ctx.services.attach(vm, launched, record), settle_in(ctx, launched.monitor, mapping)
    )
    ctx.at_end(guest.store)


async def go_on(
    ctx: Context, vm: VM, launched: process.Launched, record: dict[str, Any], mapping: Mapping[str, str],
    state: Saved,
) -> None:  # fmt: skip
    """Let a guest go on whose memory was read. Once it does, nothing takes that back: its disks change."""
    if state.spend is not None:
        await ctx.db(state.spend, True)
    try:
        ctx.step("before the guest goes on")
        await launched.monitor.cont()
    except VMError:
        if state.spend is not None:
            await ctx.db(state.spend, False)
        raise
    ctx.keep()
    await watch(ctx, vm, launched, record, mapping)


def pinned(config: VMConfig) -> list[int]:
    """The CPUs of the node the VM stays on, none for all. Raises :class:`ConfigError` for one not there."""
    text = config.get("affinity")
    if not text:
        return []
    wanted, there = CpuSet.parse(text).numbers(), os.sched_getaffinity(0)
    missing = [number for number in wanted if number not in there]
    if missing:
        has = ",".join(str(number) for number in sorted(there))
        raise ConfigError("affinity", f"this node has no CPU {missing[0]}; it has {has}")
    return wanted


async def _kill(ctx: Context, vmid: int, launched: process.Launched) -> None:
    """Undo a launch: end the process, wait until it was cleaned up."""
    ctx.services.expect_end(vmid, "its start was undone")
    await process.terminate(launched.running, 1)
    await ctx.services.gone(vmid, 10)


def launch_context(
    ctx: Context, vm: VM, facts: NodeFacts, taps: Mapping[str, Tap], state: Saved | None = None
) -> LaunchContext:
    """What the command line is made from besides the configuration."""
    paths = ctx.services.paths
    return LaunchContext(
        vmid=vm.vmid,
        facts=facts,
        paths=RuntimePaths.of(str(paths.run_dir), str(paths.serial_dir), vm.vmid),
        taps={key: one.fd for key, one in taps.items()},
        machine=state.machine if state is not None else "",
        cpu=state.cpu if state is not None else "",
    )


def note(ctx: Context, vm: VM, mapping: Mapping[str, str], argv: list[str]) -> dict[str, Any]:
    """The launch record, on disk before the process exists. Its pid follows."""
    record: dict[str, Any] = {
        "run_id": secrets.token_hex(16),
        "task": ctx.task.pk,
        "config": dict(mapping),
        "cpu": argv[argv.index("-cpu") + 1],
        "argv_digest": hashlib.sha256("\0".join(argv).encode()).hexdigest(),
    }
    ctx.services.note_launch(vm.vmid, record)
    return record


async def activate(ctx: Context, vm: VM) -> None:
    """Every volume of the VM must be there, be what our record says, and be readable by QEMU."""
    errors: list[ConfigError] = []
    for disk in vm.disks.all():
        if disk.volume is None or disk.slot.startswith("unused"):
            continue
        try:
            await activate_volume(ctx, disk.slot, disk.volume)
        except ConfigError as error:
            errors.append(error)
    if errors:
        raise ConfigErrors(errors)


async def activate_volume(ctx: Context, slot: str, volume: Volume) -> None:
    """Raise :class:`ConfigError` unless the volume is there, as recorded, and readable by QEMU."""
    try:
        storage = ctx.services.storage(volume.storage.name, volume.storage.facts())
        if not volume.storage.enabled:
            raise StorageError(f"storage '{volume.storage.name}' is switched off")
        await storage.activate(volume.volid, volume.format)
    except StorageError as error:
        raise ConfigError(slot, missing(slot, volume, error)) from error


def missing(slot: str, volume: Volume, error: StorageError) -> str:
    """What is wrong with a volume and what to do about it."""
    advice = error.hint
    if volume.content == Volume.Content.ISO and not advice:
        advice = "Upload the ISO again, choose another, or empty the drive."
    return f"{error} {advice}".strip()


async def start_helpers(ctx: Context, vm: VM, config: VMConfig, facts: NodeFacts) -> None:
    """Run the processes QEMU talks to: they wait for it, and end with it."""
    if "tpmstate0" in config:
        await start_tpm(ctx, vm, config)
    for key, index, share in config.slots("virtiofs"):
        folder = Path(facts.folder_mappings[share.dirid])
        paths = ctx.services.paths.vm(vm.vmid)
        await sharing.start(paths, index, share, folder, user=ctx.services.user)
        await ctx.log(f"{key}: the folder {folder} is shared")


async def start_tpm(ctx: Context, vm: VM, config: VMConfig) -> None:
    """Run swtpm on the VM's state volume; it ends with QEMU."""
    disk = next(disk for disk in vm.disks.all() if disk.slot == "tpmstate0")
    if disk.volume is None:
        raise ConfigError("tpmstate0", "has no volume; remove the TPM and add it again")
    storage = ctx.services.storage(disk.volume.storage.name, disk.volume.storage.facts())
    version = str(disk.options.get("version", "v1.2"))
    await tpm.start(
        ctx.services.paths.vm(vm.vmid), storage.path(disk.volume.volid), version=version,
        user=ctx.services.user,
    )  # fmt: skip


async def settle_in(ctx: Context, monitor: Monitor, mapping: Mapping[str, str]) -> str:
    """What is told to a QEMU that runs; answers the machine version it is.

    The guest runs already: what fails here is a warning.
    """
    orders: list[Awaitable[Any]] = [
        monitor.execute("qom-get", {"path": "/machine", "property": "type"}),
        *(monitor.set_link(key, up=False) for key in unplugged(mapping)),
    ]
    balloon = int(mapping.get("balloon") or 0)
    memory = int((mapping.get("memory") or "512").removeprefix("current="))
    if mapping.get("balloon") != "0":
        stats = {"path": "/machine/peripheral/balloon0", "property": "guest-stats-polling-interval"}
        orders.append(monitor.execute("qom-set", {**stats, "value": STATS_INTERVAL}))
        if 0 < balloon < memory:
            orders.append(monitor.balloon(balloon << 20))
    answers = await asyncio.gather(*orders, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, VMError):
            await ctx.warn(f"QEMU runs, but: {answer}")
        elif isinstance(answer, BaseException):
            raise answer
    return "" if isinstance(answers[0], VMError) else str(answers[0]).removesuffix("-machine")


def unplugged(mapping: Mapping[str, str]) -> list[str]:
    """The network cards whose cable is pulled."""
    return [
        key for key, text in mapping.items() if key.startswith("net") and "link_down=1" in text.split(",")
    ]


async def came_up(ctx: Context) -> str:
    """What became of a QEMU that may still be setting itself up: its status once it is known."""
    vmid = ctx.vm.vmid
    async with asyncio.timeout(60):
        while True:
            status = await ctx.services.observe(vmid)
            if status != VM.Status.UNKNOWN:
                return status
            await ctx.services.gone(vmid, 0.1)
