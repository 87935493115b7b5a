"""Where the SPICE port's certificate lies and whose it is; what makes it is large to load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ORGANISATION = "pvelite"


@dataclass(frozen=True)
class Files:
    """Where keys and certificates of the installation ``home`` lie."""

    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "spice"

    @property
    def authority_key(self) -> Path:
        return self.folder / "ca.key"

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def key(self) -> Path:
        return self.folder / "server.key"

    @property
    def certificate(self) -> Path:
        return self.folder / "server.pem"


def subject(node: str) -> str:
    """The node's name as viewers compare it (``host-subject``)."""
    return f"O={ORGANISATION},CN={node}"
