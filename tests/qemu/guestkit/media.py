"""The test guest's pieces, built once and kept by ``tests/guest/build.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

BUILDER = Path(__file__).resolve().parents[2] / "guest" / "build.py"
KERNEL_WORDS = "console=tty0 console=ttyS0,115200 quiet panic=5"


@dataclass(frozen=True)
class Media:
    """Paths of one built guest. Read-only: copy a disk, or lay an overlay over it, before booting."""

    kernel: Path
    initrd: Path
    disk: Path
    disk_unsigned: Path
    iso: Path
    debian_iso: Path
    memtest_iso: Path

    def direct_boot(self, words: str = "") -> list[str]:
        """QEMU arguments that start the guest's kernel without firmware, disk or ISO."""
        append = f"{KERNEL_WORDS} {words}".strip()
        return ["-kernel", str(self.kernel), "-initrd", str(self.initrd), "-append", append]


def build_media(flavour: str = "cloud") -> Media:
    """Build the guest or find it built (seconds; nothing when cached). The builder says what is missing."""
    done = subprocess.run(
        [sys.executable, str(BUILDER), "--flavour", flavour],
        stdout=subprocess.PIPE,
        check=False,
        timeout=600,
    )
    if done.returncode:
        raise RuntimeError(f"the test guest cannot be built: run {BUILDER} to see why")
    return Media(**{name: Path(path) for name, path in json.loads(done.stdout).items()})
