"""A guest that goes on from saved memory gets the machine and the processor it was saved on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError
from vms.hardware.context import LaunchContext, NodeFacts, RuntimePaths
from vms.qemu.cmdline import command

CPU = "qemu64,+aes,+popcnt"
CTX = LaunchContext(
    vmid=101, facts=NodeFacts(qemu_version="9.2.0", qemu_binary="qemu", blockdev=True),
    paths=RuntimePaths.of("/run/x", "/var/log/x", 101),
)  # fmt: skip


def argv(machine: str, ctx: LaunchContext) -> list[str]:
    return command(VMConfig.parse({"machine": machine, "cpu": "x86-64-v3", "ostype": "l26"}), ctx)


@pytest.mark.parametrize(("configured", "ran"), [("q35", "pc-q35-9.2"), ("pc-q35-8.1", "pc-q35-8.1")])
def test_the_same_command_but_for_the_names(configured: str, ran: str) -> None:
    """What depends on whether a version is pinned stays as it was when the guest was started."""
    before = argv(configured, CTX)
    after = argv(configured, replace(CTX, machine=ran, cpu=CPU))
    differing = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert differing[0][1] == CPU
    assert all(f"type={ran}" in new for _, new in differing[1:])


def test_an_older_version_than_today() -> None:
    words = argv("q35", replace(CTX, machine="pc-q35-7.2", cpu=CPU))
    assert "type=pc-q35-7.2" in words[words.index("-machine") + 1]
    assert words[words.index("-cpu") + 1] == CPU


def test_a_newer_version_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"too old for pc-q35-9\.9, which the saved memory needs"):
        argv("q35", replace(CTX, machine="pc-q35-9.9", cpu=CPU))
