"""Notes of a backup from their template: PVE's ``notes-template``. Pure.

``{{guestname}}``, ``{{vmid}}``, ``{{node}}`` and ``{{cluster}}`` stand for what they say, ``\\n`` for a line
break and ``\\\\`` for a backslash. Nothing else is replaced, and nothing is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

NAMES = ("cluster", "guestname", "node", "vmid")
_PLACE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_MARK = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}|\\(.)", re.DOTALL)


def checked(text: str) -> str:
    """The template itself. Raises ``ValueError`` naming a placeholder there is not."""
    for name in _PLACE.findall(text):
        if name not in NAMES:
            known = ", ".join(f"{{{{{one}}}}}" for one in NAMES)
            raise ValueError(f"'{{{{{name[:40]}}}}}' stands for nothing; there are {known}")
    return text


def filled(text: str, values: Mapping[str, str]) -> str:
    """The notes. ``values`` by the names of :data:`NAMES`; braces and backslashes of theirs stay."""

    def replaced(found: re.Match[str]) -> str:
        if found[2] is not None:
            return {"n": "\n", "\\": "\\"}.get(found[2], found[0])
        return values.get(found[1], found[0])

    return _MARK.sub(replaced, text)
