"""How much of the node's CPU time a guest gets: its weight and its limit, as a control group of the kernel.

Both layouts are known: version 2, and the ``cpu`` hierarchy of version 1. A guest gets a group of its own
only when it asks for a weight or a limit; without the right to make one that is said and the guest runs free.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from vms.errors import VMError

ROOT = Path("/sys/fs/cgroup")
PERIOD = 100_000
"""Microseconds over which a limit is counted."""


@dataclass(frozen=True)
class Share:
    """``units``: the weight as Proxmox writes it (None: the usual one); ``limit``: CPUs' worth of time, 0 for
    no limit."""

    units: int | None = None
    limit: float = 0

    @property
    def usual(self) -> bool:
        """Whether nothing is asked for."""
        return self.units is None and not self.limit


def group_of(run_dir: Path, vmid: int, root: Path = ROOT) -> tuple[Path, int]:
    """The folder of a guest's group and the layout's version. Raises :class:`VMError` without either."""
    # Several installations may live on one node: each has its own run folder.
    name = f"pvelite-{hashlib.sha256(os.fsencode(run_dir)).hexdigest()[:8]}"
    unified = root / "cgroup.controllers"
    if unified.exists() and "cpu" in unified.read_text().split():
        return root / name / str(vmid), 2
    if (root / "cpu" / "cgroup.procs").exists():
        return root / "cpu" / name / str(vmid), 1
    raise VMError("this node has no control groups for CPU time")


def apply(run_dir: Path, vmid: int, pid: int, share: Share, root: Path = ROOT) -> None:
    """Give process ``pid`` with all its threads this share. Blocks for a moment: call it in a thread.

    Raises :class:`VMError` when this node does not let us.
    """
    group, version = group_of(run_dir, vmid, root)
    if share.usual and not group.exists():
        return
    try:
        group.mkdir(parents=True, exist_ok=True)
        if version == 2:
            _hand_down(group, root)
        for name, text in settings(share, version).items():
            (group / name).write_text(text)
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        reason = error.strerror or str(error)
        raise VMError(
            f"the guest's share of CPU time could not be set: {reason}",
            hint="pvelite needs to run as root on a node that lets it make control groups.",
        ) from error


def settings(share: Share, version: int) -> dict[str, str]:
    """File → text that makes a group this share."""
    quota = round(share.limit * PERIOD)
    if version == 1:
        # Proxmox's own default on this layout.
        units = min(max(share.units or 1024, 2), 262_144)
        return {
            "cpu.shares": str(units), "cpu.cfs_period_us": str(PERIOD), "cpu.cfs_quota_us": str(quota or -1)
        }  # fmt: skip
    units = min(max(share.units or 100, 1), 10_000)
    return {"cpu.weight": str(units), "cpu.max": f"{quota or 'max'} {PERIOD}"}


def _hand_down(group: Path, root: Path) -> None:
    """Let the groups above hand the controller down."""
    for parent in (root, group.parent):
        switch = parent / "cgroup.subtree_control"
        if "cpu" not in switch.read_text().split():
            switch.write_text("+cpu")


def read(run_dir: Path, vmid: int, root: Path = ROOT) -> dict[str, str]:
    """The files of a guest's group as they are; empty without a group."""
    group, version = group_of(run_dir, vmid, root)
    found = {}
    for name in [*settings(Share(), version), "cgroup.procs"]:
        with contextlib.suppress(OSError):
            found[name] = (group / name).read_text().strip()
    return found


def remove(run_dir: Path, vmid: int, root: Path = ROOT) -> None:
    """Remove the group of a guest that has ended; harmless without one."""
    with contextlib.suppress(OSError, VMError):
        group, _ = group_of(run_dir, vmid, root)
        group.rmdir()
        group.parent.rmdir()  # the last guest's takes the installation's along
