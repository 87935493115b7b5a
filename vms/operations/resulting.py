"""Whether a change may be made, judged by the configuration that would result from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from vms.config import sshkeys
from vms.config.relations import check_config
from vms.config.rules import Finding, findings
from vms.config.seeds import named
from vms.config.upkeep import applied, holds_volume, is_seed, is_unused, volume_of
from vms.config.vmconfig import VMConfig, parse_value
from vms.errors import ConfigError, ConfigErrors, StateError
from vms.hardware import is_drive
from vms.models import VM, Disk, StorageStatus
from vms.models.configuration import check_saved, drives_of, size_text, state_digest
from vms.models.usage import facts_in_use
from vms.models.waiting import Waiting, volumes_named
from vms.operations import images, snippets
from vms.operations.places import place_errors
from vms.operations.protection import SWITCH_OFF, said_of
from vms.operations.waiting import needed_by
from vms.operations.wish import Wish, volume_texts


def judge(vm: VM, wish: Wish) -> None:
    """Raise :class:`ConfigErrors` with one error per key that cannot be, :class:`StateError` when the asker
    has seen an older configuration. Changes nothing."""
    if wish.digest and wish.digest not in (state_digest(vm), vm.digest if not vm.pending else ""):
        raise StateError(
            "checksum mismatch: the configuration was changed by somebody else meanwhile",
            hint="Reload and make your change again.",
        )
    waiting = Waiting.of(vm)
    planned, _ = wish.planned(waiting)
    errors = [*_protected(vm, wish, waiting), *_frozen(vm, wish, waiting)]
    if errors:
        raise ConfigErrors(errors)
    result = planned.effective
    check_config(result)
    check_saved(vm, result, new=True)
    if "cicustom" in wish.set:
        snippets.texts(named(VMConfig.parse(result)))
    sshkeys.check(wish.set.get("sshkeys", ""))
    errors = [*_new_disks(vm, wish), *_doomed(vm, wish, waiting), *blocked(vm, waiting.effective, result)]
    if errors:
        raise ConfigErrors(errors)


def _protected(vm: VM, wish: Wish, waiting: Waiting) -> Iterator[ConfigError]:
    """A protected VM keeps its disks."""
    if waiting.config.get("protection", "0") != "1":
        return
    on, hint = " - protection mode enabled", f"{said_of(vm)} {SWITCH_OFF}"
    for key in wish.delete:
        if is_unused(key) and key in waiting.config:
            volume = volume_of(waiting.config[key])
            yield ConfigError(
                key, f"can't remove unused disk '{volume}' - protection mode enabled", hint=hint
            )
        elif is_drive(key) or key in ("efidisk0", "tpmstate0"):
            yield ConfigError(key, f"can't remove drive '{key}'{on}", hint=hint)
    for key, text in wish.set.items():
        old = waiting.config.get(key)
        if old is not None and is_drive(key) and _is_disk(key, old) and volume_of(old) != volume_of(text):
            yield ConfigError(key, f"can't remove drive '{key}'{on}", hint=hint)


def _is_disk(key: str, text: str) -> bool:
    return not parse_value(key, text).is_cdrom


def _frozen(vm: VM, wish: Wish, waiting: Waiting) -> Iterator[ConfigError]:
    """The disks of a template are what its clones lie on."""
    if not vm.template:
        return
    for key in (*wish.set, *wish.delete):
        texts = [text for text in (waiting.config.get(key), wish.set.get(key)) if text is not None]
        fixed = key in ("efidisk0", "tpmstate0") or is_unused(key)
        if fixed or (is_drive(key) and any(_is_disk(key, text) for text in texts)):
            yield ConfigError(key, "is a disk of a template, which stays as it is")


def _new_disks(vm: VM, wish: Wish) -> list[ConfigError]:
    """New volumes: their image can be copied, and there is room by what the storages last said."""
    wanted = drives_of(vm, volume_texts(wish))
    drives = ((key, volume_of(text)) for key, text in wish.set.items() if holds_volume(key))
    errors = place_errors(drives)
    for disk in wanted:
        if images.OPTION in disk.options:
            try:
                images.source(disk, str(disk.options[images.OPTION]), vm.node)
            except ConfigError as error:
                errors.append(error)
    return errors + _no_room(vm, wanted)


def _no_room(vm: VM, wanted: Iterable[Disk]) -> list[ConfigError]:
    by_storage: dict[int | None, list[Disk]] = defaultdict(list)
    for disk in wanted:
        by_storage[disk.storage_id].append(disk)
    errors = []
    for status in StorageStatus.objects.select_related("storage").filter(
        storage__in=[pk for pk in by_storage if pk], node=vm.node, error=""
    ):
        disks = by_storage[status.storage_id]
        total = sum(disk.new_size for disk in disks)
        if total > status.available:
            free = f"{status.available / (1 << 30):.1f} GiB"
            text = f"storage '{status.storage.name}' has {free} free, the new disks want {size_text(total)}"
            errors.append(ConfigError(disks[-1].slot, f"{text}; make them smaller", part="size"))
    return errors


def _doomed(vm: VM, wish: Wish, waiting: Waiting) -> list[ConfigError]:
    """What is to be deleted for good is nobody's need: no snapshot's, no clone's, no other VM's."""
    removed = [key for key in wish.delete if key in waiting.config]
    forced = removed if wish.force else []
    gone = applied(waiting.config, dict.fromkeys(removed), vm.vmid, forced).doomed
    keys = {volume_of(waiting.config[key]): key for key in removed}
    errors = []
    for volume in volumes_named(vm, gone):
        needed = "" if is_seed(volume.volid) else needed_by(volume)
        if needed and volume.volid in keys:
            errors.append(ConfigError(keys[volume.volid], needed))
    return errors


def blocked(vm: VM, before: Mapping[str, str], after: Mapping[str, str]) -> list[ConfigError]:
    """The rules that this very change breaks. What was wrong before hinders nobody.

    A node nobody has measured yet cannot be judged by.
    """
    if not vm.node.facts:
        return []
    facts = facts_in_use(vm.node, besides=vm)

    def blocking(mapping: Mapping[str, str]) -> list[Finding]:
        found = findings(VMConfig.parse(mapping), facts)
        return [one for one in found if one.severity == "block"]

    known = {(one.rule, one.text) for one in blocking(before)}
    return [
        ConfigError(next(iter(one.keys), "config"), one.text)
        for one in blocking(after)
        if (one.rule, one.text) not in known
    ]


def warnings_of(vm: VM, mapping: Mapping[str, str]) -> list[str]:
    """What the rules say of a configuration without refusing it."""
    if not vm.node.facts:
        return []
    found = findings(VMConfig.parse(mapping), facts_in_use(vm.node, besides=vm))
    return [one.text for one in found if one.severity == "warn"]
