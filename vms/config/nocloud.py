"""What a cloud image is told at its first boot, as the texts of a cloud-init seed.

Pure: a configuration and the node's resolver in, file name → text out. NoCloud is written for every system
but Windows, whose Cloudbase-Init reads a config drive.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from vms.config.vmconfig import VMConfig
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


KEYS = ("ciuser", "cipassword", "sshkeys", "nameserver", "searchdomain", "ciupgrade", "citype", "cicustom")
"""The plain options a seed is made from; besides them ``name`` and every ``ipconfigN`` with its ``netN``."""


def drive_of(config: VMConfig) -> str:
    """The slot of the cloud-init drive (``ide2``, ``scsi1``); empty without one."""
    return next((key for key, _, drive in config.drives() if drive.is_cloudinit), "")


def seed_slot(mapping: Mapping[str, str]) -> str:
    """The slot on which the guest's kernel finds the drive.

    The kernels of cloud images know VirtIO and little else: a CD on q35's ``ide2`` hangs on AHCI, which
    Debian's does not have. So it is a SCSI CD wherever the controller is VirtIO's and the system Linux.
    """
    linux = mapping.get("ostype", "other") in ("l26", "other")
    if not (linux and mapping.get("scsihw", "").startswith("virtio-scsi")):
        return "ide2"
    return next(f"scsi{number}" for number in range(1, 31) if f"scsi{number}" not in mapping)


def seed_of(vmid: int, config: VMConfig, resolver: Resolver) -> Seed:
    """The seed of VM ``vmid``. Raises :class:`ConfigError` for what cannot be written."""
    windows = str(config.get("ostype") or "").startswith("w")
    kind = config.get("citype") or ("configdrive2" if windows else "nocloud")
    if config.get("cicustom") is not None:
        raise ConfigError("cicustom", "files of your own are not read by this version; remove the option")
    if kind == "opennebula":
        raise ConfigError("citype", "'opennebula' is not written by this version; use nocloud")
    if kind == "configdrive2":
        return _config_drive(vmid, config, resolver, windows)
    user, network = user_data(vmid, config), network_config(config, resolver)
    meta = f"instance-id: {_digest(user, network)}\n"
    files = {"user-data": user, "meta-data": meta, "vendor-data": ""}
    return Seed("cidata", files | ({"network-config": network} if network else {}))


def _digest(*texts: str) -> str:
    """Another content is another instance to cloud-init: it runs again."""
    return hashlib.sha1("".join(texts).encode(), usedforsecurity=False).hexdigest()


# ---- who the guest is and who may log in


def host_name(vmid: int, config: VMConfig) -> tuple[str, str]:
    """Host name and full name."""
    name = str(config.get("name") or f"VM{vmid}")
    domain = str(config.get("searchdomain") or "").split(" ")[0]
    return name.partition(".")[0], name if "." in name or not domain else f"{name}.{domain}"


def user_data(vmid: int, config: VMConfig) -> str:
    """The ``#cloud-config`` document. Values are JSON, which is YAML that needs no guessing."""
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
    lines = [f"{key}: {json.dumps(value)}" for key, value in found.items()]
    return "\n".join(["#cloud-config", *lines, ""])


def ssh_keys(config: VMConfig) -> list[str]:
    """The public keys, one a line in the option, blank lines dropped."""
    lines = unquote(str(config.get("sshkeys") or "")).splitlines()
    return [line.strip() for line in lines if line.strip()]


# ---- its network


def network_config(config: VMConfig, resolver: Resolver) -> str:
    """Version 1 of cloud-init's own format; empty when no card is configured (the image then asks DHCP)."""
    cards = [_card(config, key, number, part) for key, number, part in config.slots("ipconfig")]
    if not any(cards):
        return ""
    entries = [card for card in cards if card]
    names = name_service(config, resolver)
    if names:
        entries.append({"type": "nameserver", **names})
    lines = [f"  - {json.dumps(entry)}" for entry in entries]
    return "\n".join(["version: 1", "config:", *lines, ""])


