"""OpenNebula's contextualization disk: one shell script of assignments, ``context.sh``."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterator, Mapping

from vms.config.nocloud import Card, Resolver, Seed, cards, host_name, name_service, ssh_keys, user_data
from vms.config.vmconfig import VMConfig


def seed(vmid: int, config: VMConfig, resolver: Resolver, custom: dict[str, str]) -> Seed:
    """The disk. Of ``custom`` only user data has a place here."""
    words = dict(_variables(vmid, config, resolver))
    user = custom.get("user") or user_data(vmid, config)
    words["USER_DATA_ENCODING"] = "base64"
    words["USER_DATA"] = base64.b64encode(user.encode()).decode()
    lines = [f"{name}={quoted(text)}" for name, text in words.items()]
    return Seed("CONTEXT", {"context.sh": "\n".join(["# Context variables", *lines, ""])})


def quoted(text: str) -> str:
    """``text`` as one word of a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def _variables(vmid: int, config: VMConfig, resolver: Resolver) -> Iterator[tuple[str, str]]:
    short, _ = host_name(vmid, config)
    yield "SET_HOSTNAME", short
    if config.get("ciuser"):
        yield "USERNAME", str(config.get("ciuser"))
    if config.get("cipassword"):
        secret = base64.b64encode(str(config.get("cipassword")).encode()).decode()
        yield ("PASSWORD_BASE64" if _plain(config) else "CRYPTED_PASSWORD_BASE64"), secret
    if ssh_keys(config):
        yield "SSH_PUBLIC_KEY", "\n".join(ssh_keys(config))
    names = name_service(config, resolver)
    found = cards(config)
    if found:
        yield "NETWORK", "YES"
        yield "DNS", " ".join(names.get("address", []))
        yield "SEARCH_DOMAIN", " ".join(names.get("search", []))
    for card in found:
        yield from _card(card)


def _plain(config: VMConfig) -> bool:
    return not str(config.get("cipassword")).startswith("$")


def _card(card: Card) -> Iterator[tuple[str, str]]:
    name = card.name.upper()
    yield f"{name}_MAC", card.mac
    for subnet in card.subnets:
        kind = subnet["type"]
        if kind == "static":
            yield f"{name}_METHOD", "static"
            place = ipaddress.IPv4Interface(f"{subnet['address']}/{subnet['netmask']}")
            yield f"{name}_IP", subnet["address"]
            yield f"{name}_NETWORK", str(place.network.network_address)
            yield f"{name}_MASK", subnet["netmask"]
            yield from _given(f"{name}_GATEWAY", subnet)
        elif kind == "static6":
            address, _, length = subnet["address"].partition("/")
            yield f"{name}_IP6_METHOD", "static"
            yield f"{name}_IP6", address
            yield f"{name}_IP6_PREFIX_LENGTH", length
            yield from _given(f"{name}_GATEWAY6", subnet)
        elif kind == "dhcp4":
            yield f"{name}_METHOD", "dhcp"
        else:
            yield f"{name}_IP6_METHOD", "dhcp" if kind == "dhcp6" else "auto"


def _given(name: str, subnet: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if "gateway" in subnet:
        yield name, subnet["gateway"]
