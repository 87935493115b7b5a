"""The node's ends of a machine's network cards."""

from __future__ import annotations

import os
from collections.abc import Mapping

from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError, NetworkError
from vms.hardware.net import Net
from vms.network import rate, tap
from vms.network.tap import Tap


async def open_taps(vmid: int, config: VMConfig) -> dict[str, Tap]:
    """A tap for each card on a bridge. All or none stay open."""
    taps: dict[str, Tap] = {}
    try:
        for key, _, net in config.slots("net"):
            if net.bridge:
                taps[key] = await open_card(vmid, key, net)
    except BaseException:
        close_all(taps)
        raise
    return taps


async def open_card(vmid: int, key: str, net: Net) -> Tap:
    """The tap of a card on a bridge. Raises :class:`ConfigError` on its key."""
    bridge = str(net.bridge)
    if os.geteuid() != 0:
        raise ConfigError(
            key, f"this worker may not plug a guest into bridge '{bridge}': it does not run as root",
            part="bridge", hint="Run pvelite as root, or choose user-mode networking (no bridge).",
        )  # fmt: skip
    index, mtu = int(key.removeprefix("net")), net.mtu if net.mtu and net.mtu > 1 else None
    try:
        opened = await tap.open_tap(vmid, index, bridge, tag=net.tag, trunks=net.trunk_tags, mtu=mtu)
    except NetworkError as error:
        raise ConfigError(key, f"{error}", part="bridge", hint=error.hint) from error
    try:
        if net.rate:
            await rate.limit(vmid, index, net.rate)
    except BaseException as error:
        opened.close()
        if isinstance(error, NetworkError):
            raise ConfigError(key, f"{error}", part="rate", hint=error.hint) from error
        raise
    return opened


def close_all(taps: Mapping[str, Tap]) -> None:
    """Close descriptors; the devices go with them."""
    for one in taps.values():
        one.close()
