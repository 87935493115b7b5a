"""QEMU's command line as a page shows it: by tab, by the key that caused it, with what a change did to it.

The parts are the very ones a launch would use (:func:`vms.qemu.cmdline.parts`); nothing is made up here.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import count

from vms.hardware import is_drive
from vms.hardware.context import RuntimePaths
from vms.models.configuration import NEW_DISK, NEW_SEED
from vms.qemu.explain import Argument, difference

ADDED, REMOVED = "+", "\N{MINUS SIGN}"
SUBFOLDERS = ("qmp", "console", "agent", "tpm")


@dataclass(frozen=True)
class Place:
    """Where a key is set: the tab (``slug``, ``label``), the address of its field ("" when it cannot be
    opened) and the field's name."""

    slug: str
    label: str
    href: str = ""
    title: str = ""


@dataclass(frozen=True)
class Line:
    """One argument. ``mark`` says what the last change did: came, went, or "" for neither."""

    text: str
    mark: str = ""

    @property
    def word(self) -> str:
        """The mark for those who hear the page."""
        return {ADDED: "added: ", REMOVED: "removed: "}.get(self.mark, "")


@dataclass
class Cause:
    """A key and the arguments it led to."""

    key: str
    place: Place
    lines: list[Line] = field(default_factory=list)


@dataclass
class Group:
    """The causes on one tab."""

    slug: str
    label: str
    causes: list[Cause] = field(default_factory=list)


@dataclass(frozen=True)
class Command:
    """The whole command: ``script`` to copy and run, ``groups`` to read. ``why_not`` says why there is none
    yet; ``changed`` whether any line is marked; ``note`` is a word about it."""

    script: str = ""
    groups: tuple[Group, ...] = ()
    why_not: str = ""
    changed: bool = False
    note: str = ""


def told(
    now: Sequence[Argument], before: Sequence[Argument] | None, place: Callable[[str], Place], first: str = ""
) -> tuple[Group, ...]:
    """The arguments by tab and key; with ``before``, what went and what came is marked.

    Both come from :func:`vms.qemu.explain.arguments`. The tab called ``first`` leads; the others keep the
    order in which QEMU gets their arguments.
    """
    gone, come = difference(before, now) if before is not None else ([], [])
    fresh = {argument.words for argument in come}
    groups: dict[str, Group] = {}
    place = cache(place)
    for argument in now:
        mark = ADDED if argument.words in fresh else ""
        _cause(groups, argument, place).lines.append(Line(shell(argument.words), mark))
    for argument in reversed(gone):
        _cause(groups, argument, place).lines.insert(0, Line(shell(argument.words), REMOVED))
    return tuple(
        sorted(groups.values(), key=lambda group: (group.slug != first or not first, not group.slug))
    )


def _cause(groups: dict[str, Group], argument: Argument, place: Callable[[str], Place]) -> Cause:
    where = place(argument.key)
    group = groups.setdefault(where.slug, Group(where.slug, where.label))
    for cause in group.causes:
        if cause.key == argument.key:
            return cause
    cause = Cause(argument.key, where)
    group.causes.append(cause)
    return cause


@lru_cache(2048)
def shell(words: tuple[str, ...]) -> str:
    """Words as a shell would have to be given them."""
    return shlex.join(words)


def script(binary: str, now: Sequence[Argument], paths: RuntimePaths, tpm: str = "", note: str = "") -> str:
    """What to paste into a root shell to get the same process: the folders its sockets need, the TPM's
    emulator when there is one (``tpm`` is the state file), then QEMU."""
    folders = [f"{paths.folder}/{name}" for name in SUBFOLDERS]
    lines = [f"# {note}"] if note else []
    lines.append(shell(("mkdir", "-p", "-m", "0700", posixpath.dirname(paths.log), *folders)))
    if tpm:
        control = f"type=unixio,path={paths.tpm},mode=0600"
        words = ["swtpm", "socket", "--tpm2", "--tpmstate", f"backend-uri=file://{tpm}"]
        lines.append(shell((*words, "--ctrl", control, "--terminate", "--daemon")))
    options = [shell(argument.words) for argument in now]
    lines.append(" \\\n  ".join([shell((binary,)), *options]))
    return "\n".join(lines)


def planned(mapping: Mapping[str, str], vmid: int) -> dict[str, str]:
    """The configuration with the volumes that will be made, named as they will be."""
    result = dict(mapping)
    used = " ".join(mapping.values())
    free = (number for number in count() if f"/vm-{vmid}-disk-{number}." not in used)
    for key in sorted(mapping):
        file, comma, rest = mapping[key].partition(",")
        new, seed = NEW_DISK.fullmatch(file), NEW_SEED.fullmatch(file)
        if seed is not None:
            result[key] = f"{seed[1]}:{vmid}/vm-{vmid}-cloudinit.raw{comma}{rest}"
        if new is None or not (is_drive(key) or key in ("efidisk0", "tpmstate0")):
            continue
        found = re.search(r"(?:^|,)format=(\w+)", rest)
        kind = "raw" if key == "tpmstate0" else found[1] if found else "qcow2"
        result[key] = f"{new[1]}:{vmid}/vm-{vmid}-disk-{next(free)}.{kind}{comma}{rest}"
    return result
