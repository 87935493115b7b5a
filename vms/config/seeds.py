"""Which seed a machine gets, where its drive hangs, and what has changed since its image was written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from vms.config import configdrive, nocloud, opennebula
from vms.config.nocloud import Resolver, Seed
from vms.config.secrets import MASK, SECRETS
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError

Role = Literal["user", "network", "vendor", "meta"]
ROLES: tuple[Role, ...] = ("user", "network", "vendor", "meta")
"""The four documents of a seed; each may be a text of somebody's own (``cicustom``)."""
SHOWN: tuple[Role, ...] = ("user", "network", "meta")
"""Those that are ours unless somebody wrote another: what Proxmox's dump shows."""

KEYS = ("ciuser", "cipassword", "sshkeys", "nameserver", "searchdomain", "ciupgrade", "citype", "cicustom")
"""The plain options a seed is made from; besides them ``name`` and every ``ipconfigN`` with its ``netN``."""

_SLOTS = re.compile(r"(ipconfig|net)\d+")


def is_windows(config: VMConfig) -> bool:
    """Whether Cloudbase-Init reads the seed, not cloud-init."""
    return str(config.get("ostype") or "").startswith("w")


def kind_of(config: VMConfig) -> str:
    """The seed's format: what was chosen, else ``configdrive2`` for Windows and ``nocloud`` for the rest."""
    return str(config.get("citype") or ("configdrive2" if is_windows(config) else "nocloud"))


def seed_of(
    vmid: int, config: VMConfig, resolver: Resolver, custom: Mapping[Role, str] | None = None
) -> Seed:
    """The seed of VM ``vmid``. ``custom``: role → text for every role that ``cicustom`` names.

    Raises :class:`ConfigError` for what cannot be written.
    """
    texts = {str(role): text for role, text in (custom or {}).items()}
    for role in named(config):
        if role not in texts:
            raise ConfigError("cicustom", f"the text of '{named(config)[role]}' is not here", part=role)
    kind = kind_of(config)
    if kind == "configdrive2":
        return configdrive.seed(vmid, config, resolver, texts, windows=is_windows(config))
    if kind == "opennebula":
        return opennebula.seed(vmid, config, resolver, texts)
    return nocloud.seed(vmid, config, resolver, texts)


def document(
    role: Role, vmid: int, config: VMConfig, resolver: Resolver, custom: Mapping[Role, str] | None = None
) -> str:
    """One document of the seed as a person reads it: what the guest's format makes of it."""
    files = seed_of(vmid, config, resolver, custom).files
    if kind_of(config) == "opennebula":
        return files["context.sh"]
    names = _PLACES[kind_of(config)]
    return files.get(names[role], "")


_PLACES: Mapping[str, Mapping[str, str]] = {
    "nocloud": {
        "user": "user-data", "network": "network-config", "vendor": "vendor-data", "meta": "meta-data",
    },
    "configdrive2": {
        "user": "openstack/latest/user_data", "network": "openstack/content/0000",
        "vendor": "openstack/latest/vendor_data.json", "meta": "openstack/latest/meta_data.json",
    },
}  # fmt: skip


def shown(
    role: Role, vmid: int, config: VMConfig, resolver: Resolver, custom: Mapping[Role, str] | None = None
) -> str:
    """:func:`document` with the password as asterisks; all else, the instance's id too, is the real one."""
    real = document(role, vmid, config, resolver, custom)
    if not config.get("cipassword"):
        return real
    blind = VMConfig.parse({**config.mapping, "cipassword": MASK})
    found = document(role, vmid, blind, resolver, custom)
    if kind_of(config) != "opennebula" and role == "meta":
        told, true = (
            nocloud.digest(*(document(part, vmid, one, resolver, custom) for part in ("user", "network")))
            for one in (blind, config)
        )
        found = found.replace(told, true)
    return found


def named(config: VMConfig) -> dict[Role, str]:
    """The volumes ``cicustom`` names, role → volume id."""
    part = config.get("cicustom")
    if part is None:
        return {}
    return {role: getattr(part, role) for role in ROLES if getattr(part, role)}


# ---- its drive


def drive_of(config: VMConfig) -> str:
    """The slot of the cloud-init drive (``ide2``, ``scsi1``); empty without one."""
    return next((key for key, _, drive in config.drives() if drive.is_cloudinit), "")


def seed_slot(mapping: Mapping[str, str]) -> str:
    """The slot on which the guest's kernel finds the drive.

    The kernels of cloud images know VirtIO and little else: a CD on q35's ``ide2`` hangs on AHCI, which
    Debian's does not have. So it is a SCSI CD wherever the controller is VirtIO's and the system Linux; else
    the first IDE place that is free, ``ide2`` before the others, or a SATA one.
    """
    linux = mapping.get("ostype", "other") in ("l26", "other")
    if linux and mapping.get("scsihw", "").startswith("virtio-scsi"):
        places = [f"scsi{number}" for number in range(1, 31)]
    else:
        ide = ("ide2", "ide0") if "q35" in mapping.get("machine", "") else ("ide2", "ide3", "ide1", "ide0")
        places = [*ide, *(f"sata{number}" for number in range(6))]
    free = [place for place in places if place not in mapping or _is_empty(mapping[place])]
    if not free:
        raise ConfigError(places[0], "every place for the cloud-init drive is taken; detach a drive first")
    return free[0]


def _is_empty(drive: str) -> bool:
    """An empty CD drive, whose place the cloud-init drive may take."""
    file, _, rest = drive.partition(",")
    return file.removeprefix("file=") == "none" and "media=cdrom" in rest.split(",")


# ---- what its image was made from


@dataclass(frozen=True)
class Change:
    """A key whose value the image does not have. ``before`` is what it has, ``now`` what it would get;
    None where there is nothing. A secret's are empty texts."""

    key: str
    before: str | None
    now: str | None


def sources(mapping: Mapping[str, str]) -> dict[str, str]:
    """Of a configuration, the keys a seed is made from. A card counts only when it gets addresses."""
    found = {key: mapping[key] for key in ("name", *KEYS) if mapping.get(key)}
    for key in filter(_SLOTS.fullmatch, mapping):
        if key.startswith("ipconfig") or f"ipconfig{key[3:]}" in mapping:
            found[key] = mapping[key]
    return dict(sorted(found.items()))


def difference(before: Mapping[str, str], mapping: Mapping[str, str]) -> Iterator[Change]:
    """What an image made from ``before`` (as :func:`sources` said it) does not know of ``mapping``."""
    now = sources(mapping)
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if old == new or (key.startswith("net") and _mac(old) == _mac(new)):
            continue
        if key in SECRETS:
            old, new = old if old is None else "", new if new is None else ""
        yield Change(key, old, new)


def _mac(text: str | None) -> str:
    found = re.search(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", text or "")
    return found[0].upper() if found else ""


def section(before: Mapping[str, str], mapping: Mapping[str, str]) -> dict[str, str]:
    """The file's ``[special:cloudinit]``: what the image has that the configuration has not, and under
    ``added`` what it does not know at all. Secrets are left out."""
    found = {}
    added = []
    for change in difference(before, mapping):
        if change.before:
            found[change.key] = change.before
        elif change.before is None:
            added.append(change.key)
    return found | ({"added": ",".join(added)} if added else {})
