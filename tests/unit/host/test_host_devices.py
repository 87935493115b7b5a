"""PCI devices and huge pages, read from the kernel's folders."""

from __future__ import annotations

from pathlib import Path

from vms.config.rules import findings
from vms.config.vmconfig import VMConfig
from vms.hardware.context import NodeFacts
from vms.host.devices import huge_pages, pci_devices


def tree(root: Path, *, iommu: bool) -> Path:
    for address, kind in (("0000:01:00.0", "0x030000"), ("0000:01:00.1", "0x040300")):
        folder = root / "devices" / address
        folder.mkdir(parents=True)
        for name, text in (("class", kind), ("vendor", "0x10de"), ("device", "0x1b80")):
            (folder / name).write_text(f"{text}\n")
        if iommu:
            (root / "groups" / "7").mkdir(parents=True, exist_ok=True)
            (folder / "iommu_group").symlink_to(root / "groups" / "7")
    return root / "devices"


def told(root: Path, host: str) -> list[tuple[str, str]]:
    facts = NodeFacts.from_json({"pci_devices": pci_devices(root)})
    found = findings(VMConfig.parse({"hostpci0": host}), facts)
    return [(one.rule, one.severity) for one in found if one.keys[-1] == "hostpci0"]


def test_a_device_is_checked_on_the_node(tmp_path: Path) -> None:
    root = tree(tmp_path / "on", iommu=True)
    assert pci_devices(root)["0000:01:00.0"] == {
        "class": "0x030000", "vendor": "0x10de", "device": "0x1b80", "iommu_group": 7,
    }  # fmt: skip
    assert told(root, "0000:01:00") == [("R23", "warn")]
    assert told(root, "0000:09:00.0") == [("hostpci", "block")]
    off = tree(tmp_path / "off", iommu=False)
    assert ("hostpci", "block") in told(off, "0000:01:00.1")
    assert pci_devices(tmp_path / "none") == {}


def test_huge_pages(tmp_path: Path) -> None:
    for size, free in (("2048", "12"), ("1048576", "1")):
        (tmp_path / f"hugepages-{size}kB").mkdir()
        (tmp_path / f"hugepages-{size}kB" / "free_hugepages").write_text(f"{free}\n")
    assert huge_pages(tmp_path) == {"2": 12, "1024": 1}
