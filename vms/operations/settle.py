"""A noted change takes effect.

New volumes are made, the whole change is noted as waiting in one transaction, and from there each key takes
effect by itself, or goes on waiting with the reason. A worker that dies leaves either a volume that nobody
knows, which :func:`clean_up` removes, or a note, which the next one carries out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from django.db import transaction

from vms.config.pending import How, Verdict, verdict
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError, ConfigErrors, VMError
from vms.models import VM, Disk, Storage, Task, Volume
from vms.models.configuration import config_of, drives_of
from vms.models.notes import note_work
from vms.models.waiting import Waiting, forget_volumes, volumes_named
from vms.operations import cloudinit, create
from vms.operations.base import Context
from vms.operations.plugging import Change, Machine
from vms.operations.volumes import keep_volume
from vms.operations.waiting import fresh_of, fresh_of_now, settle_keys
from vms.operations.wish import Wish, volume_texts
from vms.qemu import live
from vms.storage import base as storage_base
from vms.tasks import notify

BEFORE, TASK = "volumes_before", "task"
"""In ``VM.draft`` while a task makes new volumes: those that were there, so that others are known as ours."""
SWITCHED = frozenset({"vcpus"})
"""Keys whose waiting the guest felt already: when they wait no longer, it has to be told."""


@dataclass(frozen=True)
class Made:
    """A new volume, where it lies, and the drive's value with it."""

    text: str
    storage: Storage
    volume: storage_base.Volume


async def carry_out(ctx: Context) -> None:
    """Make the wish of the task true as far as it can be now; the rest waits.

    Raises :class:`ConfigErrors` with an error per key that could have taken effect and did not.
    """
    wish = await ctx.db(Wish.of_params, ctx.vm, ctx.params)
    for volume in await ctx.db(reverted_seeds, ctx.vm, wish):
        await ctx.services.storage(volume.storage.name, volume.storage.facts()).free(volume.volid)
    made = await make_volumes(ctx, wish)
    keys = await ctx.db(note, ctx.task, ctx.vm, wish, made)
    ctx.keep()
    ctx.step("noted")
    await take_effect(ctx, keys)
    await cloudinit.renew(ctx)


async def go_on(ctx: Context) -> None:
    """Carry out what a dead worker had noted; do all of it when it had noted nothing."""
    noted = ctx.params.keys
    if noted is None:
        await clean_up(ctx)
        await carry_out(ctx)
    else:
        await take_effect(ctx, [key for key in noted.split(",") if key])
        await cloudinit.renew(ctx)


def dropped(before: Waiting, after: Waiting) -> frozenset[str]:
    """The keys that waited and do so no longer, though nothing of them took effect."""
    return frozenset(before.changes.keys() - after.changes.keys())


def reverted_seeds(vm: VM, wish: Wish) -> list[Volume]:
    """The volumes of cloud-init drives that waited and shall not any more: nobody misses them."""
    fresh = fresh_of_now(vm)
    return volumes_named(fresh, wish.planned(Waiting.of(fresh))[1])


async def make_volumes(ctx: Context, wish: Wish) -> dict[str, Made]:
    """Every new volume of the wish, by key. Freed again unless they are noted."""
    disks = await ctx.db(lambda: drives_of(ctx.vm, volume_texts(wish)))
    pairs = [(disk, disk.storage) for disk in disks if disk.storage is not None]
    if not pairs:
        return {}
    await create.check_space(ctx, pairs)
    before = await there(ctx, [storage for _, storage in pairs])
    await ctx.db(note_work, ctx.vm, {BEFORE: sorted(before), TASK: ctx.task.pk})
    ctx.on_undo("note of new volumes", lambda: ctx.db(note_work, ctx.vm, {}))
    made: dict[str, Made] = {}
    for number, (disk, storage) in enumerate(pairs):
        await ctx.progress(number / len(pairs), f"creating {disk.slot}")
        volume = await _made(ctx, disk, storage)
        text = create.made_text(disk, volume)
        made[disk.slot] = Made(text, storage, volume)
        await ctx.log(f"{disk.slot}: successfully created disk '{text}'")
        ctx.step(f"made {disk.slot}")
    await ctx.progress(None, "")
    return made


async def _made(ctx: Context, disk: Disk, storage: Storage) -> storage_base.Volume:
    try:
        return await create.make_volume(ctx, ctx.vm, disk, storage)
    except ConfigError:
        raise
    except VMError as error:
        raise ConfigError(disk.slot, str(error), hint=error.hint) from error


async def there(ctx: Context, storages: Iterable[Storage]) -> set[str]:
    """The volumes of the VM that lie on these storages now."""
    found: set[str] = set()
    for storage in storages:
        listing = await ctx.services.storage(storage.name, storage.facts()).list("images", ctx.vm.vmid)
        found |= {volume.volid for volume in listing.volumes}
    return found


async def clean_up(ctx: Context) -> None:
    """Remove volumes that a dead worker made and did not note."""
    before = ctx.vm.draft.get(BEFORE)
    if before is None or ctx.vm.draft.get(TASK) != ctx.task.pk:
        return  # it died before it made any
    wish = await ctx.db(Wish.of_params, ctx.vm, ctx.params)
    disks = await ctx.db(lambda: drives_of(ctx.vm, volume_texts(wish)))
    storages = {disk.storage.name: disk.storage for disk in disks if disk.storage is not None}
    for volid in sorted(await there(ctx, storages.values()) - set(before)):
        storage = storages[volid.partition(":")[0]]
        await ctx.services.storage(storage.name, storage.facts()).free(volid)
        await ctx.db(forget_volumes, ctx.vm, [volid])  # a scan may have found it meanwhile
        await ctx.log(f"removed volume '{volid}', which belonged to nothing yet")
    await ctx.db(note_work, ctx.vm, {})


