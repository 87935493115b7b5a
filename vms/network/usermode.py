"""User-mode networking: QEMU itself is the router, so it needs no privilege and no bridge.

Guests reach out; nobody reaches in but through a forwarding made on purpose, on the loopback
address. Each guest has a network of its own and sees no other guest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vms.errors import NetworkError

GATEWAY = "10.0.2.2"
"""The host, as such a guest sees it."""
NAMESERVER = "10.0.2.3"
FIRST_ADDRESS = "10.0.2.15"
"""What the built-in DHCP server gives the guest."""

WORDS = (
    "This card uses user-mode networking: the guest reaches the network through this node and cannot be "
    "reached from outside. No bridge is needed."
)

BOOT_FILES = ("boot.ipxe", "pxelinux.0")
"""What a guest's network card loads first: a script of iPXE, which QEMU's cards carry, or Debian's loader."""


def netboot(folder: Path) -> dict[str, str]:
    """What user-mode cards boot from: the operator's TFTP ``folder`` and its ``file``; else nothing."""
    found = next((name for name in BOOT_FILES if (folder / name).is_file()), "")
    return {"folder": str(folder), "file": found} if found else {}


_LINE = re.compile(
    r"\s+(?P<protocol>TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+(?P<host>\S+)\s+(?P<hport>\d+)"
    r"\s+(?P<guest>\S+)\s+(?P<gport>\d+)\s"
)


@dataclass(frozen=True)
class Forward:
    """A port of this node's loopback address that leads into a guest."""

    protocol: Literal["tcp", "udp"]
    host_port: int
    guest_port: int

    def __post_init__(self) -> None:
        for port in (self.host_port, self.guest_port):
            if not 1 <= port <= 65535:
                raise NetworkError(f"port {port} is not between 1 and 65535")

    @property
    def rule(self) -> str:
        """As ``hostfwd=`` and ``hostfwd_add`` want it."""
        return f"{self.protocol}:127.0.0.1:{self.host_port}-:{self.guest_port}"

    @property
    def removal(self) -> str:
        """As ``hostfwd_remove`` wants it."""
        return f"{self.protocol}:127.0.0.1:{self.host_port}"


def forwards(info_usernet: str) -> list[Forward]:
    """The forwardings in what the monitor's ``info usernet`` prints."""
    found = []
    for match in _LINE.finditer(info_usernet):
        protocol: Literal["tcp", "udp"] = "tcp" if match["protocol"] == "TCP" else "udp"
        found.append(Forward(protocol, int(match["hport"]), int(match["gport"])))
    return found
