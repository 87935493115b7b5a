"""The text file of a machine: main section, pending changes, snapshots, special sections."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Section:
    """One section of the file."""

    values: dict[str, str] = field(default_factory=dict)
    description: str = ""


@dataclass
class ConfFile:
    """A whole file. ``snapshots`` and ``special`` map a section's name to it; ``pending_delete`` lists the
    keys to remove at the next start (with a leading ``!`` when the volume goes too)."""

    main: dict[str, str] = field(default_factory=dict)
    description: str = ""
    pending: dict[str, str] = field(default_factory=dict)
    snapshots: dict[str, Section] = field(default_factory=dict)
    special: dict[str, dict[str, str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
