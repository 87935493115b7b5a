"""The machine type as a person chooses it: a board, and a version of it or always the latest."""

from __future__ import annotations

import re

from vms.hardware.context import NodeFacts

LABELS = {"": "i440fx", "q35": "q35"}
_PINNED = re.compile(r"pc-(i440fx|q35)-(.+)")


def board_of(kind: str) -> str:
    """The board behind a machine type: ``q35`` for ``pc-q35-7.2``, "" for every i440fx, else itself."""
    match = _PINNED.fullmatch(kind)
    if match:
        return "q35" if match[1] == "q35" else ""
    return "" if kind == "pc" else kind


def version_of(kind: str) -> str:
    """The pinned version (``7.2``) of a machine type; "" for the latest."""
    match = _PINNED.fullmatch(kind)
    return match[2] if match else ""


def machine_type(board: str, version: str) -> str:
    """The text of the configuration for a board and a version."""
    if not version or board not in LABELS:
        return board
    return f"pc-{LABELS[board]}-{version}"


def versions(board: str, facts: NodeFacts, word: str = ", pinned when created") -> list[tuple[str, str]]:
    """The versions of ``board`` this node's QEMU can be, newest first; "Latest" leads, with a ``word``."""
    family = f"pc-{LABELS.get(board, '')}-"
    known = [name.removeprefix(family) for name in facts.machines if name.startswith(family)]
    latest = f"Latest ({known[0]} today{word})" if known else "Latest"
    return [("", latest), *((version, version) for version in known)]
