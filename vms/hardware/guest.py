"""Who the guest is: its name, its operating system, when it starts. Almost nothing here reaches QEMU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vms.schema.option import opt
from vms.schema.propstring import PropertyString
from vms.schema.types import dns_name, tag_list, volume

OS_TYPE = Literal[
    "other", "wxp", "w2k", "w2k3", "w2k8", "wvista", "win7", "win8", "win10", "win11", "l24", "l26", "solaris"
]
LOCK = Literal[
    "backup",
    "clone",
    "create",
    "migrate",
    "rollback",
    "snapshot",
    "snapshot-delete",
    "suspending",
    "suspended",
]
_WINDOWS = {
    "w2k": 5,
    "wxp": 5,
    "w2k3": 5,
    "w2k8": 6,
    "wvista": 6,
    "win7": 7,
    "win8": 8,
    "win10": 10,
    "win11": 11,
}


def windows_version(ostype: str | None) -> int:
    """The Windows generation a guest type means; 0 for everything that is no Windows."""
    return _WINDOWS.get(ostype or "", 0)


def is_linux(ostype: str | None) -> bool:
    """Whether the guest type is a Linux one."""
    return ostype in ("l24", "l26")


@dataclass(frozen=True, kw_only=True)
class Startup(PropertyString):
    """When this guest takes its turn as the node starts and stops its guests."""

    order: int | None = opt(
        "Start/Shutdown order",
        short=True,
        minimum=0,
        placeholder="any",
        advanced=True,
        help="The guest's place in the queue when the node boots; low numbers start first and stop last.",
        otherwise="Without a number it starts after all numbered guests, in order of VM ID.",
        why="Empty by default, because most guests do not depend on each other.",
    )
    up: int | None = opt(
        "Startup delay",
        minimum=0,
        unit="s",
        placeholder="default",
        advanced=True,
        help="How many seconds the node waits after starting this guest before it starts the next one.",
        otherwise="Too short, and a guest that needs this one may come up before it answers.",
        why="Empty by default: the next guest starts at once.",
    )
    down: int | None = opt(
        "Shutdown timeout",
        minimum=0,
        unit="s",
        placeholder="default",
        advanced=True,
        help="How long the node waits for a clean shutdown of this guest before it cuts the power.",
        otherwise="Too short, and a database is cut off in the middle of closing its files.",
        why="Empty by default, which means three minutes.",
    )


@dataclass(frozen=True, kw_only=True)
class Meta(PropertyString):
    """Facts written once at creation, never edited."""

    creation_qemu: str | None = opt(
        "Created with QEMU",
        key="creation-qemu",
        pattern=r"[0-9]+(\.[0-9]+){1,2}",
        pattern_text="a QEMU version like 9.2.0",
        hidden=True,
        help="The QEMU version that was installed when the machine was created.",
        otherwise="Without it an old Windows guest is given a very old machine version, to be safe.",
        why="Written by the server so that later versions know what the guest is used to.",
    )
    ctime: int | None = opt(
        "Created at",
        minimum=0,
        hidden=True,
        help="When the machine was created, in seconds since 1970.",
        otherwise="Without it the age of the machine is unknown.",
        why="Written by the server at creation.",
    )


@dataclass(frozen=True, kw_only=True)
class GuestOptions:
    """The plain options that say who the guest is."""

    name: str | None = opt(
        "Name",
        check=dns_name,
        max_length=253,
        placeholder="vm-<id>",
        help="A name for the list, the window title and the guest's DHCP request.",
        otherwise="Without a name it is shown as 'VM' and its number.",
        why="No default: you know best what the machine is for. It is a host name, so no blanks or '_'.",
    )
    description: str | None = opt(
        "Notes",
        max_length=8192,
        help="Free text about this machine, shown on its summary page as Markdown.",
        otherwise="Empty notes are fine; nothing depends on them.",
        why="Empty by default.",
    )
    tags: str | None = opt(
        "Tags",
        check=tag_list,
        max_length=1024,
        advanced=True,
        help="Words to group and find machines by, such as 'web' or 'prod'.",
        otherwise="Without tags the machine is found by its name and number only.",
        why="None by default; letters, digits and _ + . - are allowed in a tag.",
    )
    onboot: bool | None = opt(
        "Start at boot",
        default=False,
        advanced=True,
        help="Start this machine by itself when the node has booted.",
        otherwise="Off, it stays down after a power cut until somebody starts it.",
        why="Off by default, so that a machine under test does not come back by surprise.",
    )
    startup: str | None = opt(
        "Start/Shutdown order",
        advanced=True,
        help="The machine's place in the queue when the node starts and stops guests, with waiting times.",
        otherwise="Without it the machine starts after all numbered ones.",
        why="Empty by default, because most machines do not depend on each other.",
    )
    ostype: OS_TYPE | None = opt(
        "Guest OS",
        default="other",
        labels={
            "other": "Other",
            "l26": "Linux 7.x - 2.6 Kernel",
            "l24": "Linux 2.4 Kernel",
            "win11": "Windows 11/2022/2025",
            "win10": "Windows 10/2016/2019",
            "win8": "Windows 8.x/2012/2012r2",
            "win7": "Windows 7/2008r2",
            "w2k8": "Windows Vista/2008",
            "wvista": "Windows Vista",
            "wxp": "Windows XP/2003",
            "w2k3": "Windows 2003",
            "w2k": "Windows 2000",
            "solaris": "Solaris Kernel",
        },
        help="The system you are going to install. It sets clock, CPU hints and the defaults of later tabs.",
        otherwise="A wrong type still boots, but may run slowly, drift in time or miss drivers for its disk.",
        why="Linux is preselected in the wizard, because it is what most machines run.",
    )
    protection: bool | None = opt(
        "Protection",
        default=False,
        help="Refuse to destroy this machine or to remove its disks.",
        otherwise="Off, anybody with the right to do so can remove it.",
        why="Off by default, so that experiments can be thrown away.",
    )
    template: bool | None = opt(
        "Template",
        default=False,
        hidden=True,
        help="This machine is a frozen pattern for clones; it cannot be started.",
        otherwise="Off, it is an ordinary machine.",
        why="Set by 'Convert to template' only.",
    )
    lock: LOCK | None = opt(
        "Lock",
        hidden=True,
        help="The long operation that holds this machine right now.",
        otherwise="Empty means that nothing holds it.",
        why="Set and removed by the operations themselves.",
    )
    autostart: bool | None = opt(
        "Autostart",
        default=False,
        hidden=True,
        help="An old name that is read and has no effect; 'Start at boot' took its place.",
        otherwise="It changes nothing.",
        why="Kept so that old files can be read.",
    )
    meta: str | None = opt(
        "Creation facts",
        hidden=True,
        help="The QEMU version and the time at which this machine was created.",
        otherwise="Without them old defaults are assumed for Windows guests.",
        why="Written once by the server.",
    )
    hookscript: str | None = opt(
        "Hook script",
        check=volume,
        hidden=True,
        max_length=512,
        help="A script on a snippet storage that the node runs before and after start and stop.",
        otherwise="Without it nothing extra runs.",
        why="None by default; only root may set it, since it runs on the node.",
    )
    args: str | None = opt(
        "Extra arguments",
        hidden=True,
        max_length=8192,
        help="Words given to QEMU as they are, after everything else.",
        otherwise="Without it the machine is exactly what the other options say.",
        why="None by default; only root may set it, and a wrong word keeps the machine from starting.",
    )
