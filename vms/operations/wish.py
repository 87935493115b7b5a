"""What somebody asks of a configuration: read, authorised and judged before anything is done.

Everything is judged by the configuration that would result, so the same words stand beside the same key at
every door and again when the task's turn comes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vms import access
from vms.config.creation import new_mac, new_uuid, pinned_machine
from vms.config.pending import How, name_of, verdict
from vms.config.rights import OPERATOR, rights
from vms.config.secrets import kept_secret
from vms.config.upkeep import boot_devices, holds_volume, is_unused, is_wish, volume_of
from vms.config.vmconfig import ALIASES, VMConfig, parse_value
from vms.errors import AccessError, ConfigError, ConfigErrors
from vms.hardware import OPTIONS, is_drive, known, part_of
from vms.hardware.context import NodeFacts
from vms.hardware.guest import windows_version
from vms.hardware.machine import Machine
from vms.models import VM
from vms.models.waiting import Waiting
from vms.operations import images
from vms.schema.option import shown
from vms.schema.types import normal_tags

DETACHED = "holds a disk that is there already, written when a disk is detached; plug it into a bus"

OF_OPERATIONS = frozenset(
    {"lock", "meta", "template", "vmstate", "parent", "snaptime", "snapstate", "runningmachine", "runningcpu",
     "running-nets-host-mtu"}
)  # fmt: skip
"""Written by operations themselves; nobody sets them."""


@dataclass(frozen=True)
class Wish:
    """One request: texts to set in their canonical form, keys to delete, keys that shall wait no longer.

    ``force``: the volumes of deleted drives go for good. ``digest``: what the asker has seen.
    """

    set: Mapping[str, str]
    delete: tuple[str, ...] = ()
    revert: tuple[str, ...] = ()
    digest: str = ""
    force: bool = False
    brought: frozenset[str] = frozenset()
    """The keys of ``set`` that nobody asked for: they follow from the others."""

    @classmethod
    def read(
        cls,
        vm: VM,
        given: Mapping[str, str],
        delete: Iterable[str] = (),
        revert: Iterable[str] = (),
        digest: str = "",
        force: bool = False,
    ) -> Wish:
        """Words as a wish. Raises :class:`ConfigErrors`, one error per key.

        An empty text deletes its key. Whatever is made up for the asker (an address, a number) is made here,
        and a password is hashed.
        """
        waiting = Waiting.of(vm)
        texts = {ALIASES.get(key, key): text for key, text in given.items()}
        empty = [key for key, text in texts.items() if not text.strip() and key != "boot"]
        gone = tuple(dict.fromkeys([*(ALIASES.get(key, key) for key in delete), *empty]))
        back = tuple(dict.fromkeys(revert))
        errors = _conflicts(texts.keys() - set(empty), gone, back)
        found: dict[str, str] = {}
        for key, text in texts.items():
            try:
                if key not in empty:
                    found[key] = canonical_value(key, text)
            except ConfigErrors as wrong:
                errors += wrong
            except ConfigError as error:
                errors.append(error)
        if errors:
            raise ConfigErrors(errors)
        found = _secret(found, waiting, vm)
        made = cls(found, gone, back, digest, force)
        follows = made._follows(vm, waiting)
        return replace(made, set=found | follows, brought=frozenset(follows))

    @classmethod
    def of_params(cls, vm: VM, params: Any) -> Wish:
        """The wish a task carries. Raises :class:`ConfigErrors`."""
        try:
            given = json.loads(params.set or "{}")
        except ValueError as error:
            raise ConfigError("set", f"is not JSON: {error}") from None
        if not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values()):
            raise ConfigError("set", "is not an object of texts")
        return cls.read(
            vm, given, _words(params.delete), _words(params.revert), params.digest or "", bool(params.force)
        )

    def params(self) -> dict[str, str]:
        """The same as a task's parameters."""
        asked = {key: text for key, text in self.set.items() if key not in self.brought}
        found = {
            "set": json.dumps(asked) if asked else "",
            "delete": ",".join(self.delete),
            "revert": ",".join(self.revert),
            "force": "1" if self.force else "",
        }
        return {key: text for key, text in found.items() if text}

    def without(self, keys: Iterable[str]) -> Wish:
        """The wish but for ``keys``, which were done already."""
        done = set(keys)
        return replace(
            self,
            set={key: text for key, text in self.set.items() if key not in done},
            delete=tuple(key for key in self.delete if key not in done),
            revert=tuple(key for key in self.revert if key not in done),
            digest="",
        )

    @property
    def empty(self) -> bool:
        """Whether nothing is asked."""
        return not (self.set or self.delete or self.revert)

    def changes(self, waiting: Waiting) -> dict[str, str | None]:
        """Key → text or removal, without what is no change of the configuration."""
        found: dict[str, str | None] = {key: None for key in self.delete if key in waiting.config}
        found |= self.set
        return {
            key: text for key, text in found.items() if verdict(key, text, waiting.config).how is not How.SAME
        }

    def planned(self, waiting: Waiting) -> tuple[Waiting, tuple[str, ...]]:
        """What waits once this was asked, and the volumes that go for good with that."""
        changes = self.changes(waiting)
        named = {*self.set, *self.delete, *self.revert}
        forced = [key for key, text in changes.items() if text is None and self.force and holds_volume(key)]
        return waiting.with_changes(changes, forced, named - changes.keys())

    def _follows(self, vm: VM, waiting: Waiting) -> dict[str, str]:
        """What the wish brings along: a CD drive's place in the boot order, a pinned board for Windows."""
        planned, _ = self.planned(waiting)
        after, found = planned.effective, dict[str, str]()
        before = waiting.effective
        added = [key for key, text in self.set.items() if key not in before and _is_disc(key, text)]
        devices = boot_devices(after)
        if added and devices is not None and "boot" not in self.set:
            found["boot"] = "order=" + ";".join([*devices, *(key for key in added if key not in devices)])
        if windows_version(self.set.get("ostype")):
            board: Machine = VMConfig.parse({"machine": after["machine"]} if "machine" in after else {}).part(
                "machine", Machine
            )
            pinned = pinned_machine(board, NodeFacts.from_json(vm.node.facts))
            found |= {"machine": pinned} if pinned else {}
        return found


