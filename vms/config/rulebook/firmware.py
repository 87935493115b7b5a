"""Firmware: what Windows 11 insists on, UEFI's variables, Secure Boot, booting from the network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from vms.config.finding import Case, Finding, is_new
from vms.hardware.boot import boot_indexes
from vms.hardware.machine import Machine

_UNSIGNED = re.compile(
    r"memtest|arch(linux|boot)?[-_.0-9]|alpine|nixos|void-|gentoo|slackware|freebsd|openbsd|netbsd|dragonfly"
    r"|haiku|reactos|freedos|plan9|guix|netboot\.xyz|ipxe",
    re.IGNORECASE,
)
"""Names of images that are published without a signature Microsoft's keys would accept."""


def windows_11(case: Case) -> Iterator[Finding]:
    """R1: Windows 11 and Server 2025 need a TPM 2.0, UEFI and q35."""
    config = case.config
    if config.get("ostype") != "win11":
        return
    storage = case.first_storage()
    fix: dict[str, str | None] = {}
    board: Machine = config.part("machine", Machine)
    if not case.q35:
        kind = "q35" if case.board == "pc" else case.board.replace("i440fx", "q35")
        fix["machine"] = replace(board, type=re.sub(r"^pc-(?=\d)", "pc-q35-", kind)).format()
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


def variables(case: Case) -> Iterator[Finding]:
    """R5: UEFI without a disk for its variables forgets its settings."""
    config = case.config
    if config.value("bios") == "ovmf" and config.get("efidisk0") is None and config.get("ostype") != "win11":
        storage = case.first_storage()
        fix = {"efidisk0": f"{storage}:1,efitype=4m,pre-enrolled-keys=1"}
        text = (
            "UEFI has no disk for its variables; boot entries and keys would be lost at every stop. "
            f"The disk would lie on '{storage}'."
        )
        yield Finding("R5", "block", ("efidisk0", "bios"), text, fix)


def unsigned_image(case: Case) -> Iterator[Finding]:
    """R6: Secure Boot refuses what nobody signed, and protects nothing without its own firmware."""
    efi = case.config.get("efidisk0")
    if case.config.value("bios") != "ovmf" or efi is None or not efi.pre_enrolled_keys:
        return
    ovmf = case.facts.ovmf
    if ovmf and case.q35 and "code-4m-secboot" not in ovmf:
        yield from _without_keys(case, "This node's UEFI has no Secure Boot, the keys would do nothing.")
    for key, drive in case.discs():
        name = drive.file.rpartition("/")[2]
        if _UNSIGNED.search(name):
            yield from _without_keys(case, f"{key}: '{name}' is not signed, Secure Boot will not start it.")


def _without_keys(case: Case, text: str) -> Iterator[Finding]:
    efi = case.config.get("efidisk0")
    # The keys are put in when the disk is made; one that exists keeps what it has.
    new = {"efidisk0": replace(efi, pre_enrolled_keys=False).format()} if is_new(efi) else None
    yield Finding("R6", "warn", ("efidisk0",), text, new)


def network_boot(case: Case) -> Iterator[Finding]:
    """R7: UEFI boots from a network only with a source of random numbers. It is about to when nothing that
    could boot comes before the first card: an empty drive and a disk still to be made cannot."""
    config = case.config
    if config.value("bios") != "ovmf" or config.get("rng0") is not None:
        return
    hollow = {
        key
        for key, _, drive in config.drives()
        if drive.is_empty or (is_new(drive) and not drive.import_from)
    }
    order = boot_indexes(config)
    first = next((key for key in sorted(order, key=lambda key: order[key]) if key not in hollow), "")
    if first.startswith("net"):
        text = "UEFI boots from the network only when the machine has a source of random numbers."
        yield Finding("R7", "info", ("rng0", "boot"), text, {"rng0": "source=/dev/urandom"})
