"""The TPM: a key store emulated by swtpm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vms.schema.option import opt
from vms.schema.propstring import PropertyString
from vms.schema.types import size as size_text
from vms.schema.types import volume


@dataclass(frozen=True, kw_only=True)
class TpmState(PropertyString):
    """The small disk that keeps the TPM's secrets."""

    file: str = opt(
        "TPM storage",
        required=True,
        short=True,
        aliases=("volume",),
        check=volume,
        max_length=512,
        help="Where the TPM's secrets are kept, such as disk encryption keys.",
        otherwise="If this disk is lost, an encrypted guest opens only with its recovery key.",
        why="It goes next to the machine's disks.",
    )
    version: Literal["v1.2", "v2.0"] | None = opt(
        "Version",
        default="v1.2",
        help="Which TPM standard the guest sees.",
        otherwise="Windows 11 accepts 2.0 only; it cannot be changed later.",
        why="v2.0 in the wizard, because every current system expects it.",
    )
    image_format: Literal["raw", "qcow2"] | None = opt(
        "Format",
        key="format",
        hidden=True,
        help="How the disk is stored.",
        otherwise="qcow2 only where the storage needs it for snapshots.",
        why="raw by default.",
    )
    size: str | None = opt(
        "Size",
        check=size_text,
        hidden=True,
        help="How large the state is.",
        otherwise="It is always 4 MiB and cannot be chosen.",
        why="4M.",
    )


@dataclass(frozen=True, kw_only=True)
class TpmOptions:
    """The one TPM a machine can have."""

    tpmstate0: str | None = opt(
        "TPM",
        help="A key store inside the machine, which Windows 11 and disk encryption ask for.",
        otherwise="Without it Windows 11 refuses to install.",
        why="Added for Windows 11 only.",
    )
