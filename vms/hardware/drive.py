"""Disks and CD drives on the four buses: their options."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from vms.errors import ConfigError
from vms.hardware.limits import Limits
from vms.schema.option import opt
from vms.schema.propstring import PropertyString
from vms.schema.types import size as size_text
from vms.schema.types import url_encoded, volume

_CLOUDINIT = re.compile(r"(^|[:/])(vm-\d+-)?cloudinit(\.\w+)?$")


@dataclass(frozen=True, kw_only=True)
class Unused(PropertyString):
    """A volume that belongs to the machine but is plugged in nowhere."""

    file: str = opt(
        "Volume",
        required=True,
        short=True,
        aliases=("volume",),
        check=volume,
        max_length=512,
        hidden=True,
        help="A disk of this machine that is not plugged in.",
        otherwise="It keeps its data and its space until it is removed.",
        why="Written when a disk is detached.",
    )


@dataclass(frozen=True, kw_only=True)
class Drive(Limits):
    """What every bus has in common."""

    ignored: ClassVar[frozenset[str]] = frozenset({"cyls", "heads", "secs", "trans"})
    bus: ClassVar[str] = ""

    file: str = opt(
        "Storage",
        required=True,
        short=True,
        aliases=("volume",),
        check=volume,
        max_length=512,
        help="The volume behind this drive, or 'none' for a drive without a medium.",
        otherwise="Storages differ in speed, in whether they can make snapshots and in who can reach them.",
        why="The first storage that takes disks.",
    )
    media: Literal["disk", "cdrom"] | None = opt(
        "Media",
        default="disk",
        labels={"disk": "Hard disk", "cdrom": "CD/DVD drive"},
        help="Whether the guest sees a hard disk or a CD drive.",
        otherwise="A CD drive can only be read, and its medium can be changed while the guest runs.",
        why="A hard disk, unless it holds an ISO image.",
    )
    size: str | None = opt(
        "Disk size",
        check=size_text,
        help="How large the disk is. Thin storages take up only what the guest has written.",
        otherwise="It can be made larger later, never smaller.",
        why="32 GiB holds a current system with room for data.",
    )
    image_format: Literal["raw", "qcow2", "vmdk", "qed", "cow", "cloop"] | None = opt(
        "Format",
        key="format",
        labels={
            "raw": "Raw disk image (raw)",
            "qcow2": "QEMU image format (qcow2)",
            "vmdk": "VMware image format (vmdk)",
        },
        help="How the disk is stored in its file.",
        otherwise="raw is a little faster, but a directory storage cannot make snapshots of it.",
        why="qcow2 where the storage can, because snapshots are worth more than the small loss of speed.",
    )
    import_from: str | None = opt(
        "Import from",
        key="import-from",
        check=volume,
        max_length=512,
        hidden=True,
        help="The image a new disk is made from; only together with a size of 0.",
        otherwise="Without it a new disk is empty.",
        why="Empty by default.",
    )
    cache: Literal["none", "writethrough", "writeback", "unsafe", "directsync"] | None = opt(
        "Cache",
        default="none",
        labels={
            "none": "No cache",
            "directsync": "Direct sync",
            "writethrough": "Write through",
            "writeback": "Write back",
            "unsafe": "Write back (unsafe)",
        },
        help="Whether the node's memory stands between the guest and the disk.",
        otherwise="Write back is faster, but a power cut can lose what the node had not written yet; "
        "unsafe loses data for certain.",
        why="No cache: safe when the power fails, and no memory is used twice.",
    )
    aio: Literal["native", "threads", "io_uring"] | None = opt(
        "Async IO",
        labels={"io_uring": "io_uring", "native": "native", "threads": "threads"},
        advanced=True,
        help="How QEMU hands reads and writes to the kernel.",
        otherwise="'native' works only without a cache; 'threads' works everywhere and is slower.",
        why="io_uring, the fastest on current kernels.",
    )
    discard: Literal["ignore", "on"] | None = opt(
        "Discard",
        default="ignore",
        labels={"ignore": "Off", "on": "On"},
        help="Pass on what the guest deletes, so that the storage gets the space back.",
        otherwise="Off, an image only ever grows.",
        why="Off unless ticked, as people expect it; tick it on thin storages and SSDs.",
    )
    detect_zeroes: bool | None = opt(
        "Detect zeroes",
        default=True,
        advanced=True,
        help="Do not store blocks full of zeroes.",
        otherwise="Off saves a little CPU time and may waste space.",
        why="On by default; looking costs almost nothing.",
    )
    backup: bool | None = opt(
        "Backup",
        default=True,
        advanced=True,
        help="Include this disk in backups of the machine.",
        otherwise="Off, a restore brings the machine back without this disk's data.",
        why="On by default; leave out only what can be made again.",
    )
    replicate: bool | None = opt(
        "Replicate",
        default=True,
        advanced=True,
        help="Include this disk when the machine is replicated to another node.",
        otherwise="Off, the other node has no copy of it.",
        why="On by default.",
    )
    shared: bool | None = opt(
        "Shared",
        default=False,
        advanced=True,
        help="This volume can be reached from every node under the same name.",
        otherwise="Said wrongly, a migrated guest does not find its disk.",
        why="Off by default; shared storages say so themselves.",
    )
    snapshot: bool | None = opt(
        "Temporary writes",
        default=False,
        advanced=True,
        help="Throw away everything that was written when the guest stops.",
        otherwise="Off, writes stay, as on any disk.",
        why="Off by default; new machine versions do not support it.",
    )
    rerror: Literal["ignore", "report", "stop"] | None = opt(
        "On read error",
        advanced=True,
        help="What happens when the storage cannot read a block.",
        otherwise="'ignore' hands rubbish to the guest; 'stop' halts it until the storage is back.",
        why="The error is reported to the guest by default.",
    )
    werror: Literal["enospc", "ignore", "report", "stop"] | None = opt(
        "On write error",
        advanced=True,
        help="What happens when the storage cannot write a block.",
        otherwise="'ignore' loses data silently; 'report' lets the guest remount its disk read-only.",
        why="By default the guest is halted only when the storage is full.",
    )
    serial: str | None = opt(
        "Serial",
        check=url_encoded(20),
        max_length=60,
        advanced=True,
        help="The serial number the guest reads from the disk.",
        otherwise="Without it the guest tells disks apart by their place only.",
        why="Empty by default.",
    )

    @property
    def is_cdrom(self) -> bool:
        """Whether the guest sees a CD drive."""
        return self.media == "cdrom"

    @property
    def is_cloudinit(self) -> bool:
        """Whether this is the drive that carries cloud-init's settings (told by its name)."""
        return self.is_cdrom and bool(_CLOUDINIT.search(self.file))

    @property
    def is_empty(self) -> bool:
        """Whether there is no medium in the drive."""
        return self.file == "none"

    def check_parts(self, key: str) -> None:
        """Rules between the options of one drive. Raises :class:`ConfigError`."""
        if self.is_cdrom and (self.snapshot or self.image_format):
            raise ConfigError(key, "a CD drive takes neither 'format' nor 'snapshot'", part="media")
        self.check_limits(key)
