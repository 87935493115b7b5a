"""Firmware, identity, clock, power states and the ``-machine`` string."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping

from vms.errors import ConfigError
from vms.hardware.block import Graph
from vms.hardware.cpumodel import base_model, is_32bit
from vms.hardware.firmware import EfiDisk
from vms.hardware.machine import Smbios1
from vms.hardware.parts import Blockdev, Chardev, Device, Flag, Part, escaped
from vms.hardware.plan import Plan
from vms.schema.option import CONTROL, options_of

_PEER_FIRMWARE = "/usr/share/pve-edk2-firmware"
OVMF_FILES = {
    "code-2m": f"{_PEER_FIRMWARE}/OVMF_CODE.fd",
    "vars-2m": f"{_PEER_FIRMWARE}/OVMF_VARS.fd",
    "code-4m": f"{_PEER_FIRMWARE}/OVMF_CODE_4M.fd",
    "code-4m-secboot": f"{_PEER_FIRMWARE}/OVMF_CODE_4M.secboot.fd",
    "vars-4m": f"{_PEER_FIRMWARE}/OVMF_VARS_4M.fd",
    "vars-4m-ms": f"{_PEER_FIRMWARE}/OVMF_VARS_4M.ms.fd",
}
"""Where the peer keeps its firmware; a node's own facts (``ovmf``) win."""


def identity(plan: Plan) -> Iterator[Part]:
    """``-smbios``: keys sorted, empty texts left out, base64 undone."""
    smbios: Smbios1 | None = plan.config.get("smbios1")
    if smbios is None:
        return
    words = []
    for option in sorted(options_of(Smbios1), key=lambda item: item.name):
        text = getattr(smbios, option.attr)
        if option.name == "base64" or not text:
            continue
        if smbios.base64 and option.name != "uuid":
            text = _decoded(option.name, text)
        words.append(f"{option.name}={escaped(text)}")
    if words:
        yield Flag("smbios1", "-smbios", ",".join(["type=1", *words]))


def _decoded(name: str, text: str) -> str:
    try:
        plain = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        raise ConfigError("smbios1", "is marked as base64 but is not", part=name) from None
    if CONTROL.search(plain):
        raise ConfigError("smbios1", "holds a control character, remove it", part=name)
    return plain


def firmware_files(config_efi: EfiDisk | None, q35: bool, ovmf: Mapping[str, str]) -> tuple[str, str]:
    """The code file and the template of the variables that belong together.

    ``ovmf`` are the node's firmware files by name (see ``NodeFacts``). A storage driver fills a new
    ``efidisk0`` from the second.
    """
    files = {**OVMF_FILES, **{name: path for name, path in ovmf.items() if path}}
    if config_efi is None or config_efi.value("efitype") == "2m":
        return files["code-2m"], files["vars-2m"]
    code = files["code-4m-secboot"] if q35 else files["code-4m"]
    return code, files["vars-4m-ms"] if config_efi.pre_enrolled_keys else files["vars-4m"]


def firmware(plan: Plan) -> Iterator[Part]:
    """OVMF's code and variables as flash chips; SeaBIOS is built in and needs nothing."""
    if not plan.ovmf:
        return
    if is_32bit(base_model(plan)):
        raise ConfigError("bios", "OVMF (UEFI) BIOS is not supported on 32-bit CPU types")
    efi: EfiDisk | None = plan.config.get("efidisk0")
    code, _ = firmware_files(efi, plan.q35, plan.facts.ovmf)
    chip = {"driver": "file", "filename": code}
    yield Blockdev("bios", {"driver": "raw", "node-name": "pflash0", "read-only": True, "file": chip})
    if plan.q35 and plan.facts.ovmf and efi is not None and efi.efitype == "4m":
        # Only code in system management mode may write the variables, or Secure Boot protects nothing.
        yield Flag("efidisk0", "-global", "driver=cfi.pflash01,property=secure,value=on")
    yield from Graph(plan).efi_variables(efi)


