"""Firmware: SeaBIOS, or OVMF with its variables, with or without Secure Boot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vms.schema.option import opt
from vms.schema.propstring import PropertyString
from vms.schema.types import size as size_text
from vms.schema.types import volume


@dataclass(frozen=True, kw_only=True)
class EfiDisk(PropertyString):
    """The small disk that keeps the UEFI variables."""

    file: str = opt(
        "EFI storage",
        required=True,
        short=True,
        aliases=("volume",),
        check=volume,
        max_length=512,
        help="Where the firmware's settings are kept: boot entries and Secure Boot keys.",
        otherwise="Without this disk every start forgets them, and some systems do not boot again.",
        why="No default storage is needed to guess: it goes next to the machine's disks.",
    )
    efitype: Literal["2m", "4m"] | None = opt(
        "EFI type",
        default="2m",
        hidden=True,
        help="The size of the firmware image.",
        otherwise="'2m' is for machines made long ago and knows no Secure Boot.",
        why="New machines are made with '4m', which current firmware needs.",
    )
    pre_enrolled_keys: bool | None = opt(
        "Pre-enroll keys",
        key="pre-enrolled-keys",
        default=False,
        help="Put Microsoft's and the distributions' Secure Boot keys in at creation.",
        otherwise="Off, Secure Boot is off and unsigned systems boot too.",
        why="On in the wizard, because Windows 11 and most Linux installers are signed.",
    )
    ms_cert: Literal["2011", "2023", "2023w", "2023k"] | None = opt(
        "Microsoft certificates",
        key="ms-cert",
        default="2011",
        hidden=True,
        help="Which generation of Microsoft's certificates the variables hold.",
        otherwise="With the 2011 ones alone, media signed after 2026 may be refused.",
        why="Written at creation from what the firmware image holds.",
    )
    image_format: Literal["raw", "qcow2", "vmdk", "qed", "cloop", "cow"] | None = opt(
        "Format",
        key="format",
        help="How the disk is stored.",
        otherwise="raw cannot be part of a snapshot on a directory storage.",
        why="qcow2 where the storage can, raw elsewhere.",
    )
    size: str | None = opt(
        "Size",
        check=size_text,
        hidden=True,
        help="How large the variables are.",
        otherwise="It is given by the firmware and cannot be chosen.",
        why="528K for 4m, 128K for 2m.",
    )


@dataclass(frozen=True, kw_only=True)
class FirmwareOptions:
    """Which firmware, and its variables."""

    bios: Literal["seabios", "ovmf"] | None = opt(
        "BIOS",
        default="seabios",
        labels={"seabios": "SeaBIOS", "ovmf": "OVMF (UEFI)"},
        help="The firmware: SeaBIOS is a classic PC BIOS, OVMF is UEFI.",
        otherwise="An installed system boots only with the kind it was installed under.",
        why="SeaBIOS boots almost everything; Windows 11 and Secure Boot need OVMF.",
    )
    efidisk0: str | None = opt(
        "EFI Disk",
        help="The small disk that keeps the UEFI variables: boot entries and Secure Boot keys.",
        otherwise="Without it every start forgets them, and some systems do not boot again.",
        why="Added together with OVMF.",
    )
