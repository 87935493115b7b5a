"""What the kernel tells of this node's hardware: PCI devices a guest could be given, reserved huge pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def pci_devices(root: Path = Path("/sys/bus/pci/devices")) -> dict[str, dict[str, Any]]:
    """Address → ``class`` (``0x030000``), ``vendor``, ``device`` and ``iommu_group``.

    The group is a number, or ``None`` where the node's IOMMU is off. Empty where there is no PCI bus.
    """
    found: dict[str, dict[str, Any]] = {}
    for folder in sorted(root.glob("*:*:*.*")):
        group = folder / "iommu_group"
        number = group.resolve().name if group.exists() else ""
        entry: dict[str, Any] = {name: _text(folder / name) for name in ("class", "vendor", "device")}
        found[folder.name] = {**entry, "iommu_group": int(number) if number.isdigit() else None}
    return found


def huge_pages(root: Path = Path("/sys/kernel/mm/hugepages")) -> dict[str, int]:
    """Size in MiB → free pages of it."""
    found: dict[str, int] = {}
    for folder in sorted(root.glob("hugepages-*kB")):
        size = re.search(r"\d+", folder.name)
        free = _text(folder / "free_hugepages")
        if size and free.isdigit():
            found[str(int(size[0]) >> 10)] = int(free)
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
