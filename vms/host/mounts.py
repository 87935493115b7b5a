"""What is mounted where, by the kernel's own list: asking it never waits for a silent server."""

from __future__ import annotations

import re
from pathlib import Path

_LIST = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def mounted(text: str | None = None) -> dict[str, str]:
    """Mount point → type of the file system on top there (``nfs4``, ``btrfs``). ``text``: another such list.

    The format is that of proc(5), ``/proc/pid/mountinfo``. Raises :class:`OSError` where there is none.
    """
    found = {}
    for line in (_LIST.read_text(errors="replace") if text is None else text).splitlines():
        fields, _, rest = line.partition(" - ")
        words = fields.split(" ")
        if len(words) > 4 and rest:
            found[_ESCAPE.sub(lambda code: chr(int(code[1], 8)), words[4])] = rest.split(" ")[0]
    return found


def is_mount_point(path: str | Path) -> bool:
    """Whether something is mounted just there."""
    return str(path).rstrip("/") in {point.rstrip("/") for point in mounted()}
