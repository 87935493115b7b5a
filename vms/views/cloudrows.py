"""The rows of the Cloud-Init page: what is set, in words, and what the image has instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.urls import reverse
from django.utils.dateparse import parse_datetime

from vms import access
from vms.config import seeds, sshkeys
from vms.config.rights import ON_VM
from vms.config.seeds import ROLES, Change
from vms.config.snippets import split
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError
from vms.forms.cloudinit import CUSTOM_LABELS, PLAIN
from vms.forms.hardware import decompose
from vms.models import VM, SnippetVersion
from vms.models.configuration import size_text
from vms.operations import cloudinit

KEEPS = "the image has"


@dataclass(frozen=True)
class Line:
    """One of several values of a row. ``href`` leads to it; ``small`` is said after it, muted."""

    text: str
    small: str = ""
    href: str = ""
    wrong: bool = False


@dataclass(frozen=True)
class Row:
    """A row. ``older`` is what the image has instead, in words; ``muted`` values were not set by anybody."""

    name: str
    label: str
    value: str = ""
    lines: tuple[Line, ...] = ()
    note: str = ""
    older: str = ""
    muted: bool = False
    edit: str = ""


@dataclass(frozen=True)
class Image:
    """The drive and what is in it. ``written`` is empty while nobody knows when."""

    slot: str
    volid: str
    size: str
    kind: str
    label: str
    written: datetime | None = None
    present: bool = True


def rows_of(vm: VM, mapping: Mapping[str, str], changes: list[Change]) -> list[Row]:
    """Every row, in Proxmox's order."""
    older = {change.key: change for change in changes}
    config = VMConfig.parse(mapping)
    named = seeds.named(config)
    found = [
        _plain(name, mapping, older) for name in ("user", "password", "domain", "servers", "keys", "upgrade")
    ]
    cards = [key for key, _, _ in config.slots("net")]
    lone = [key for key, number, _ in config.slots("ipconfig") if f"net{number}" not in cards]
    found += [_card(f"ipconfig{key[3:]}", mapping, older) for key in cards]
    found += [_card(key, mapping, older) for key in lone]
    found.append(_plain("type", mapping, older))
    found.append(_custom(named, older))
    return [_addressed(row, vm, named) for row in found]


def _addressed(row: Row, vm: VM, named: Mapping[Any, str]) -> Row:
    """With the address of its dialog; with a word on what a text of somebody's own makes of it."""
    overruled = ""
    if "user" in named and row.name in ("user", "password", "keys", "upgrade"):
        overruled = "not used: user data is a text of your own"
    if "network" in named and row.name.startswith("ipconfig"):
        overruled = "not used: the network settings are a text of your own"
    edit = reverse("vms:cloudinit_edit", args=[vm.vmid, row.name])
    return Row(row.name, row.label, row.value, row.lines, overruled or row.note, row.older, row.muted, edit)


def _plain(name: str, mapping: Mapping[str, str], older: Mapping[str, Change]) -> Row:
    label, key = PLAIN[name]
    text = mapping.get(key, "")
    value, lines, muted = _said(name, text, mapping)
    return Row(name, label, value, lines, older=_older(name, older.get(key), mapping), muted=muted)


def _said(name: str, text: str, mapping: Mapping[str, str]) -> tuple[str, tuple[Line, ...], bool]:
    """A value in words: as one, or as lines; and whether nobody has set it."""
    if name == "keys":
        keys = sshkeys.known(text)
        return "" if keys else "None", tuple(_key(key) for key in keys), not keys
    if name == "upgrade":
        return "No" if text == "0" else "Yes", (), text != "0"
    if name == "type":
        return text or f"Default ({seeds.kind_of(VMConfig.parse(mapping))})", (), not text
    absent = {"user": "Default of the image", "password": "None"}.get(name, "As the node")
    if name == "password":
        return ("**********" if text else absent), (), not text
    return text or absent, (), not text


def _key(key: sshkeys.Key) -> Line:
    if not key.kind:
        return Line(key.text[:60], "is no public key", wrong=True)
    return Line(f"{key.kind} {key.comment}".strip(), key.fingerprint)


def _older(name: str, change: Change | None, mapping: Mapping[str, str]) -> str:
    if change is None:
        return ""
    if change.before is None:
        return f"{KEEPS} none"
    if name == "password":
        return f"{KEEPS} another password" if change.now is not None else f"{KEEPS} a password"
    if name == "keys":
        keys = sshkeys.known(change.before)
        return f"{KEEPS} " + (", ".join(key.comment or key.fingerprint or "a line" for key in keys) or "none")
    value, _, _ = _said(name, change.before, {**mapping, PLAIN[name][1]: change.before})
    return f"{KEEPS} {value}"


