"""The time zone of this machine: backup jobs come and pages tell the time by its clocks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

FALLBACK = "UTC"
LINK, NAME = Path("/etc/localtime"), Path("/etc/timezone")
"""Where a Linux says its zone: a link into the data base of zones, or a file with the zone's name."""


def zone_of(environ: Mapping[str, str], *, link: Path = LINK, name: Path = NAME) -> str:
    """``PVELITE_TIMEZONE``, else this machine's zone, else UTC. Raises ``ValueError`` for no zone."""
    given = environ.get("PVELITE_TIMEZONE", "")
    if given:
        if not known(given):
            raise ValueError(
                f"PVELITE_TIMEZONE is '{given}'; write a zone's name such as Europe/Berlin or UTC"
            )
        return given
    for found in (environ.get("TZ", "").removeprefix(":"), _linked(link), _written(name)):
        if found and known(found):
            return found
    return FALLBACK


def known(zone: str) -> bool:
    """Whether this machine's data base has a zone of that name."""
    try:
        ZoneInfo(zone)
    except (ValueError, KeyError, OSError):
        return False
    return True


def _linked(link: Path) -> str:
    """``Europe/Berlin`` of a link to ``/usr/share/zoneinfo/Europe/Berlin``; empty for a plain file."""
    return os.path.realpath(link).partition("/zoneinfo/")[2]


def _written(name: Path) -> str:
    try:
        return name.read_text().strip()
    except (OSError, ValueError):
        return ""
