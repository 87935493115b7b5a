"""Choices only forms make: they end up inside other keys, or in a column of the VM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from vms.forms.hardware import option_at
from vms.hardware.cpu import VM_FLAGS
from vms.schema.option import Option, opt, option_table

_FORMATS = {
    "raw": "Raw disk image (raw)",
    "qcow2": "QEMU image format (qcow2)",
}


@dataclass(frozen=True, kw_only=True)
class Extras:
    """Declared as every option is, so that fields, limits and words follow the same way."""

    node: str | None = opt(
        "Node",
        help="The host this machine will run on.",
        otherwise="Another node has its own storages and bridges.",
        why="The node you came from.",
    )
    vmid: int | None = opt(
        "VM ID",
        minimum=100,
        maximum=999_999_999,
        help="The machine's number, in every list and file name.",
        otherwise="Any free number from 100 on will do; it cannot change later.",
        why="The lowest free one, kept for you while this draft exists.",
    )
    pool: str | None = opt(
        "Resource pool",
        help="A group of machines that rights are given on together.",
        otherwise="In a pool, everybody with rights on the pool gets them on this machine.",
        why="None: only rights on the machine itself count.",
    )
    medium: Literal["iso", "cloud", "cdrom", "none"] | None = opt(
        "Medium",
        labels={
            "iso": "Use CD/DVD disc image file (iso)",
            "cloud": "Use a cloud image, set up by cloud-init",
            "cdrom": "Use physical CD/DVD drive",
            "none": "Do not use any media",
        },
        help="What the machine is made from: a disc to install from, or a ready system on its disk.",
        otherwise="A cloud image boots in seconds, ready to log in. Without media the drive stays empty; "
        "the machine boots from its disk or the network.",
        why="An image file, because most systems are installed from one.",
    )
    iso_storage: str | None = opt(
        "Storage",
        help="Where the image file lies.",
        otherwise="Another storage shows its own files.",
        why="The first storage that holds ISO images.",
    )
    iso: str | None = opt(
        "ISO image",
        help="The installer's image. Upload more on the storage's page.",
        otherwise="The wrong image boots the wrong installer; it can be changed later.",
        why="None: only you know what is to be installed.",
    )
    cloud_image: str | None = opt(
        "Image",
        help="The system the first disk is made from. Upload more on the storage's page.",
        otherwise="An image that does not know cloud-init ignores everything below.",
        why="None: only you know which system it is to be.",
    )
    ostype_group: str | None = opt(
        "Type",
        help="The family of the guest's operating system.",
        otherwise="Hardware is proposed that this family drives without extra drivers.",
        why="Linux, the most common guest.",
    )
    drivers: bool | None = opt(
        "Add additional drive for VirtIO drivers",
        default=False,
        help="A second CD drive with the drivers Windows needs for VirtIO disks and cards.",
        otherwise="Without it Windows sees neither a VirtIO disk nor a VirtIO card while it installs.",
        why="Off: the proposed bus and card work without extra drivers.",
    )
    drivers_iso: str | None = opt(
        "Driver image",
        help="The image with the VirtIO drivers (virtio-win).",
        otherwise="Any other image leaves Windows without the drivers.",
        why="None: it has to be uploaded first.",
    )
    efi: bool | None = opt(
        "Add EFI Disk",
        default=True,
        help="A small disk that keeps the firmware's boot entries and keys.",
        otherwise="Without it every start forgets them, and some systems do not boot again.",
        why="On, because UEFI systems store how they boot there.",
    )
    tpm: bool | None = opt(
        "Add TPM",
        default=False,
        help="A key store inside the machine, for Windows 11 and disk encryption.",
        otherwise="Without it Windows 11 refuses to install.",
        why="On for Windows 11 only, since nothing else insists on it.",
    )
    machine_version: str | None = opt(
        "Version",
        advanced=True,
        help="Which version of the board the guest sees.",
        otherwise="An older version is what a machine from an older node or a copied configuration needs.",
        why="The latest; it is pinned when the machine is created, so that updates never change it.",
    )
    efi_format: Literal["raw", "qcow2"] | None = opt(
        "Format",
        labels=_FORMATS,
        help="How the EFI disk is stored.",
        otherwise="raw cannot be part of a snapshot on a directory.",
        why="qcow2 where the storage can, raw elsewhere.",
    )
    bus: Literal["ide", "sata", "virtio", "scsi"] | None = opt(
        "Bus/Device",
        labels={"ide": "IDE", "sata": "SATA", "virtio": "VirtIO Block", "scsi": "SCSI"},
        help="How the guest sees the disk.",
        otherwise="SCSI and VirtIO are fastest, but Windows needs a driver; IDE and SATA work everywhere.",
        why="What the chosen guest system drives by itself.",
    )
    index: int | None = opt(
        "Device number",
        minimum=0,
        maximum=30,
        help="The disk's place on its bus.",
        otherwise="The guest may name its disks in another order.",
        why="The lowest free place.",
    )
    controller: str | None = opt(
        "SCSI controller",
        help="The card the SCSI disks hang on: one choice for the whole machine.",
        otherwise="'VirtIO SCSI single' gives each disk a thread of its own.",
        why="What the chosen guest system drives best.",
    )
    import_storage: str | None = opt(
        "Import storage",
        help="Where the image lies that this disk is made from.",
        otherwise="Another storage shows its own images.",
        why="The first storage that holds images to import.",
    )
    image: str | None = opt(
        "Select image",
        help="The disk begins as a copy of this image; the image itself stays as it is.",
        otherwise="An image of another system boots that system.",
        why="The first one on the storage.",
    )
    storage: str | None = opt(
        "Storage",
        help="Where the disk is kept on the node.",
        otherwise="Another storage may be faster, larger or able to do snapshots.",
        why="The first one with room for disks.",
    )
    size: float | None = opt(
        "Disk size (GiB)",
        minimum=0.001,
        maximum=131072,
        unit="GiB",
        help="How much the guest can store. It can grow later, but not shrink.",
        otherwise="Too small and the installer stops; a large qcow2 takes room only as it fills.",
        why="32 GiB hold every common server installation.",
    )
    skip_replication: bool | None = opt(
        "Skip replication",
        default=False,
        help="Leave this disk out when the machine is replicated to another node.",
        otherwise="Ticked, the disk is missing on the other node after a failure.",
        why="Off: a copy without its disk is of little use.",
    )
    total: int | None = opt(
        "Total cores",
        help="Sockets times cores: the processors the guest sees.",
        otherwise="More than the node's threads make the guest slower.",
        why="Follows sockets and cores.",
    )
    ballooning: bool | None = opt(
        "Ballooning device",
        default=True,
        help="A device through which the guest can give memory back, and tell how much it uses.",
        otherwise="Off, the memory graph cannot show what the guest really uses.",
        why="On: it costs nothing.",
    )


def _storage_of(key: str) -> Option:
    """Where the volume of ``key`` goes: the words of its file, chosen as a storage."""
    return replace(option_at(f"{key}.file"), check=None, required=False)


EXTRAS: Mapping[str, Option] = {
    **option_table(Extras),
    "efi_storage": _storage_of("efidisk0"),
    "tpm_storage": _storage_of("tpmstate0"),
}
"""Name → declaration of every choice that is no option of the schema."""
FLAG_STATES = (("", "Default"), ("+", "On"), ("-", "Off"))
FLAGS: Mapping[str, Option] = {
    f"flag.{name}": Option(
        name=f"flag.{name}", attr=name, kind="enum", label=name, help=words, choices=FLAG_STATES[1:],
        otherwise="A flag the node's CPU lacks keeps the machine from starting.",
        why="Default: what the CPU type says.", advanced=True,
    )
    for name, words in VM_FLAGS.items()
}  # fmt: skip
"""One three-way choice for each flag a VM may switch."""
REQUIRED = frozenset(
    (
        *("vmid", "node", "medium", "iso", "cloud_image", "image", "drivers_iso", "ostype_group", "ostype"),
        *("efi_storage", "tpm_storage", "bus", "index", "storage", "size"),
        *("sockets", "cores", "memory.current", "model"),
    )
)
"""Names that may not be left empty while they are shown."""
