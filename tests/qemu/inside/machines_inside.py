"""What is asked for, tab by tab: the very fields a person would set, under the names the forms give them."""

from __future__ import annotations

from collections.abc import Mapping

from guestkit.guest import Guest
from guestkit.lab import Lab
from guestkit.waiting import eventually
from insidekit import Presses, Seen

MAC = {
    name: f"BC:24:11:00:0{number}:01" for number, name in enumerate(("first", "second", "third", "fourth"))
}
"""Addresses typed into the wizard."""

LINUX: Mapping[str, Presses] = {
    "general": [("next", {"vmid": "250", "name": "inside", "tags": "test"})],
    "os": [("next", {"medium": "none", "ostype_group": "Linux"})],
    "system": [("next", {"agent__enabled": "on"})],
    "disks": [
        ("add", {"size": "1", "ssd": "on", "discard": "on"}),
        ("add", {"size": "0.5"}),
        ("add", {"size": "0.375", "ro": "on"}),
        ("next", {"bus": "virtio", "size": "0.25", "cache": "directsync"}),
    ],
    "cpu": [
        ("next", {"sockets": "2", "cores": "2", "numa": "on", "flag.aes": "-", "flag.pdpe1gb": "+"}),
    ],
    "memory": [("next", {"memory__current": "1024", "balloon": "512"})],
    "network": [
        ("add", {"bridge": "vmbr0", "macaddr": MAC["first"].lower(), "queues": "2", "mtu": "1400"}),
        ("next", {"macaddr": MAC["second"], "link_down": "on"}),
    ],
}

UEFI: Mapping[str, Presses] = {
    "os": [("next", {"medium": "none"})],
    "system": [
        ("save", {"bios": "ovmf", "tpm": "on"}),
        ("next", {"vga__type": "virtio", "scsihw": "virtio-scsi-pci", "agent__enabled": "on"}),
    ],
    "disks": [("remove:scsi0", {}), ("import", {}), ("next", {"discard": "on"})],
    "cpu": [("next", {"cores": "2"})],
    "memory": [("next", {"memory__current": "512"})],
    "network": [("next", {"none": "on"})],
}

WINDOWS: Mapping[str, Presses] = {
    "os": [
        ("save", {"ostype_group": "Microsoft Windows", "iso": "local:iso/guest.iso"}),
        ("save", {"ostype": "w2k8", "drivers": "on"}),
        ("next", {"drivers_iso": "local:iso/memtest86+x64.iso"}),
    ],
    "system": [("next", {"machine__type": "", "scsihw": "", "agent__enabled": "on", "tpm": None})],
    "disks": [
        ("save", {"bus": "sata", "size": "0.25"}),
        ("save", {"ssd": "on"}),
        ("add", {}),
        ("save", {"bus": "ide", "size": "0.5"}),
        ("add", {}),
        ("next", {"bus": "scsi", "size": "0.75"}),
    ],
    "cpu": [("next", {"cores": "2", "vcpus": "1", "cpu__cputype": "Nehalem"})],
    "memory": [("next", {"memory__current": "768", "ballooning": None})],
    "network": [
        ("add", {"bridge": "", "model": "e1000", "macaddr": MAC["first"]}),
        ("add", {"bridge": "", "model": "e1000e", "macaddr": MAC["second"]}),
        ("add", {"bridge": "", "model": "rtl8139", "macaddr": MAC["third"]}),
        ("next", {"bridge": "", "model": "vmxnet3", "macaddr": MAC["fourth"]}),
    ],
}

FILL = """
for name in {names}; do
    dd if=/dev/urandom of=/dev/$name bs=1M count=8 conv=fsync 2>/dev/null
    blkdiscard -o 0 -l 8388608 /dev/$name
    blockdev --flushbufs /dev/$name
done
"""


async def try_linux(lab: Lab, guest: Guest, seen: Seen) -> None:
    """Write and discard on two disks; blow up the balloon."""
    names = {disk: seen.disk(size) for disk, size in (("scsi0", 1), ("scsi1", 0.5))}
    kernel = {
        disk: next(n for n, row in seen.facts.disks.items() if row is found) for disk, found in names.items()
    }
    await guest.shell(FILL.format(names=" ".join(kernel.values())))
    for disk in kernel:
        volume = lab.storage.path(seen.config[disk].partition(",")[0])
        seen.notes[f"{disk} kept"] = volume.stat().st_blocks * 512
    await guest.monitor.execute("balloon", {"value": 512 << 20})

    async def squeezed() -> int:
        text = await guest.shell("awk '/^MemTotal/ {print $2}' /proc/meminfo")
        total = int(text) << 10
        return total if total <= 512 << 20 else 0

    seen.notes["memory left"] = await eventually(squeezed, "the balloon to fill", timeout=30, poll=0.2)
