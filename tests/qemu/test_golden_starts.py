"""Every golden configuration that this QEMU can run starts, and QMP reports back what was asked.

What cannot run here must have an obstacle that was found by looking (``guestkit.obstacles``), and must then
really not start: an obstacle that does not stop anything fails as well.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guestkit.guest import Guest
from guestkit.lab import Lab
from guestkit.obstacles import QemuKnows, missing_for_argv, missing_for_config
from guestkit.report import Report
from guestkit.wires import Wires

from vms.config import conffile
from vms.config.vmconfig import VMConfig
from vms.errors import MonitorError, VMError
from vms.hardware.volume import resolve
from vms.host.command import run
from vms.qemu import tpm
from vms.qemu.cmdline import command

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = sorted((ROOT / "tests" / "golden").glob("**/*.conf"))
CORPUS = sorted((ROOT.parent / "shared" / "corpus" / "cfg2cmd").glob("*.conf"))
DISK_SIZE = 64 << 20
VMID = 8006
SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def qemu_knows(node_facts: dict[str, Any]) -> QemuKnows:
    """What this QEMU can make."""
    return asyncio.run(QemuKnows.ask(node_facts["qemu_binary"]))


async def make_volume(lab: Lab, volume: str, content: Path | None = None) -> None:
    """Make what stands behind a volume id on the bench's own storage, unless it is there already."""
    if not volume.startswith("local:"):
        return
    source = resolve(volume, lab.facts.storages)
    target = Path(source.filename)
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        await run(["qemu-img", "convert", "-f", "raw", "-O", source.format, str(content), str(target)])
    else:
        await run(["qemu-img", "create", "-q", "-f", source.format, str(target), str(DISK_SIZE)])


async def prepare(lab: Lab, config: VMConfig) -> None:
    """Make the volumes, the TPM and the bridges' names a configuration needs on this bench."""
    for _key, _index, drive in config.drives():
        await make_volume(lab, drive.file)
    if efi := config.get("efidisk0"):
        await make_volume(lab, efi.file, Path(lab.facts.ovmf[f"vars-{efi.efitype or '2m'}"]))
    if state := config.get("tpmstate0"):
        await make_volume(lab, state.file)
        image, version = Path(resolve(state.file, lab.facts.storages).filename), state.version or "v1.2"
        await tpm.set_up(image, lab.root / "ca", version=version)
        await lab.start_tpm(VMID, image, version)


def with_bridges(lab: Lab, config: VMConfig) -> None:
    """Let the bench have the bridges the configuration names."""
    names = sorted({net.bridge for _, _, net in config.slots("net") if net.bridge})
    bridges = tuple({"name": name, "mtu": 1500, "active": True, "vlan_aware": True} for name in names)
    lab.facts = dataclasses.replace(lab.facts, bridges=bridges)


def case(path: Path) -> Any:
    """A parameter named after the file and the folder it came from."""
    return pytest.param(path, id=f"{path.parent.name}-{path.stem}")


@pytest.fixture(autouse=True)
def no_shared_memory_left() -> Iterator[None]:
    """QEMU makes the files of ``ivshmem`` and leaves them; the next run shall find a box as fresh as this."""
    before = set(SHARED_MEMORY.glob("pve-shm-*"))
    yield
    for path in set(SHARED_MEMORY.glob("pve-shm-*")) - before:
        path.unlink()


@pytest.mark.parametrize("path", [case(path) for path in (*GOLDEN, *CORPUS)])
async def test_it_starts_as_asked_or_has_an_obstacle(lab: Lab, qemu_knows: QemuKnows, path: Path) -> None:
    config = VMConfig.parse(conffile.parse(path.read_text()).main)
    with_bridges(lab, config)
    obstacles = missing_for_config(config, lab.facts, qemu_knows)
    await prepare(lab, config)
    with Wires(config) as wires:
        context = dataclasses.replace(lab.context(VMID), taps=wires.taps)
        if not obstacles:
            obstacles = missing_for_argv(command(config, context), qemu_knows)
        if obstacles:
            with pytest.raises(VMError):
                await begin(lab, config, wires)
            return
        guest = await begin(lab, config, wires)
    await Report(guest, config, lab.facts).check()


async def begin(lab: Lab, config: VMConfig, wires: Wires) -> Guest:
    """Start the product's command line with the guest held still."""
    context = dataclasses.replace(lab.context(VMID), taps=wires.taps)
    return await lab.start_argv(VMID, [*command(config, context), "-S"], pass_fds=wires.fds)


WRONG = [
    ("memory", "320"),
    ("cores", "3"),
    ("cpu", "Nehalem"),
    ("machine", "q35"),
    ("balloon", "0"),
    ("bios", "ovmf"),
    ("net0", "virtio=BC:24:11:00:00:02"),
    ("net0", "e1000=BC:24:11:00:00:01"),
    ("scsi0", "discard=on"),
    ("scsi0", "cache=unsafe"),
    ("scsi0", "ro=1"),
    ("scsi0", "detect_zeroes=0"),
    ("scsi1", "discard=on"),
    ("boot", "order=net0;scsi0"),
    ("smbios1", "uuid=11111111-2222-4333-8444-555555555555"),
]


async def test_the_report_notices_what_was_not_asked(lab: Lab) -> None:
    """One guest held against configurations that are each wrong in one thing: the net has no holes."""
    disk = await lab.disk(VMID)
    asked = {
        "memory": "256", "cores": "2", "scsihw": "virtio-scsi-pci", "boot": "order=scsi0;net0",
        "net0": "virtio=BC:24:11:00:00:01", "scsi0": disk,
        "smbios1": "uuid=99999999-2222-4333-8444-555555555555",
    }  # fmt: skip
    guest = await lab.start(VMID, asked, ["-S"])
    await Report(guest, VMConfig.parse(asked), lab.facts).check()
    for key, value in WRONG:
        wrong = {**asked, key: f"{disk},{value}" if key.startswith("scsi") else value}
        with pytest.raises((AssertionError, MonitorError)):
            await Report(guest, VMConfig.parse(wrong), lab.facts).check()
            pytest.fail(f"{key}: {value} went unnoticed")


def test_there_is_something_to_start() -> None:
    assert GOLDEN, "tests/golden holds no configuration"
