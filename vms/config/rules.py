"""Rules R1 … R35: what deserves a refusal, a warning or a word before a machine is created or started.

Pure functions of the configuration and the node's facts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from vms.config.vmconfig import VMConfig
from vms.hardware.boot import boot_indexes
from vms.hardware.context import NodeFacts
from vms.hardware.cpu import Cpu
from vms.hardware.cpumodel import ABSTRACT, emulated_model
from vms.hardware.guest import windows_version
from vms.hardware.machine import Machine
from vms.hardware.net import Net
from vms.schema.types import VolumeId

Severity = Literal["block", "warn", "info"]
_ORDER = {"block": 0, "warn": 1, "info": 2}
_CACHED = ("writeback", "writethrough", "unsafe")
GIB = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One thing to say. ``keys`` are the configuration keys it is about; ``fix`` is the change that ends it:
    key → new text, ``None`` to remove the key."""

    rule: str
    severity: Severity
    keys: tuple[str, ...]
    text: str
    fix: Mapping[str, str | None] | None = None


def findings(config: VMConfig, facts: NodeFacts) -> list[Finding]:
    """Every finding for this configuration on this node, blocking ones first."""
    found = [finding for rule in RULES for finding in rule(config, facts)]
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


def windows_11(config: VMConfig, facts: NodeFacts) -> Iterator[Finding]:
    """R1: Windows 11 needs a TPM 2.0, UEFI and q35."""
    if config.get("ostype") != "win11":
        return
    storage = _first_storage(config)
    fix: dict[str, str | None] = {}
    board = config.part("machine", Machine)
    if "q35" not in (board.type or ""):
        fix["machine"] = replace(board, type=(board.type or "q35").replace("i440fx", "q35")).format()
        fix["machine"] = "q35" if fix["machine"] in ("pc", None) else fix["machine"]
    if config.value("bios") != "ovmf":
        fix["bios"] = "ovmf"
    if config.get("efidisk0") is None:
        fix["efidisk0"] = f"{storage}:1,efitype=4m,pre-enrolled-keys=1"
    tpm = config.get("tpmstate0")
    if tpm is None:
        fix["tpmstate0"] = f"{storage}:1,version=v2.0"
    elif tpm.value("version") != "v2.0":
        fix["tpmstate0"] = replace(tpm, version="v2.0").format()
    if fix:
        words = {
            "machine": "a q35 board",
            "bios": "UEFI",
            "efidisk0": "an EFI disk",
            "tpmstate0": "a TPM 2.0",
        }
        needs = ", ".join(words[key] for key in fix)
        text = f"Windows 11 and Server 2025 refuse to install without: {needs}."
        yield Finding("R1", "block", tuple(fix), text, fix)


def uefi_variables(config: VMConfig, facts: NodeFacts) -> Iterator[Finding]:
    """R5: UEFI without a disk for its variables forgets its settings."""
    if config.value("bios") == "ovmf" and config.get("efidisk0") is None and config.get("ostype") != "win11":
        fix = {"efidisk0": f"{_first_storage(config)}:1,efitype=4m,pre-enrolled-keys=1"}
        text = "UEFI has no disk for its variables; boot entries and keys would be lost at every stop."
        yield Finding("R5", "block", ("efidisk0", "bios"), text, fix)


def processor(config: VMConfig, facts: NodeFacts) -> Iterator[Finding]:
    """R9, R11: the CPU model has to run here."""
    cpu: Cpu = config.part("cpu", Cpu)
    model = cpu.cputype or "kvm64"
    if not facts.kvm and config.value("kvm"):
        reason = f" ({facts.accel_reason})" if facts.accel_reason else ""
        text = f"This node has no KVM{reason}: the machine is emulated, about ten to thirty times slower."
        yield Finding("R11", "warn", ("kvm", "cpu"), text)
        stand_in = emulated_model(model, facts.cpu_models)
        if stand_in != model:
            text = f"'{model}' cannot be emulated here; the guest sees '{stand_in}' instead."
            yield Finding("R11", "info", ("cpu",), text)
    elif facts.kvm and config.value("kvm") and model == "host":
        text = "'host' is fast, but such a machine moves only to a node with the same processor."
        yield Finding("R10", "info", ("cpu",), text)
    elif facts.kvm and facts.cpu_models and config.value("kvm"):
        base = "qemu64" if model in ABSTRACT else model
        if base not in facts.cpu_models and not base.startswith("custom-"):
            text = f"This node's processor cannot run '{model}'; the machine would not start."
            yield Finding("R9", "block", ("cpu",), text, {"cpu": "x86-64-v2-AES"})


