"""Whom this node asks for names."""

from __future__ import annotations

import ipaddress
from pathlib import Path

FILES = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
"""systemd's own list first: its stub on the loopback address would mean the guest itself."""


def read_resolver(files: tuple[Path, ...] = FILES) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Servers another machine can reach as well, and the search list. Never raises."""
    for path in files:
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        servers, search = _parse(text)
        if servers:
            return servers, search
    return (), ()


def _parse(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    servers: list[str] = []
    search: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and _reachable(words[1]):
            servers.append(words[1])
        elif words and words[0] in ("search", "domain"):
            search = [word for word in words[1:] if word != "."]
    return tuple(servers), tuple(search)


def _reachable(address: str) -> bool:
    try:
        return not ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
