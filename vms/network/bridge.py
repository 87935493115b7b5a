"""The bridges this node really has, read from sysfs (no privilege needed, under a millisecond)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vms.errors import NetworkError

SYS = Path("/sys/class/net")


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """One Linux bridge. ``active``: it is up. ``vlan_aware``: its kernel filters VLANs and it is on.

    ``ports`` are the interfaces on it; taps of guests are among them.
    """

    name: str
    mtu: int
    active: bool
    vlan_aware: bool
    ports: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the node's facts hold it."""
        return {**asdict(self), "ports": list(self.ports)}


def bridges(sys: Path = SYS) -> list[Bridge]:
    """Every bridge, by name."""
    found = [read_bridge(entry.name, sys) for entry in sorted(sys.iterdir()) if (entry / "bridge").is_dir()]
    return [bridge for bridge in found if bridge is not None]


def read_bridge(name: str, sys: Path = SYS) -> Bridge | None:
    """The bridge called ``name``; ``None`` when there is none, or it went while we looked."""
    if not name or "/" in name or name in (".", ".."):
        return None
    folder = sys / name
    try:
        if not (folder / "bridge").is_dir():
            return None
        filtering = folder / "bridge" / "vlan_filtering"
        return Bridge(
            name=name,
            mtu=int((folder / "mtu").read_text()),
            active=bool(int((folder / "flags").read_text(), 16) & 1),
            vlan_aware=filtering.exists() and filtering.read_text().strip() == "1",
            ports=tuple(sorted(port.name for port in (folder / "brif").iterdir())),
        )
    except (FileNotFoundError, OSError):
        return None


def require_bridge(name: str, sys: Path = SYS) -> Bridge:
    """The bridge called ``name``, up; raises :class:`NetworkError` saying what is missing."""
    bridge = read_bridge(name, sys)
    if bridge is None:
        have = ", ".join(other.name for other in bridges(sys)) or "none"
        raise NetworkError(
            f"bridge '{name}' does not exist",
            hint=f"Bridges on this node: {have}. Choose one of them, or user-mode networking.",
        )
    if not bridge.active:
        raise NetworkError(f"bridge '{name}' is down", hint=f"Bring it up: ip link set {name} up")
    return bridge
