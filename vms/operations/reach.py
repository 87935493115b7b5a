"""Which of a machine's own paths QEMU's user cannot open, and what is in the way."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from pathlib import Path

from vms.hardware import is_drive
from vms.host.paths import traversable


def paths_named(mapping: Mapping[str, str]) -> Iterator[str]:
    """The files and devices of the node that a configuration names by their path."""
    for key, text in mapping.items():
        if is_drive(key) or key in ("efidisk0", "tpmstate0"):
            words = [word.removeprefix("file=").removeprefix("volume=") for word in text.split(",")]
            yield from (word for word in words[:1] if word.startswith("/"))


def unreadable(mapping: Mapping[str, str], user: str | None) -> dict[str, str]:
    """Path → the obstacle, as :attr:`~vms.hardware.context.NodeFacts.unreadable` wants it.

    ``user`` is who runs QEMU, ``None`` for ourselves. Volumes of a storage are not looked at: their folders
    are ours.
    """
    found: dict[str, str] = {}
    uid = pwd.getpwnam(user).pw_uid if user else os.geteuid()
    for name in set(paths_named(mapping)):
        path = Path(name)
        closed = traversable(path.parent, uid)
        if closed is not None:
            there = closed.exists()
            found[name] = f"the folder {closed} is closed to it" if there else f"there is no {closed}"
        elif not path.exists():
            found[name] = "there is no such file"
    return found
