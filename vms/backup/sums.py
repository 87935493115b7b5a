"""The sums a backup is proved by: XXH3 with 128 bits, as ``xxhsum -H128`` makes them.

They find what a disk or a cable did to an archive, at the speed of memory; a SHA-256 of each disk, which the
format's first version had, cost more than reading and writing it together. Neither keeps out somebody who
writes archives: he writes sums, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

import xxhash

from vms.backup.manifest import VERSION


class Digest(Protocol):
    """A sum that goes on."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """The sum so far."""


_ALGORITHMS: dict[int, tuple[str, Callable[[], Digest]]] = {
    1: ("sha256", hashlib.sha256),
    2: ("xxh128", xxhash.xxh3_128),
}
"""By the version of the format."""


class Sums:
    """What ``checksums.json`` says of one archive, member by member."""

    def __init__(self, version: int = VERSION) -> None:
        self._algorithm, self.begun = _ALGORITHMS[version]
        self._rows: list[dict[str, object]] = []

    def add(self, name: str, length: int, digest: Digest) -> None:
        """Note a member of ``length`` bytes, all of which ``digest`` has seen."""
        self._rows.append({"name": name, "length": length, self._algorithm: digest.hexdigest()})

    def add_text(self, name: str, data: bytes) -> None:
        """Note a member that is in memory."""
        digest = self.begun()
        digest.update(data)
        self.add(name, len(data), digest)

    def table(self) -> dict[str, object]:
        """What stands in ``checksums.json``."""
        return {"algorithm": self._algorithm, "members": list(self._rows)}
