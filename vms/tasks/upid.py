"""PVE's task id: ``UPID:node:pid:pstart:starttime:type:id:user:``.

Scripts read node, type, id and user out of it, so every part stands where PVE puts it. Ours has the task's
row number where PVE has a process id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(
    r"UPID:(?P<node>[A-Za-z0-9-]+):(?P<number>[0-9A-F]{8,16}):(?P<pstart>[0-9A-F]{8}):(?P<start>[0-9A-F]{8}):"
    r"(?P<type>[a-z0-9]+):(?P<id>[^:\s/]*):(?P<user>[^:\s/]+):"
)


@dataclass(frozen=True)
class Upid:
    """A task id, taken apart. ``start`` is a Unix time in seconds."""

    node: str
    number: int
    start: int
    type: str
    id: str
    user: str

    def __str__(self) -> str:
        return (
            f"UPID:{self.node}:{self.number:08X}:00000000:{self.start:08X}:{self.type}:{self.id}:{self.user}:"
        )

    @classmethod
    def parse(cls, text: str) -> Upid:
        """Raises ``ValueError`` when ``text`` is no task id."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(f"'{text[:60]}' is no task id (UPID)")
        return cls(
            node=match["node"], number=int(match["number"], 16), start=int(match["start"], 16),
            type=match["type"], id=match["id"], user=match["user"],
        )  # fmt: skip


def user_part(username: str) -> str:
    """A user's name as it stands in a UPID: PVE's ``name@realm``, nothing that parts the id or a path."""
    clean = re.sub(r"[^A-Za-z0-9._@+-]", "_", username) or "nobody"
    return clean if "@" in clean else f"{clean}@pam"
