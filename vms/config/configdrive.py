"""OpenStack's config drive, which Windows' Cloudbase-Init reads, and cloud-init too (``configdrive2``).

Layout after OpenStack's documentation: user data as for NoCloud, metadata in JSON, the network in the words
of Debian's ``interfaces`` under ``content/0000``.
"""

from __future__ import annotations

import json
from typing import Any

from vms.config.nocloud import (
    Card,
    Resolver,
    Seed,
    cards,
    digest,
    host_name,
    name_service,
    ssh_keys,
    user_data,
)
from vms.config.vmconfig import VMConfig

NETWORK = "/content/0000"


def seed(vmid: int, config: VMConfig, resolver: Resolver, custom: dict[str, str], *, windows: bool) -> Seed:
    """The config drive. ``custom`` holds texts that stand for user, network, vendor or meta data."""
    user = custom.get("user") or user_data(vmid, config)
    network = custom.get("network") or interfaces(config, resolver)
    meta = custom.get("meta") or meta_data(vmid, config, user, network, windows=windows)
    files = {
        "openstack/latest/user_data": user,
        "openstack/latest/meta_data.json": meta,
        "openstack/latest/vendor_data.json": vendor_data(custom.get("vendor", "")),
    }
    return Seed("config-2", files | ({"openstack/content/0000": network} if network else {}))


def meta_data(vmid: int, config: VMConfig, user: str, network: str, *, windows: bool) -> str:
    """Who the instance is. Only Windows is told its administrator's password and keys here: Cloudbase-Init
    reads neither from the user data."""
    short, _ = host_name(vmid, config)
    found: dict[str, Any] = {"uuid": digest(user, network), "hostname": short}
    if network:
        found["network_config"] = {"content_path": NETWORK}
    if windows and config.get("cipassword"):
        found["admin_pass"] = config.get("cipassword")
    if windows and config.get("ciuser"):
        found["admin_username"] = config.get("ciuser")
    if windows and ssh_keys(config):
        found["public_keys"] = {f"key-{number}": key for number, key in enumerate(ssh_keys(config))}
    return json.dumps(found, indent=1) + "\n"


def vendor_data(text: str) -> str:
    """Vendor data is JSON here; a text in another form goes under the key that cloud-init looks at."""
    if not text.strip():
        return "{}\n"
    try:
        if isinstance(json.loads(text), dict):
            return text
    except ValueError:
        pass
    return json.dumps({"cloud-init": text}, indent=1) + "\n"


def interfaces(config: VMConfig, resolver: Resolver) -> str:
    """The cards in the words of Debian's ``interfaces``; empty when none is configured."""
    blocks = [_block(card) for card in cards(config)]
    if not blocks:
        return ""
    names = name_service(config, resolver)
    if "address" in names:
        blocks[0].append(f"        dns-nameservers {' '.join(names['address'])}")
    if "search" in names:
        blocks[0].append(f"        dns-search {' '.join(names['search'])}")
    lines = ["auto lo", "iface lo inet loopback"]
    for block in blocks:
        lines += ["", *block]
    return "\n".join([*lines, ""])


def _block(card: Card) -> list[str]:
    """One card. Its MAC address lets the reader find it whatever the guest calls it."""
    lines = [f"auto {card.name}"]
    for subnet in card.subnets:
        kind = subnet["type"]
        family = "inet6" if kind.endswith(("6", "slaac")) else "inet"
        method = {"dhcp4": "dhcp", "dhcp6": "dhcp", "ipv6_slaac": "auto"}.get(kind, "static")
        lines.append(f"iface {card.name} {family} {method}")
        lines.append(f"        hwaddress ether {card.mac}")
        lines += [
            f"        {key} {subnet[key]}" for key in ("address", "netmask", "gateway") if key in subnet
        ]
    return lines
