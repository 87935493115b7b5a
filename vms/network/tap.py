"""A guest's end of a bridge: a tap device, made here and handed to QEMU as an open descriptor.

QEMU needs no privilege for it and the device vanishes with the last descriptor, so a guest that
dies leaves no interface behind. Link operations go through netlink in a thread of their own:
pyroute2's ``IPRoute`` runs an event loop itself and refuses to work inside ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import importlib
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vms.errors import NetworkError
from vms.network.bridge import SYS, Bridge, require_bridge

TUNSETIFF = 0x400454CA
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
BRIDGE_VLAN_INFO_PVID_UNTAGGED = 0x2 | 0x4


@dataclass
class Tap:
    """An open tap. ``fd`` is ours until :meth:`close`; pass its number to QEMU as ``fd=N``."""

    name: str
    fd: int

    def close(self) -> None:
        """Close our descriptor: the device goes too, unless QEMU holds it open by then."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def tap_name(vmid: int, index: int) -> str:
    """``tap101i0``, Proxmox's name for net0 of VM 101. Never longer than the kernel's 15 bytes."""
    return f"tap{vmid}i{index}"


async def open_tap(
    vmid: int, index: int, bridge: str, *, tag: int | None = None, trunks: Sequence[int] = (),
    mtu: int | None = None,
) -> Tap:  # fmt: skip
    """Make the tap of net``index``, put it on ``bridge`` and bring it up.

    ``mtu`` defaults to the bridge's. ``tag`` is the VLAN (1 to 4094) whose frames come and go without a
    tag, ``trunks`` are VLANs the guest tags itself; both need a bridge that filters VLANs. Raises
    :class:`NetworkError`; whatever it had made is gone by then.
    """
    return await asyncio.to_thread(open_tap_sync, vmid, index, bridge, tag=tag, trunks=trunks, mtu=mtu)


def open_tap_sync(
    vmid: int, index: int, bridge: str, *, tag: int | None = None, trunks: Sequence[int] = (),
    mtu: int | None = None,
) -> Tap:  # fmt: skip
    """:func:`open_tap` for a thread."""
    target = require_bridge(bridge)
    _check_tags(target, tag, trunks)
    tap = Tap(tap_name(vmid, index), -1)
    tap.fd = _attach_device(tap.name)
    try:
        _join(tap.name, target, tag, trunks, mtu or target.mtu)
    except BaseException:
        tap.close()
        raise
    return tap


async def replug(
    vmid: int, index: int, bridge: str, *, tag: int | None = None, trunks: Sequence[int] = ()
) -> None:
    """Move the tap of a running guest's net``index`` to ``bridge`` and its VLANs; its MTU stays.

    The card is without a network for a moment. Raises :class:`NetworkError`.
    """
    await asyncio.to_thread(_replug, tap_name(vmid, index), bridge, tag, trunks)


def _replug(name: str, bridge: str, tag: int | None, trunks: Sequence[int]) -> None:
    target = require_bridge(bridge)
    _check_tags(target, tag, trunks)
    pyroute2 = _pyroute2()
    try:
        with pyroute2.IPRoute() as netlink:
            [index] = netlink.link_lookup(ifname=name)
            mtu = int(netlink.get_links(index)[0].get_attr("IFLA_MTU"))
            # Leaving the bridge forgets the VLANs the port had there.
            netlink.link("set", index=index, master=0)
    except (pyroute2.NetlinkError, OSError, ValueError) as error:
        raise NetworkError(f"network device {name} could not be unplugged: {error}") from error
    _join(name, target, tag, trunks, min(mtu, target.mtu))


async def remove_leftovers(vmid: int) -> list[str]:
    """Delete the taps of a VM that does not run; answers their names.

    Taps made here go by themselves; one made persistent by somebody else, or by an older program
    under the same name, would block the next start ("device or resource busy").
    """
    return await asyncio.to_thread(_remove_leftovers, vmid)


def _attach_device(name: str) -> int:
    """The ``/dev/net/tun`` descriptor of a new tap called ``name``."""
    try:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise NetworkError(
            f"network device {name}: /dev/net/tun cannot be opened: {error.strerror}",
            hint="Bridged networking needs the right to make taps; user-mode networking needs none.",
        ) from error
    try:
        flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError as error:
        os.close(descriptor)
        if error.errno == errno.EBUSY:
            raise NetworkError(f"network device {name} is in use; is the VM running already?") from error
        raise NetworkError(f"network device {name} cannot be made: {error.strerror}") from error
    return descriptor


def _check_tags(bridge: Bridge, tag: int | None, trunks: Sequence[int]) -> None:
    tags = [*([] if tag is None else [tag]), *trunks]
    for each in tags:
        if not 1 <= each <= 4094:
            raise NetworkError(f"VLAN tag {each} is not between 1 and 4094")
    if tags and not bridge.vlan_aware:
        raise NetworkError(
            f"bridge '{bridge.name}' does not filter VLANs, so tag {tags[0]} cannot be kept apart there",
            hint=f"If this kernel can: ip link set {bridge.name} type bridge vlan_filtering 1. "
            "Else leave the tag empty and use one bridge per network.",
        )


def _pyroute2() -> Any:
    """The netlink library, imported at first use: it takes long, and only bridges need it."""
    return importlib.import_module("pyroute2")


def _join(name: str, bridge: Bridge, tag: int | None, trunks: Sequence[int], mtu: int) -> None:
    """Put the tap on the bridge by netlink: MTU and VLAN first, so no frame passes before them."""
    pyroute2 = _pyroute2()
    step = "be found"
    try:
        with pyroute2.IPRoute() as netlink:
            index = netlink.link_lookup(ifname=name)[0]
            step = f"get MTU {mtu}"
            netlink.link("set", index=index, mtu=mtu)
            step = f"join bridge '{bridge.name}'"
            netlink.link("set", index=index, master=netlink.link_lookup(ifname=bridge.name)[0])
            if tag is not None:
                step = f"get VLAN {tag}"
                netlink.vlan_filter("del", index=index, vlan_info={"vid": 1})
                netlink.vlan_filter(
                    "add", index=index, vlan_info={"vid": tag, "flags": BRIDGE_VLAN_INFO_PVID_UNTAGGED}
                )
            for vid in trunks:
                step = f"get VLAN {vid}"
                netlink.vlan_filter("add", index=index, vlan_info={"vid": vid})
            step = "be brought up"
            netlink.link("set", index=index, state="up")
    except (pyroute2.NetlinkError, OSError, IndexError) as error:
        raise NetworkError(f"network device {name} could not {step}: {error}") from error


def _remove_leftovers(vmid: int) -> list[str]:
    names = [entry.name for entry in SYS.iterdir() if re.fullmatch(rf"tap{vmid}i[0-9]+", entry.name)]
    if not names:
        return []
    pyroute2 = _pyroute2()
    removed = []
    with pyroute2.IPRoute() as netlink:
        for name in names:
            with contextlib.suppress(pyroute2.NetlinkError, IndexError):
                netlink.link("del", index=netlink.link_lookup(ifname=name)[0])
                removed.append(name)
    return removed