def note(task: Task, vm: VM, wish: Wish, made: Mapping[str, Made]) -> list[str]:
    """Note the whole wish as waiting, in one transaction; answers the keys that wait because of it.

    The task carries them from now on: they are noted once, whoever carries them out.
    """
    with transaction.atomic():
        fresh = fresh_of(vm)
        for one in made.values():
            keep_volume(one.storage, fresh.node, one.volume)
        texts = {key: one.text for key, one in made.items()}
        resolved = replace(wish, set={**wish.set, **texts})
        waiting = Waiting.of(fresh)
        planned, doomed = resolved.planned(waiting)
        keys = sorted(resolved.changes(waiting).keys() | SWITCHED & dropped(waiting, planned))
        planned.store(fresh)
        forget_volumes(fresh, doomed)
        note_work(fresh, {})
        Task.objects.filter(pk=task.pk).update(params={**task.params, "keys": ",".join(keys)})
    notify.changed(f"vm-{vm.vmid}", "storage")
    return keys


async def take_effect(ctx: Context, keys: Collection[str]) -> None:
    """What waits becomes the configuration: on a stopped VM all of it, on a running one what can."""
    if ctx.services.guest(ctx.vm.vmid) is not None:
        await while_running(ctx, keys)
        return
    waiting = await ctx.db(now_waiting, ctx.vm)
    await settle(ctx, None)
    for text in said(waiting.changes, {}):
        await ctx.log(text)


async def while_running(ctx: Context, keys: Collection[str]) -> None:
    """Let each key take effect that can on a running machine; removals first, memory and CPUs last.

    Raises :class:`ConfigErrors` for what could have and did not; it waits.
    """
    waiting = await ctx.db(now_waiting, ctx.vm)
    wanted = {key: waiting.changes[key] for key in keys if key in waiting.changes}
    verdicts = {key: verdict(key, text, waiting.config) for key, text in wanted.items()}
    now = [key for key, one in verdicts.items() if one.how is How.NOW]
    await settle(ctx, now)
    for text in said(now, {key: one.why for key, one in verdicts.items() if one.waits}):
        await ctx.log(text)
    machine, errors = await Machine.of(ctx, ctx.vm), list[ConfigError]()
    if "vcpus" in keys and "vcpus" not in waiting.changes:
        await machine.switch_on(waiting.config)
    order = {How.UNPLUG: 0, How.REPLUG: 1, How.PLUG: 2, How.TELL: 3}
    for key in sorted(
        (key for key, one in verdicts.items() if one.on_node), key=lambda k: order[verdicts[k].how]
    ):
        try:
            await one_key(ctx, machine, key, verdicts[key])
        except VMError as error:
            errors.append(problem(key, error))
    if errors:
        raise ConfigErrors(errors)


async def one_key(ctx: Context, machine: Machine, key: str, how: Verdict) -> None:
    """Let one key take effect on a running machine. Raises :class:`VMError`; it goes on waiting then."""
    waiting = await ctx.db(now_waiting, ctx.vm)
    after, _ = waiting.settled([key])
    change = Change(key, waiting.config, after.config)
    try:
        there = await machine.change(change, how)
    except VMError:
        if key == "memory":
            await ctx.db(keep_memory, ctx.vm, await live.plugged_memory(machine.monitor))
        raise
    ctx.step(f"told {key}")
    if not there:
        await ctx.log(f"{key}: pending, the guest has switched it off and it is unplugged at the next start")
        return
    await settle(ctx, [key])
    await ctx.db(note_running, ctx.vm, key)
    await ctx.log(f"changed while it runs: {key}")


def problem(key: str, error: VMError) -> ConfigError:
    """Why a key did not take effect, in PVE's words."""
    text = error.text if isinstance(error, ConfigError) else str(error)
    what = f"hotplug problem - {text.rstrip('.')}; it waits for the next start."
    return ConfigError(key, what, hint=error.hint)


def now_waiting(vm: VM) -> Waiting:
    """What waits by the rows as they are now."""
    return Waiting.of(fresh_of_now(vm))


def note_running(vm: VM, key: str) -> None:
    """The launch record says what runs: ``key`` is there as it is configured now."""
    with transaction.atomic():
        fresh = fresh_of(vm)
        record = fresh.launch.get("config")
        if not fresh.run_id or not isinstance(record, dict):
            return
        text = config_of(fresh).get(key)
        running = {name: old for name, old in record.items() if name != key} | ({key: text} if text else {})
        VM.everything.filter(pk=fresh.pk).update(launch={**fresh.launch, "config": running})


def keep_memory(vm: VM, mib: int) -> None:
    """The guest let go of some memory modules only: that is what it has; the rest waits."""
    with transaction.atomic():
        fresh = fresh_of(vm)
        waiting = Waiting.of(fresh)
        if mib != VMConfig.parse(waiting.config).value("memory").value("current"):
            replace(waiting, config={**waiting.config, "memory": str(mib)}).store(fresh)


async def settle(ctx: Context, keys: list[str] | None) -> None:
    """Make waiting keys the configuration (``None``: all); volumes that go with them are deleted first."""
    if keys != []:
        for volid in await settle_keys(ctx.services, ctx.db, ctx.vm, keys, ctx.step):
            await ctx.log(f"removed volume '{volid}'")


def said(done: Iterable[str], waits: Mapping[str, str]) -> list[str]:
    """Lines of a log: what took effect, and what waits for what."""
    lines = [f"changed: {', '.join(sorted(done))}"] if done else []
    return lines + [f"{key}: pending, {why}" for key, why in sorted(waits.items())]