def cores(config: VMConfig, facts: NodeFacts) -> Iterator[Finding]:
    """R12: no more CPUs than the node has threads."""
    total = config.value("sockets") * config.value("cores")
    if total > facts.threads:
        text = f"{total} CPUs are more than this node's {facts.threads} threads; it would not start."
        fix = {"sockets": "1", "cores": str(facts.threads)}
        yield Finding("R12", "block", ("cores", "sockets"), text, fix)


def memory(config: VMConfig, facts: NodeFacts) -> Iterator[Finding]:
    """R13: memory the node does not have."""
    wanted = config.value("memory").value("current") << 20
    if facts.memory and wanted > facts.memory:
        text = (
            f"The node has {facts.memory / GIB:.1f} GiB of memory, the machine wants {wanted / GIB:.1f} GiB."
        )
        yield Finding("R13", "block", ("memory",), text)
    elif facts.memory_free and wanted > facts.memory_free:
        text = f"Only {facts.memory_free / GIB:.1f} GiB of memory are free on the node right now."
        yield Finding("R13", "warn", ("memory",), text)


def drives(config: VMConfig, facts: NodeFacts) -> Iterator[Finding]:
    """R15, R17, R18, R19: options of a drive that are dangerous, impossible or without effect."""
    single = config.value("scsihw") == "virtio-scsi-single"
    for key, _, drive in config.drives():
        if drive.cache == "unsafe":
            text = f"{key}: 'unsafe' loses data for certain when the power fails or QEMU crashes."
            yield Finding("R15", "warn", (key,), text, {key: replace(drive, cache=None).format()})
        if drive.aio == "native" and (drive.cache in _CACHED or (drive.is_cdrom and drive.cache is None)):
            text = f"{key}: 'native' works only without the node's cache; QEMU refuses this pair."
            yield Finding("R17", "block", (key,), text, {key: replace(drive, aio=None).format()})
        if getattr(drive, "iothread", None) and drive.bus == "scsi" and not single:
            text = f"{key}: an IO thread needs the controller 'VirtIO SCSI single'; here it has no effect."
            yield Finding("R18", "warn", (key, "scsihw"), text, {"scsihw": "virtio-scsi-single"})
        if drive.aio == "io_uring" and not facts.aio_io_uring:
            text = f"{key}: this node's kernel does not allow io_uring."
            yield Finding("R17", "block", (key,), text, {key: replace(drive, aio=None).format()})


def space(config: VMConfig, facts: NodeFacts) -> Iterator[Finding]:
    """R21: disks to be made have to fit. ``storages`` may carry ``free`` in bytes."""
    wanted: dict[str, float] = {}
    keys: dict[str, list[str]] = {}
    for key, _, drive in config.drives():
        name, _, amount = drive.file.partition(":")
        if drive.file.startswith("/") or not amount.replace(".", "", 1).isdigit():
            continue
        wanted[name] = wanted.get(name, 0) + float(amount) * GIB
        keys.setdefault(name, []).append(key)
    for name, total in wanted.items():
        free = facts.storages.get(name, {}).get("free")
        if free is None:
            continue
        largest = max(float(config.get(k).file.partition(":")[2]) for k in keys[name]) * GIB
        if largest > free or total > free:
            thin = largest <= free
            text = (
                f"Storage '{name}' has {free / GIB:.1f} GiB free, the new disks want {total / GIB:.1f} GiB."
            )
            yield Finding("R21", "warn" if thin else "block", tuple(keys[name]), text)


def places(config: VMConfig, facts: NodeFacts) -> Iterator[Finding]:
    """R22: disks on the same IDE port of a q35 board do not exist, others are merely odd."""
    old = [key for key, _, _ in config.slots("ide") if key in ("ide1", "ide3")]
    if old and "q35" in (config.part("machine", Machine).type or ""):
        text = f"{', '.join(old)}: on q35 use ide0, ide2 or SATA; some systems do not see these."
        yield Finding("R22", "warn", tuple(old), text)


