"""Network cards: their bridge, their address, their speed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vms.config.creation import MAC_PREFIX
from vms.config.finding import Case, Finding
from vms.hardware.net import Net


def bridges(case: Case) -> Iterator[Finding]:
    """R24, R25: the bridge has to exist, be up, and know VLANs if one is asked for."""
    for key, _, net in case.config.slots("net"):
        if not net.bridge:
            continue
        bridge = case.facts.bridge(net.bridge)
        if bridge is None:
            others = [str(b["name"]) for b in case.facts.bridges]
            other = replace(net, bridge=others[0] if others else None).format()
            text = f"{key}: there is no bridge '{net.bridge}' on this node."
            yield Finding("R25", "block", (key,), text, {key: other})
        elif bridge.get("active") is False:
            yield Finding("R25", "warn", (key,), f"{key}: the bridge '{net.bridge}' is down.")
        elif net.tag and bridge.get("vlan_aware") is False:
            text = f"{key}: the bridge '{net.bridge}' does not know VLANs; tag {net.tag} may not arrive."
            yield Finding("R24", "warn", (key,), text, {key: replace(net, tag=None).format()})


def addresses(case: Case) -> Iterator[Finding]:
    """R26: a card's address must be its own; our prefix keeps clear of everybody else's."""
    seen: dict[str, str] = {mac.upper(): whose for mac, whose in case.facts.used_macs.items()}
    for key, _, net in case.config.slots("net"):
        address = (net.macaddr or "").upper()
        if not address:
            continue
        fix: dict[str, str | None] = {key: without_address(net)}
        if address in seen:
            text = f"{key}: {address} is already the address of {seen[address]}."
            yield Finding("R26", "block", (key,), text, fix)
        elif not address.startswith(MAC_PREFIX):
            text = f"{key}: {address} is not of our prefix {MAC_PREFIX}; make sure nobody else has it."
            yield Finding("R26", "info", (key,), text, fix)
        seen.setdefault(address, key)


def without_address(net: Net) -> str:
    """The card's text without its address; a new one is made for it."""
    changed: Any = replace(net, macaddr=None)
    return str(changed.format())


def rates(case: Case) -> Iterator[Finding]:
    """R27: the limit is in megabytes; networks are told in megabits."""
    for key, _, net in case.config.slots("net"):
        if net.rate:
            bits = net.rate * 8 * 1.048576
            text = f"{key}: {net.rate:g} MB/s are about {bits:.0f} Mbit/s, in each direction."
            yield Finding("R27", "info", (key,), text)