def fixups(plan: Plan) -> Iterator[Part]:
    """Old Linux guests on an unversioned q35 keep the PCI hot-plug they were installed with."""
    meta = plan.config.get("meta")
    made = tuple(int(n) for n in meta.creation_qemu.split(".")[:2]) if meta and meta.creation_qemu else (0, 0)
    if plan.q35 and not plan.pinned and plan.linux and made < (6, 1) and plan.qemu_at_least(6, 1):
        yield Flag("machine", "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")


def timer_flags(plan: Plan) -> Iterator[Part]:
    """How lost clock ticks are treated."""
    if plan.windows >= 6 and plan.facts.kvm and not plan.template:
        yield Flag("ostype", "-global", "kvm-pit.lost_tick_policy=discard")


def power_states(plan: Plan) -> Iterator[Part]:
    """Suspend to RAM and to disk are off on new machines, unless asked for."""
    if not plan.machine_at_least(9, 2, 1) and not (plan.facts.blockdev and not plan.pinned):
        return
    chip = "ICH9-LPC" if plan.q35 else "PIIX4_PM"
    for name, wanted in (("s3", plan.board.enable_s3), ("s4", plan.board.enable_s4)):
        if not wanted:
            yield Flag("machine", "-global", f"{chip}.disable_{name}=1")


def clock(plan: Plan) -> Iterator[Part]:
    """``-rtc``, when something about the clock is not QEMU's own default."""
    config, words, key = plan.config, [], "ostype"
    if config.get("tdf") or (plan.windows >= 5 and config.value("acpi") and config.get("tdf") is None):
        words.append("driftfix=slew")
        key = "tdf" if config.get("tdf") else key
    date = config.value("startdate")
    if date != "now":
        words.append(f"base={date}")
        key = "startdate"
    elif config.get("localtime") or (plan.windows >= 5 and config.get("localtime") is None):
        words.append("base=localtime")
        key = "localtime" if config.get("localtime") else key
    if words:
        yield Flag(key, "-rtc", ",".join(words))


def tpm(plan: Plan) -> Iterator[Part]:
    """The TPM; its state is kept by a helper that must be running before QEMU."""
    if plan.config.get("tpmstate0") is None:
        return
    yield Chardev("tpmstate0", "socket", {"id": "tpmchar", "path": plan.ctx.paths.tpm})
    yield Flag("tpmstate0", "-tpmdev", "emulator,id=tpmdev,chardev=tpmchar")
    yield Device("tpmstate0", "tpm-tis", {"id": "tpm0", "tpmdev": "tpmdev"})


def generation_id(plan: Plan) -> Iterator[Part]:
    """The number that changes when a machine was copied."""
    text = plan.config.get("vmgenid")
    if text and text not in ("0", "1"):
        yield Device("vmgenid", "vmgenid", {"id": "vmgenid0", "guid": text})


def machine(plan: Plan) -> Iterator[Part]:
    """``-machine``: firmware chips, timers, accelerator, type."""
    config, words = plan.config, []
    if plan.ovmf:
        words += ["pflash0=pflash0", "pflash1=drive-efidisk0"]
    if config.value("acpi") is False:
        words.append("acpi=off")
    if plan.windows >= 6 or (plan.ostype == "l26" and plan.machine_at_least(10, 1)):
        words.append("hpet=off")
    words.append("accel=kvm" if plan.kvm else "accel=tcg")
    if not plan.ovmf and plan.display.startswith(("serial", "none")):
        words.append("smm=off")
    words.append(f"type={plan.machine_type}")
    if plan.board.viommu == "intel":
        words.append("kernel-irqchip=split")
    if config.value("allow-ksm") is False:
        words.append("mem-merge=off")
    if any(True for _ in config.slots("virtiofs")) and not config.value("numa"):
        words.append("memory-backend=virtiofs-mem")
    yield Flag("machine", "-machine", ",".join(words))