def bridges(config: VMConfig, facts: NodeFacts) -> Iterator[Finding]:
    """R24, R25: the bridge has to exist, be up, and know VLANs if one is asked for."""
    for key, _, net in config.slots("net"):
        if not net.bridge:
            continue
        bridge = facts.bridge(net.bridge)
        if bridge is None:
            others = [str(b["name"]) for b in facts.bridges]
            other = replace(net, bridge=others[0] if others else None).format()
            text = f"{key}: there is no bridge '{net.bridge}' on this node."
            yield Finding("R25", "block", (key,), text, {key: other})
        elif bridge.get("active") is False:
            text = f"{key}: the bridge '{net.bridge}' is down."
            yield Finding("R25", "warn", (key,), text)
        elif net.tag and bridge.get("vlan_aware") is False:
            text = f"{key}: the bridge '{net.bridge}' does not know VLANs; tag {net.tag} may not arrive."
            yield Finding("R24", "warn", (key,), text)


def addresses(config: VMConfig, facts: NodeFacts) -> Iterator[Finding]:
    """R26: a card's address must be its own."""
    seen: dict[str, str] = {}
    for key, _, net in config.slots("net"):
        address = (net.macaddr or "").upper()
        if address and address in seen:
            text = f"{key}: {address} is already the address of {seen[address]}."
            fix = {key: _without_mac(net)}
            yield Finding("R26", "block", (key,), text, fix)
        elif address:
            seen[address] = key


def name(config: VMConfig, facts: NodeFacts) -> Iterator[Finding]:
    """R28: a machine without a name is hard to find."""
    if not config.get("name"):
        yield Finding("R28", "info", ("name",), "Without a name it is listed by its number only.")


def boot(config: VMConfig, facts: NodeFacts) -> Iterator[Finding]:
    """R33: something has to be bootable."""
    explicit = config.get("boot") is not None or config.get("bootdisk") is not None
    if not explicit:
        if not any(True for _ in config.drives()) and not any(True for _ in config.slots("net")):
            text = "There is neither a disk, a CD nor a network card: nothing to boot from."
            yield Finding("R33", "warn", ("boot",), text)
        return
    known = {key: drive for key, _, drive in config.drives()}
    listed = boot_indexes(config)
    if not listed:
        yield Finding("R33", "warn", ("boot",), "The boot order is empty: nothing is booted.", {"boot": None})
    elif all(key in known and known[key].is_empty for key in listed):
        text = "The boot order lists only CD drives without a medium: nothing is booted."
        yield Finding("R33", "warn", ("boot",), text)


def agent(config: VMConfig, facts: NodeFacts) -> Iterator[Finding]:
    """R30: the agent has to be installed in the guest."""
    part = config.get("agent")
    if part and part.value("enabled"):
        text = "Install qemu-guest-agent in the guest; until then Shutdown presses the power button."
        yield Finding("R30", "info", ("agent",), text)


def terminal(config: VMConfig, facts: NodeFacts) -> Iterator[Finding]:
    """R34: a serial display turns the console into a terminal."""
    vga = config.get("vga")
    if vga and (vga.type or "").startswith("serial"):
        text = "The console becomes a text terminal; installers with graphics show nothing."
        fix = {} if vga.type in config else {vga.type: "socket"}
        yield Finding("R34", "info" if not fix else "block", ("vga",), text, fix or None)


def windows_balloon(config: VMConfig, facts: NodeFacts) -> Iterator[Finding]:
    """R14: Windows gives memory back only with a driver."""
    if config.get("balloon") and windows_version(config.get("ostype")):
        text = "Windows gives memory back only after its balloon driver is installed."
        yield Finding("R14", "info", ("balloon",), text)


Rule = Callable[[VMConfig, NodeFacts], Iterator[Finding]]
RULES: tuple[Rule, ...] = (
    windows_11,
    uefi_variables,
    processor,
    cores,
    memory,
    drives,
    space,
    places,
    bridges,
    addresses,
    name,
    boot,
    agent,
    terminal,
    windows_balloon,
)


def _without_mac(net: Net) -> str:
    changed: Any = replace(net, macaddr=None)
    return str(changed.format())


def _first_storage(config: VMConfig) -> str:
    """The storage of the machine's first disk; ``local`` when it has none."""
    for _, _, drive in config.drives():
        if not drive.is_cdrom:
            try:
                return VolumeId.parse(drive.file).storage
            except ValueError:
                continue
    return "local"
