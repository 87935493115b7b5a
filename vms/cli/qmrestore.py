"""``qmrestore``: Proxmox VE's own command for what is ``qm restore`` too."""

from __future__ import annotations

import sys

from vms.cli import qm


def main() -> int:
    """Run it with the words it was called with. Answers its exit code."""
    return qm.main(["restore", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
