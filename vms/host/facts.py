"""What this node is: the facts the wizard offers from, rules judge by and launches build on.

:func:`gather` answers a plain dictionary of JSON values, the form in which a node's row keeps it;
``vms.hardware.context.NodeFacts`` reads it back and says what its keys mean. What QEMU and the
network tell comes from ``vms.qemu.capabilities`` and ``vms.network.bridge`` and is passed in.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vms.errors import CommandError
from vms.host.command import PATH, run
from vms.host.devices import huge_pages, pci_devices

FIRMWARE: Mapping[str, tuple[str, ...]] = {
    "code-4m": (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/qemu/ovmf-x86_64-4m-code.bin",
    ),
    "vars-4m": (
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
        "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.fd",
        "/usr/share/qemu/ovmf-x86_64-4m-vars.bin",
    ),
    "code-4m-secboot": (
        "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
        "/usr/share/edk2/x64/OVMF_CODE.secboot.4m.fd",
        "/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd",
        "/usr/share/qemu/ovmf-x86_64-smm-ms-code.bin",
    ),
    "vars-4m-ms": (
        "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd",
        "/usr/share/qemu/ovmf-x86_64-smm-ms-vars.bin",
    ),
    "code-2m": ("/usr/share/OVMF/OVMF_CODE.fd",),
    "vars-2m": ("/usr/share/OVMF/OVMF_VARS.fd",),
}
"""Where distributions put UEFI firmware: Debian and Ubuntu, Arch, Fedora, openSUSE."""


async def gather(
    *,
    qemu: Mapping[str, Any],
    bridges: Sequence[Mapping[str, Any]] = (),
    user: str | None = None,
    user_reason: str = "",
    storages: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The facts of this node, ready for JSON.

    ``qemu`` is what ``capabilities.examine`` answered, ``bridges`` each ``Bridge.to_json()``,
    ``user`` and ``user_reason`` what ``paths.qemu_user`` answered, ``storages`` name → type and path.
    """
    own = await asyncio.to_thread(machine)
    return {
        **own,
        **qemu,
        "bridges": [dict(bridge) for bridge in bridges],
        "storages": {name: dict(entry) for name, entry in (storages or {}).items()},
        "vhost_net": await accessible(Path("/dev/vhost-net"), user),
        "qemu_user": user or ("root" if os.geteuid() == 0 else ""),
        "qemu_user_reason": user_reason,
    }


def machine() -> dict[str, Any]:
    """Processor, memory, firmware and programs: what can be read without starting anything."""
    return {
        **processor(Path("/proc/cpuinfo").read_text()),
        **memory(),
        **firmware(),
        **programs(),
        "pci_devices": pci_devices(),
        "huge_pages": huge_pages(),
        "boot_id": boot_id(),
    }


def boot_id() -> str:
    """What is the same until this machine boots again. A container's machine is its first process."""
    kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        return f"{kernel}:{first_process()}"
    except (OSError, IndexError):
        return kernel


def first_process() -> str:
    """When process 1 began, in clock ticks after the kernel's boot."""
    return Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]


def processor(cpuinfo: str) -> dict[str, Any]:
    """Vendor, model, flags, physical address bits and threads, from the text of ``/proc/cpuinfo``."""

    def field(name: str) -> str:
        match = re.search(rf"^{name}\s*:[ \t]*(.*)$", cpuinfo, re.MULTILINE)
        return match[1].strip() if match else ""

    bits = re.match(r"(\d+) bits physical", field("address sizes"))
    return {
        "arch": os.uname().machine,
        "kernel": os.uname().release,
        "cpu_vendor": field("vendor_id"),
        "cpu_model": field("model name"),
        "cpu_flags": field("flags").split(),
        "phys_bits": int(bits[1]) if bits else 36,
        "threads": os.cpu_count() or 1,
    }


def memory() -> dict[str, Any]:
    """Bytes of memory: all, and what a new guest could have without pushing anything out."""
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE))
    return {"memory": int(found["MemTotal"]) << 10, "memory_free": int(found["MemAvailable"]) << 10}


def firmware() -> dict[str, Any]:
    """The UEFI files that are installed, and how large a variable store each size of them wants."""
    ovmf = {
        name: next((place for place in places if Path(place).is_file()), "")
        for name, places in FIRMWARE.items()
    }
    ovmf = {name: place for name, place in ovmf.items() if place}
    sizes = {
        size: Path(ovmf[f"vars-{size}"]).stat().st_size for size in ("2m", "4m") if f"vars-{size}" in ovmf
    }
    return {"ovmf": ovmf, "efi_vars_size": sizes}


def programs() -> dict[str, Any]:
    """Which helpers are there."""
    return {"swtpm": all(shutil.which(name, path=PATH) for name in ("swtpm", "swtpm_setup"))}


async def accessible(device: Path, user: str | None) -> bool:
    """Whether ``user`` (ours with ``None``) may read and write a device; asked as that user.

    Not by looking at mode bits: access lists, groups and containers decide too.
    """
    if not await asyncio.to_thread(device.exists):
        return False
    if user is None:
        return os.access(device, os.R_OK | os.W_OK)
    try:
        result = await run(
            ["test", "-r", str(device), "-a", "-w", str(device)], user=user, check=False, timeout=10
        )
    except CommandError:
        return False
    return result.exit_code == 0