def _words(text: str | None) -> list[str]:
    return [word for word in (text or "").replace(";", ",").replace(" ", ",").split(",") if word]


def _is_disc(key: str, text: str) -> bool:
    if not is_drive(key):
        return False
    drive = parse_value(key, text)
    return bool(drive.is_cdrom) and not drive.is_cloudinit and not is_wish(text)


def _conflicts(given: Iterable[str], delete: Sequence[str], revert: Sequence[str]) -> list[ConfigError]:
    errors = []
    for key in dict.fromkeys([*given, *delete, *revert]):
        if not known(key):
            errors.append(ConfigError(key, f"'{shown(key)}' is no option of a virtual machine"))
        elif name_of(key) in OF_OPERATIONS and key not in revert:
            errors.append(ConfigError(key, "is written by operations and cannot be set"))
    for key in given:
        if is_unused(key):
            errors.append(ConfigError(key, DETACHED))
        for words, name in ((delete, "deleted"), (revert, "reverted")):
            if key in words:
                errors.append(ConfigError(key, f"cannot be set and {name} at the same time"))
    errors += [
        ConfigError(key, "cannot be deleted and reverted at the same time") for key in delete if key in revert
    ]
    return errors


def canonical_value(key: str, text: str) -> str:
    """The text in which a value is stored. Raises :class:`ConfigError` on its key.

    A card without an address gets one, as does a generation id that asks for one.
    """
    value = parse_value(key, text)
    part = part_of(key)
    if part is None:
        option = OPTIONS[key]
        if key == "tags":
            return normal_tags(text)
        if key == "vmgenid" and text == "1":
            return new_uuid()
        return option.format(value) if option.kind in ("bool", "int", "float") else str(text)
    if name_of(key) == "net" and value.macaddr is None:
        value = replace(value, macaddr=new_mac())
    if is_drive(key) and not is_wish(text):
        # Size and format are the volume's own; whoever writes others would only deceive himself.
        value = replace(value, size=None, image_format=None)
    return str(value.format())


def _secret(found: dict[str, str], waiting: Waiting, vm: VM) -> dict[str, str]:
    if "cipassword" not in found:
        return found
    system = {"ostype": waiting.effective.get("ostype", ""), **found}.get("ostype", "")
    kept = kept_secret({"cipassword": found["cipassword"], "ostype": system}, vm.options)
    rest = {key: text for key, text in found.items() if key != "cipassword"}
    return rest | ({"cipassword": kept["cipassword"]} if "cipassword" in kept else {})


def authorise(user: Any, vm: VM, wish: Wish) -> None:
    """Raise :class:`AccessError` unless ``user`` may make each change of the wish."""
    waiting = Waiting.of(vm)
    asked: list[tuple[str, str | None, str | None]] = [
        (key, waiting.config.get(key), text) for key, text in wish.set.items() if key not in wish.brought
    ]
    asked += [(key, waiting.config.get(key), None) for key in wish.delete]
    asked += [(key, waiting.config.get(key), waiting.changes.get(key)) for key in wish.revert]
    for key, old, new in asked:
        for right in rights(key, old, new):
            if right == OPERATOR:
                if not getattr(user, "is_superuser", False):
                    raise AccessError(f"only an operator may change '{key}'")
                continue
            pool = vm.pool.name if vm.pool else ""
            path, where = right.path or vm.path, "" if right.path else pool
            if not any(access.may(user, one, path, pool=where) for one in right.privileges):
                raise AccessError(f"Permission check failed ({path}, {'|'.join(right.privileges)})")
        if new is not None and images.OPTION in new:
            images.authorise_image(user, vm.node, parse_value(key, new).import_from)


def volume_texts(wish: Wish) -> dict[str, str]:
    """The drives for which the wish wants a new volume."""
    return {key: text for key, text in wish.set.items() if holds_volume(key) and is_wish(volume_of(text))}
