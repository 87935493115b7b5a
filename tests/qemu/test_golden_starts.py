"""Every golden configuration that this QEMU can run starts, and QMP reports back what was asked.

What cannot run here must have an obstacle that was found by looking (``guestkit.obstacles``), and must then
really not start: an obstacle that does not stop anything fails as well.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
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
from vms.errors import LaunchError, VMError
from vms.hardware.volume import resolve
from vms.host.command import run
from vms.qemu import tpm
from vms.qemu.cmdline import command

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = sorted((ROOT / "tests" / "golden").glob("**/*.conf"))
CORPUS = sorted((ROOT.parent / "shared" / "corpus" / "cfg2cmd").glob("*.conf"))
DISK_SIZE = 64 << 20
VMID = 8006


@pytest.fixture(scope="session")
def qemu_knows(node_facts: dict[str, Any]) -> QemuKnows:
    """What this QEMU can make."""
    return asyncio.run(QemuKnows.ask(node_facts["qemu_binary"]))


async def make_volume(lab: Lab, volume: str, content: Path | None = None) -> None:
    """Make what stands behind a volume id on the bench, unless it is there already."""
    if volume in ("none", "cdrom"):
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
        await tpm.set_up(Path(resolve(state.file, lab.facts.storages).filename), lab.root / "ca")
        await lab.start_tpm(VMID, Path(resolve(state.file, lab.facts.storages).filename))


def with_bridges(lab: Lab, config: VMConfig) -> None:
    """Let the bench have the bridges the configuration names."""
    names = sorted({net.bridge for _, _, net in config.slots("net") if net.bridge})
    bridges = tuple({"name": name, "mtu": 1500, "active": True, "vlan_aware": True} for name in names)
    lab.facts = dataclasses.replace(lab.facts, bridges=bridges)


def case(path: Path) -> Any:
    """A parameter named after the file and the folder it came from."""
    return pytest.param(path, id=f"{path.parent.name}-{path.stem}")


@pytest.mark.parametrize("path", [case(path) for path in (*GOLDEN, *CORPUS)])
async def test_it_starts_as_asked_or_has_an_obstacle(lab: Lab, qemu_knows: QemuKnows, path: Path) -> None:
    config = VMConfig.parse(conffile.parse(path.read_text()).main)
    with_bridges(lab, config)
    obstacles = missing_for_config(config, lab.facts, qemu_knows)
    if obstacles:
        # Nothing to prepare on storages that do not exist; what the product makes of it must not run.
        with pytest.raises((VMError, OSError)):
            await begin(lab, config, {})
        return
    await prepare(lab, config)
    with Wires(config) as wires:
        context = dataclasses.replace(lab.context(VMID), taps=wires.taps)
        obstacles = missing_for_argv(command(config, context), qemu_knows)
        if obstacles:
            with pytest.raises(LaunchError):
                await begin(lab, config, wires.taps, wires.fds)
            return
        guest = await begin(lab, config, wires.taps, wires.fds)
    await Report(guest, config, lab.facts).check()


async def begin(lab: Lab, config: VMConfig, taps: Mapping[str, Any], fds: Sequence[int] = ()) -> Guest:
    """Start the product's command line with the guest held still."""
    context = dataclasses.replace(lab.context(VMID), taps=taps)
    return await lab.start_argv(VMID, [*command(config, context), "-S"], pass_fds=fds)


def test_there_is_something_to_start() -> None:
    assert GOLDEN, "tests/golden holds no configuration"
