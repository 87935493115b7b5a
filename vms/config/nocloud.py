"""What a cloud image is told at its first boot, in the words of cloud-init's own format, NoCloud.

Pure: a configuration and the node's resolver in, file name → text out. Who the guest is and what its cards
get is worked out here for the other formats as well (:mod:`vms.config.configdrive`,
:mod:`vms.config.opennebula`); which format a machine gets, :mod:`vms.config.seeds` says.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from vms.config.vmconfig import VMConfig
from vms.config.yamltext import document
from vms.errors import ConfigError


@dataclass(frozen=True)
class Resolver:
    """What the node itself asks for names; the guest gets it unless its configuration says otherwise."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seed:
    """A seed's label and its files, name → text."""

    label: str
    files: Mapping[str, str]

    @property
    def contents(self) -> dict[str, bytes]:
        return {name: text.encode() for name, text in self.files.items()}


@dataclass(frozen=True)
class Card:
    """A network card with addresses to get: its number, its MAC address in lower case, its two families."""

    number: int
    mac: str
    subnets: tuple[Mapping[str, str], ...]

    @property
    def name(self) -> str:
        """What the guest calls it."""
        return f"eth{self.number}"


def seed(vmid: int, config: VMConfig, resolver: Resolver, custom: Mapping[str, str]) -> Seed:
    """The NoCloud seed. ``custom`` holds texts that stand for user, network, vendor or meta data."""
    user = custom.get("user") or user_data(vmid, config)
    network = custom.get("network") or network_config(config, resolver)
    meta = custom.get("meta") or meta_data(user, network)
    files = {"user-data": user, "meta-data": meta, "vendor-data": custom.get("vendor", "")}
    return Seed("cidata", files | ({"network-config": network} if network else {}))


def digest(*texts: str) -> str:
    """Another content is another instance to cloud-init: it runs again."""
    return hashlib.sha1("".join(texts).encode(), usedforsecurity=False).hexdigest()


def meta_data(user: str, network: str) -> str:
    """The instance's id, which follows from what it is told."""
    return f"instance-id: {digest(user, network)}\n"


# ---- who the guest is and who may log in


def host_name(vmid: int, config: VMConfig) -> tuple[str, str]:
    """Host name and full name."""
    name = str(config.get("name") or f"VM{vmid}")
    domain = str(config.get("searchdomain") or "").split(" ")[0]
    return name.partition(".")[0], name if "." in name or not domain else f"{name}.{domain}"


def user_data(vmid: int, config: VMConfig) -> str:
    """The ``#cloud-config`` document, its keys in the peer's order."""
    short, full = host_name(vmid, config)
    user = config.get("ciuser")
    found: dict[str, Any] = {"hostname": short, "manage_etc_hosts": True, "fqdn": full}
    if user:
        # A mapping lets the image keep its default user's groups and rights under the new name.
        found["user"] = {"name": user}
    if user == "root":
        found["disable_root"] = False
    if config.get("cipassword"):
        found["password"] = config.get("cipassword")
    keys = ssh_keys(config)
    if keys:
        found["ssh_authorized_keys"] = keys
    found["chpasswd"] = {"expire": False}
    if user != "root":
        found["users"] = ["default"]
    if config.value("ciupgrade"):
        found["package_upgrade"] = True
    return "#cloud-config\n" + document(found)


def ssh_keys(config: VMConfig) -> list[str]:
    """The public keys, one a line in the option, blank lines dropped."""
    lines = unquote(str(config.get("sshkeys") or "")).splitlines()
    return [line.strip() for line in lines if line.strip()]


# ---- its network


def cards(config: VMConfig) -> list[Card]:
    """The cards that have an ``ipconfigN``, in their order. Raises :class:`ConfigError` without a MAC."""
    found = []
    for _, number, part in config.slots("ipconfig"):
        net = config.get(f"net{number}")
        if net is None:
            continue
        if not net.macaddr:
            raise ConfigError(f"net{number}", "has no MAC address yet, which cloud-init tells cards apart by")
        subnets = [*_subnets4(part), *_subnets6(part)] or [{"type": "dhcp4"}]
        found.append(Card(number, net.macaddr.lower(), tuple(subnets)))
    return found


def _subnets4(part: Any) -> Iterator[Mapping[str, str]]:
    if part.ip == "dhcp":
        yield {"type": "dhcp4"}
    elif part.ip:
        place = ipaddress.IPv4Interface(part.ip)
        found = {"type": "static", "address": str(place.ip), "netmask": str(place.netmask)}
        yield found | ({"gateway": part.gw} if part.gw else {})


def _subnets6(part: Any) -> Iterator[Mapping[str, str]]:
    if part.ip6 in ("dhcp", "auto"):
        yield {"type": "dhcp6" if part.ip6 == "dhcp" else "ipv6_slaac"}
    elif part.ip6:
        yield {"type": "static6", "address": part.ip6} | ({"gateway": part.gw6} if part.gw6 else {})


def network_config(config: VMConfig, resolver: Resolver) -> str:
    """Version 1 of cloud-init's own format; empty when no card is configured (the image then asks DHCP)."""
    entries: list[dict[str, Any]] = [
        {"type": "physical", "name": card.name, "mac_address": card.mac, "subnets": list(card.subnets)}
        for card in cards(config)
    ]
    if not entries:
        return ""
    names = name_service(config, resolver)
    if names:
        entries.append({"type": "nameserver", **names})
    return document({"version": 1, "config": entries})


def name_service(config: VMConfig, resolver: Resolver) -> dict[str, list[str]]:
    """Servers and search list: the configuration's, else the node's."""
    servers = [word for word in re.split(r"[ ,;]+", config.get("nameserver") or "") if word]
    search = [word for word in re.split(r"[ ,;]+", config.get("searchdomain") or "") if word]
    found = {"address": servers or list(resolver.servers), "search": search or list(resolver.search)}
    return {key: words for key, words in found.items() if words}