def _card(key: str, mapping: Mapping[str, str], older: Mapping[str, Change]) -> Row:
    net = f"net{key[8:]}"
    said = older.get(key)
    old = ""
    if said is not None:
        old = f"{KEEPS} {address_words(said.before) if said.before is not None else 'none'}"
    elif net in older and mapping.get(key):
        old = f"{KEEPS} another MAC address"
    text = mapping.get(key, "")
    mac = next((word for word in mapping.get(net, "").split(",")[0].split("=")[1:]), "")
    return Row(
        key, f"IP config ({net})", address_words(text), note=mac.lower(), older=old, muted=not text,
    )  # fmt: skip


def address_words(text: str) -> str:
    """``192.0.2.10/24 via 192.0.2.1, IPv6 SLAAC``"""
    parts = decompose("ipconfig0", text)
    found = []
    for version, words in (("", {"dhcp": "DHCP"}), ("6", {"dhcp": "IPv6 DHCP", "auto": "IPv6 SLAAC"})):
        address = parts.get(f"ip{version}", "")
        if address:
            gateway = parts.get(f"gw{version}", "")
            found.append(words.get(address, address) + (f" via {gateway}" if gateway else ""))
    return ", ".join(found) or "Not set"


def _custom(named: Mapping[Any, str], older: Mapping[str, Change]) -> Row:
    lines = tuple(_text(role, named[role]) for role in ROLES if role in named)
    change = older.get("cicustom")
    old = f"{KEEPS} {change.before or 'none'}" if change is not None else ""
    return Row("custom", "Custom files", "" if lines else "All generated", lines, older=old, muted=not lines)


def _text(role: str, volid: str) -> Line:
    try:
        storage, name = split(volid)
    except ConfigError as error:
        return Line(f"{CUSTOM_LABELS[role]}: {volid}", error.text, wrong=True)
    versions = SnippetVersion.objects.filter(snippet__storage__name=storage, snippet__name=name)
    number = versions.order_by("-number").values_list("number", flat=True).first()
    href = reverse("vms:snippet", args=[storage, name])
    return Line(f"{CUSTOM_LABELS[role]}: {volid}", f"version {number}" if number else "a file", href)


# ---- the image, and who may change what


def image_of(vm: VM, mapping: Mapping[str, str]) -> Image | None:
    """The cloud-init drive; None without one."""
    config = VMConfig.parse(mapping)
    slot = seeds.drive_of(config)
    disk = next((disk for disk in vm.disks.all() if disk.slot == slot), None)
    if disk is None:
        return None
    written = parse_datetime(str(vm.seed.get("written", ""))) if vm.seed.get("written") else None
    kind = seeds.kind_of(config)
    label = {"nocloud": "cidata", "configdrive2": "config-2"}.get(kind, "CONTEXT")
    present = disk.volume.present if disk.volume is not None else True
    return Image(slot, disk.file, size_text(disk.size or 0), kind, label, written, present)


def reason(user: Any, vm: VM, key: str = "ciuser") -> str:
    """Why ``user`` cannot change the settings now; empty when they can."""
    held = access.privileges(user, vm.path, pool=vm.pool.name if vm.pool else "")
    needed = ON_VM[key]
    if not held & set(needed):
        return f"You may not: {' or '.join(needed)} on this VM is missing."
    return shut(vm)


def regenerate_reason(user: Any, vm: VM) -> str:
    """Why the image cannot be written now; empty when it can."""
    held = access.privileges(user, vm.path, pool=vm.pool.name if vm.pool else "")
    if "VM.Config.Cloudinit" not in held:
        return "You may not: VM.Config.Cloudinit on this VM is missing."
    return shut(vm)


def add_reason(user: Any, vm: VM, places: list[Any]) -> str:
    """Why a drive cannot be added now; empty when it can."""
    held = access.privileges(user, vm.path, pool=vm.pool.name if vm.pool else "")
    for needed in ("VM.Config.CDROM", "VM.Config.Cloudinit"):
        if needed not in held:
            return f"You may not: {needed} on this VM is missing."
    if not places:
        return "No storage takes disks of yours: Datastore.AllocateSpace is missing."
    return shut(vm)


def shut(vm: VM) -> str:
    """Why nothing of the VM can be changed now; empty when it can."""
    if not vm.node.online:
        return f"Node {vm.node.name} is offline: nothing there can be changed now."
    return f"The VM is locked ({vm.lock}): another operation is working on it." if vm.lock else ""


@dataclass(frozen=True)
class Page:
    """All the page shows."""

    rows: list[Row] = field(default_factory=list)
    image: Image | None = None
    notice: str = ""


def page_of(vm: VM, mapping: Mapping[str, str]) -> Page:
    """The page for a VM whose parts were prefetched."""
    image = image_of(vm, mapping)
    changes = cloudinit.changes(vm, mapping) if image is not None else []
    rows = rows_of(vm, mapping, changes)
    return Page(rows, image, _notice(vm, changes))


def _notice(vm: VM, changes: list[Change]) -> str:
    if not changes:
        return ""
    what = "The image is older than these settings"
    if any(change.key == "name" for change in changes):
        what += ", the host name among them"
    if vm.running:
        return f"{what}. The running guest sees them after Regenerate image, or at its next start."
    return f"{what}. It is written again at the next start."
