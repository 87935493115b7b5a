"""The command line told by wizard tab: which key caused which argument. Secrets are masked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from vms.hardware import slot_of
from vms.hardware.parts import Part

TABS = ("General", "OS", "System", "Disks", "CPU", "Memory", "Network")
MASK = "********"
_BY_KEY = {
    "General": ("name", "tags", "onboot", "startup", "template", "args", "arch", ""),
    "OS": ("ostype", "localtime", "startdate", "tdf", "boot", "bootdisk"),
    "Disks": ("scsihw",),
    "CPU": ("cpu", "cores", "sockets", "vcpus", "kvm", "affinity"),
    "Memory": ("memory", "balloon", "numa", "hugepages", "shares", "allow-ksm"),
}
_BY_SLOT = {"net": "Network", "ipconfig": "Network", "numa": "Memory"} | dict.fromkeys(
    ("ide", "sata", "scsi", "virtio", "unused"), "Disks"
)
_SECRET = re.compile(r"(password|passwd|secret|key-secret|token)=([^,]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Argument:
    """One option of the command line. ``key`` is the configuration key that asked for it; empty when it is
    always there. ``text`` is how a person reads it."""

    key: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True)
class Group:
    """The arguments of one wizard tab."""

    tab: str
    arguments: tuple[Argument, ...]


def tab_of(key: str) -> str:
    """The wizard tab on which ``key`` is set."""
    for tab, keys in _BY_KEY.items():
        if key in keys:
            return tab
    slot = slot_of(key)
    return _BY_SLOT.get(slot[0].name, "System") if slot else "System"


@lru_cache(2048)
def masked(word: str) -> str:
    """``word`` with the values of secrets hidden."""
    return _SECRET.sub(rf"\1={MASK}", word)


def arguments(parts: Sequence[Part]) -> list[Argument]:
    """One argument for each of ``vms.qemu.cmdline.parts``, in QEMU's order."""
    return [Argument(part.key, tuple(masked(word) for word in part.argv())) for part in parts]


def explain(parts: Sequence[Part]) -> list[Group]:
    """The arguments of ``vms.qemu.cmdline.parts`` grouped by tab, in the wizard's order."""
    found: dict[str, list[Argument]] = {tab: [] for tab in TABS}
    for argument in arguments(parts):
        found[tab_of(argument.key)].append(argument)
    return [Group(tab, tuple(each)) for tab, each in found.items() if each]


def difference(
    before: Sequence[Argument], after: Sequence[Argument]
) -> tuple[list[Argument], list[Argument]]:
    """What a change takes away and what it adds."""
    before_words, after_words = {item.words for item in before}, {item.words for item in after}
    gone = [argument for argument in before if argument.words not in after_words]
    come = [argument for argument in after if argument.words not in before_words]
    return gone, come