def name_service(config: VMConfig, resolver: Resolver) -> dict[str, list[str]]:
    """Servers and search list: the configuration's, else the node's."""
    servers = [word for word in re.split(r"[ ,;]+", config.get("nameserver") or "") if word]
    search = [word for word in re.split(r"[ ,;]+", config.get("searchdomain") or "") if word]
    found = {"address": servers or list(resolver.servers), "search": search or list(resolver.search)}
    return {key: words for key, words in found.items() if words}


def _card(config: VMConfig, key: str, number: int, part: Any) -> dict[str, Any] | None:
    net = config.get(f"net{number}")
    if net is None:
        return None
    if not net.macaddr:
        raise ConfigError(f"net{number}", "has no MAC address yet, which cloud-init tells cards apart by")
    subnets = [*_subnets4(part), *_subnets6(part)] or [{"type": "dhcp4"}]
    return {
        "type": "physical",
        "name": f"eth{number}",
        "mac_address": net.macaddr.lower(),
        "subnets": subnets,
    }


def _subnets4(part: Any) -> Iterator[dict[str, str]]:
    if part.ip == "dhcp":
        yield {"type": "dhcp4"}
    elif part.ip:
        place = ipaddress.IPv4Interface(part.ip)
        found = {"type": "static", "address": str(place.ip), "netmask": str(place.netmask)}
        yield found | ({"gateway": part.gw} if part.gw else {})


def _subnets6(part: Any) -> Iterator[dict[str, str]]:
    if part.ip6 in ("dhcp", "auto"):
        yield {"type": "dhcp6" if part.ip6 == "dhcp" else "ipv6_slaac"}
    elif part.ip6:
        yield {"type": "static6", "address": part.ip6} | ({"gateway": part.gw6} if part.gw6 else {})


# ---- Windows


def _config_drive(vmid: int, config: VMConfig, resolver: Resolver, windows: bool) -> Seed:
    user, network = user_data(vmid, config), interfaces(config, resolver)
    short, _ = host_name(vmid, config)
    meta: dict[str, Any] = {"uuid": _digest(user, network), "hostname": short}
    if network:
        meta["network_config"] = {"content_path": "/content/0000"}
    if windows and config.get("cipassword"):
        meta["admin_pass"] = config.get("cipassword")
    if windows and config.get("ciuser"):
        meta["admin_username"] = config.get("ciuser")
    if ssh_keys(config):
        meta["public_keys"] = {f"key-{number}": key for number, key in enumerate(ssh_keys(config))}
    files = {
        "openstack/latest/user_data": user,
        "openstack/latest/meta_data.json": json.dumps(meta, indent=1) + "\n",
        "openstack/latest/vendor_data.json": "{}\n",
    }
    return Seed("config-2", files | ({"openstack/content/0000": network} if network else {}))


def interfaces(config: VMConfig, resolver: Resolver) -> str:
    """The cards in the words of Debian's ``interfaces``; empty when none is configured."""
    lines: list[str] = []
    for _, number, part in config.slots("ipconfig"):
        card = f"eth{number}"
        if config.get(f"net{number}") is None:
            continue
        for subnet in _subnets4(part):
            lines += [f"iface {card} inet {'dhcp' if subnet['type'] == 'dhcp4' else 'static'}"]
            lines += [f"  {key} {subnet[key]}" for key in ("address", "netmask", "gateway") if key in subnet]
        for subnet in _subnets6(part):
            lines += [f"iface {card} inet6 {'static' if subnet['type'] == 'static6' else 'auto'}"]
            lines += [f"  {key} {subnet[key]}" for key in ("address", "gateway") if key in subnet]
    if not lines:
        return ""
    names = name_service(config, resolver)
    lines += [f"  dns_nameservers {' '.join(names['address'])}"] if "address" in names else []
    lines += [f"  dns_search {' '.join(names['search'])}"] if "search" in names else []
    return "\n".join(["auto lo", "iface lo inet loopback", *lines, ""])
