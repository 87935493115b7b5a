"""A guest's share of the node's CPU time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from vms.errors import VMError
from vms.host import cgroup
from vms.host.cgroup import Share
from vms.models import VM
from vms.operations.base import Context


def share_of(mapping: Mapping[str, str]) -> Share:
    """How much CPU time a configuration gives its guest."""
    units = mapping.get("cpuunits")
    return Share(int(units) if units else None, float(mapping.get("cpulimit") or 0))


async def share_time(ctx: Context, vm: VM, pid: int, mapping: Mapping[str, str]) -> None:
    """Give the process its weight and its limit. A node that does not let us is a warning: the guest runs."""
    share = share_of(mapping)
    if share.usual:
        return
    try:
        await asyncio.to_thread(cgroup.apply, ctx.services.paths.run_dir, vm.vmid, pid, share)
    except VMError as error:
        await ctx.warn(f"{error} {error.hint}".strip())
