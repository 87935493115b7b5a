"""How fast a guest's card may be: a token bucket on either end of its tap.

What the node sends is held back on the tap itself. What the guest sends comes *in* there, where the kernel
can only drop, so it is led through a device of its own (``ifb101i0``) that holds it back as well. That device
does not vanish with the tap: whoever unplugs a card or cleans up after a guest calls :func:`free`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import re
from typing import Any

from vms.errors import NetworkError
from vms.network.bridge import SYS
from vms.network.tap import tap_name

MIB = 1 << 20
BURST = MIB
"""Bytes that may pass at once, as in Proxmox; large packets that the card cuts up need some."""
LATENCY = "100ms"
_ROOT, _INGRESS = 0x10000, 0xFFFF0000
_EVERYTHING = 0x0003
"""ETH_P_ALL"""


def ifb_name(vmid: int, index: int) -> str:
    """``ifb101i0``: where what net0 of VM 101 sends is held back. Never longer than 15 bytes."""
    return f"ifb{vmid}i{index}"


async def limit(vmid: int, index: int, megabytes: float) -> None:
    """Let net``index`` of a VM send and receive ``megabytes`` MiB a second, 0 for no limit.

    Replaces the limit there was. Raises :class:`NetworkError`.
    """
    await asyncio.to_thread(limit_sync, vmid, index, megabytes)


def limit_sync(vmid: int, index: int, megabytes: float) -> None:
    """:func:`limit` for a thread."""
    name, beside = tap_name(vmid, index), ifb_name(vmid, index)
    pyroute2 = importlib.import_module("pyroute2")
    try:
        with pyroute2.IPRoute() as netlink:
            [tap] = netlink.link_lookup(ifname=name)
            _lift(pyroute2, netlink, tap, beside)
            if megabytes:
                _hold_back(netlink, tap, beside, int(megabytes * MIB))
    except (pyroute2.NetlinkError, OSError, ValueError) as error:
        raise NetworkError(
            f"network device {name} cannot be limited to {megabytes:g} MB/s: {error}",
            hint="The node's kernel needs its modules sch_tbf, sch_ingress, act_mirred and ifb.",
        ) from error


def _hold_back(netlink: Any, tap: int, beside: str, rate: int) -> None:
    bucket = {"rate": rate, "burst": max(BURST, rate // 100), "latency": LATENCY}
    netlink.tc("add", "tbf", index=tap, handle="1:", **bucket)
    netlink.link("add", ifname=beside, kind="ifb")
    [ifb] = netlink.link_lookup(ifname=beside)
    netlink.link("set", index=ifb, state="up")
    netlink.tc("add", "tbf", index=ifb, handle="1:", **bucket)
    netlink.tc("add", "ingress", index=tap, handle=_INGRESS)
    netlink.tc(
        "add-filter", "u32", index=tap, parent=_INGRESS, prio=10, protocol=_EVERYTHING, target=_ROOT,
        keys=["0x0/0x0+0"],
        action={"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": ifb},
    )  # fmt: skip


def _lift(pyroute2: Any, netlink: Any, tap: int, beside: str) -> None:
    """Take away what a limit made."""
    for handle in ({"root": True}, {"parent": 0xFFFFFFF1}):
        with contextlib.suppress(pyroute2.NetlinkError):
            netlink.tc("del", index=tap, **handle)
    for index in netlink.link_lookup(ifname=beside):
        netlink.link("del", index=index)


async def free(vmid: int, index: int | None = None) -> list[str]:
    """Remove the devices of a card that is gone (None: of all cards of a VM that has ended); their names."""
    return await asyncio.to_thread(_free, vmid, index)


def _free(vmid: int, index: int | None) -> list[str]:
    card = "[0-9]+" if index is None else str(index)
    names = [entry.name for entry in SYS.iterdir() if re.fullmatch(rf"ifb{vmid}i{card}", entry.name)]
    if not names:
        return []
    pyroute2 = importlib.import_module("pyroute2")
    with pyroute2.IPRoute() as netlink:
        for name in names:
            with contextlib.suppress(pyroute2.NetlinkError, IndexError):
                netlink.link("del", index=netlink.link_lookup(ifname=name)[0])
    return names
