"""The channel to the guest agent, a helper that runs inside the guest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vms.schema.option import opt
from vms.schema.propstring import PropertyString


@dataclass(frozen=True, kw_only=True)
class Agent(PropertyString):
    """How the node talks to the agent in the guest."""

    enabled: bool | None = opt(
        "QEMU agent",
        short=True,
        default=False,
        help="Talk to an agent in the guest: it shuts down cleanly, reports IP addresses, calms disks.",
        otherwise="Without it 'Shutdown' presses the power button, and backups may catch files half written.",
        why="Off until you have installed qemu-guest-agent in the guest.",
    )
    fstrim_cloned_disks: bool | None = opt(
        "Trim after clone",
        default=False,
        advanced=True,
        help="After moving or cloning a disk, ask the guest to hand back unused blocks.",
        otherwise="Off, a copy may take up more space than the original.",
        why="Off by default; it can take a while on large disks.",
    )
    freeze_fs: bool | None = opt(
        "Freeze for backup",
        key="freeze-fs",
        default=True,
        aliases=("freeze-fs-on-backup", "guest-fsfreeze"),
        advanced=True,
        help="Let the guest finish its writes and hold still for a moment when a backup starts.",
        otherwise="Off, a backup is like pulling the plug: journals have to repair it.",
        why="On by default.",
    )
    type: Literal["virtio", "isa"] | None = opt(
        "Channel",
        default="virtio",
        advanced=True,
        labels={"virtio": "VirtIO", "isa": "ISA serial"},
        help="The kind of port the agent listens on.",
        otherwise="ISA works without a VirtIO driver and is slow.",
        why="VirtIO by default.",
    )


@dataclass(frozen=True, kw_only=True)
class AgentOptions:
    """Whether there is an agent."""

    agent: str | None = opt(
        "QEMU Guest Agent",
        default="0",
        help="Talk to an agent in the guest: it shuts down cleanly, reports IP addresses, calms disks.",
        otherwise="Without it 'Shutdown' presses the power button, and backups may catch files half written.",
        why="Off until you have installed qemu-guest-agent in the guest.",
    )
