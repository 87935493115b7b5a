"""What a cloud image reads at its first boot, and where a machine keeps and moves its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vms.errors import ConfigError
from vms.schema.option import opt, shown
from vms.schema.propstring import PropertyString
from vms.schema.types import ip_or, url_encoded, volume


def snippet(text: str) -> str:
    """A volume with a snippet in it."""
    if ":" not in text or text.startswith("/"):
        raise ValueError(f"'{shown(text)}' is not a snippet; write storage:snippets/name")
    return volume(text)


@dataclass(frozen=True, kw_only=True)
class IpConfig(PropertyString):
    """The addresses of one network card."""

    ip: str | None = opt(
        "IPv4",
        check=ip_or("dhcp", version=4, prefix=True),
        max_length=32,
        help="The card's IPv4 address with its prefix, or 'dhcp'.",
        otherwise="A wrong address makes the guest unreachable.",
        why="Empty by default.",
    )
    gw: str | None = opt(
        "Gateway (IPv4)",
        check=ip_or(version=4, prefix=False),
        max_length=32,
        help="The router to the rest of the world.",
        otherwise="Without it the guest reaches its own network only.",
        why="Empty by default.",
    )
    ip6: str | None = opt(
        "IPv6",
        check=ip_or("auto", "dhcp", version=6, prefix=True),
        max_length=64,
        help="The card's IPv6 address with its prefix, 'auto' or 'dhcp'.",
        otherwise="A wrong address makes the guest unreachable.",
        why="Empty by default.",
    )
    gw6: str | None = opt(
        "Gateway (IPv6)",
        check=ip_or(version=6, prefix=False),
        max_length=64,
        help="The router to the rest of the world.",
        otherwise="Without it the guest reaches its own network only.",
        why="Empty by default.",
    )

    def check_parts(self, key: str) -> None:
        if self.gw and not self.ip:
            raise ConfigError(key, "a gateway needs an address, set 'ip' too", part="gw")
        if self.gw6 and not self.ip6:
            raise ConfigError(key, "a gateway needs an address, set 'ip6' too", part="gw6")


def _snippet(label: str, what: str) -> str | None:
    found: str | None = opt(
        label,
        check=snippet,
        max_length=512,
        help=f"A file that replaces the {what}.",
        otherwise="The fields of this page no longer apply to that part.",
        why="Empty by default.",
    )
    return found


@dataclass(frozen=True, kw_only=True)
class CiCustom(PropertyString):
    """Files that replace what the server would write."""

    meta: str | None = _snippet("Meta data", "meta data")
    network: str | None = _snippet("Network data", "network settings")
    user: str | None = _snippet("User data", "user settings")
    vendor: str | None = _snippet("Vendor data", "vendor settings")


@dataclass(frozen=True, kw_only=True)
class CloudInitOptions:
    """The plain cloud-init options."""

    citype: Literal["configdrive2", "nocloud", "opennebula"] | None = opt(
        "Type",
        hidden=True,
        help="The form in which the settings are handed over.",
        otherwise="The guest must know the form, or it ignores the settings.",
        why="nocloud for Linux, configdrive2 for Windows.",
    )
    ciuser: str | None = opt(
        "User",
        pattern=r"[^,:\s/]{1,64}",
        pattern_text="a user name without blanks",
        help="The user that gets the password and the keys.",
        otherwise="Empty means the image's own default user.",
        why="Empty by default.",
    )
    cipassword: str | None = opt(
        "Password",
        max_length=1024,
        help="The user's password, kept as a hash.",
        otherwise="Without it the user logs in with a key only.",
        why="Empty by default, because keys are safer.",
    )
    ciupgrade: bool | None = opt(
        "Upgrade packages",
        default=True,
        help="Bring the guest up to date at its first boot.",
        otherwise="Off, it boots faster with old packages.",
        why="On by default.",
    )
    sshkeys: str | None = opt(
        "SSH public key",
        check=url_encoded(65536, lines=True),
        max_length=200000,
        help="Keys that may log in, one a line.",
        otherwise="Without a key only the password works.",
        why="Empty by default.",
    )
    searchdomain: str | None = opt(
        "DNS domain",
        pattern=r"[A-Za-z0-9._ -]{1,253}",
        pattern_text="a domain name",
        help="The domain the guest adds to short names.",
        otherwise="Without it the node's is used.",
        why="The node's by default.",
    )
    nameserver: str | None = opt(
        "DNS servers",
        pattern=r"[0-9a-fA-F.:;, ]{2,253}",
        pattern_text="addresses separated by blanks",
        help="The servers that turn names into addresses.",
        otherwise="Without it the node's are used.",
        why="The node's by default.",
    )
    cicustom: str | None = opt(
        "Custom files",
        hidden=True,
        help="Files that replace what the server would write.",
        otherwise="The fields of this page no longer apply to those parts.",
        why="None by default.",
    )


_VOLUME_TEXT = "a name of letters, digits, _ . + and -"


@dataclass(frozen=True, kw_only=True)
class StateOptions:
    """Where state goes, how it moves, and what only snapshots hold."""

    vmstatestorage: str | None = opt(
        "VM State storage",
        pattern=r"[A-Za-z][A-Za-z0-9._-]*",
        pattern_text="a storage name",
        max_length=100,
        help="Where memory is saved for snapshots and hibernation.",
        otherwise="A slow storage makes both slow.",
        why="Chosen by itself by default.",
    )
    migrate_speed: int | None = opt(
        "Migration speed",
        default=0,
        minimum=0,
        unit="MB/s",
        hidden=True,
        help="The most a migration may send; 0 is unlimited.",
        otherwise="Too slow, and a busy guest never finishes moving.",
        why="Unlimited by default.",
    )
    migrate_downtime: float | None = opt(
        "Migration downtime",
        default=0.1,
        minimum=0,
        unit="s",
        hidden=True,
        help="How long the guest may stand still at the end of a migration.",
        otherwise="Longer finishes sooner, but clients notice.",
        why="A tenth of a second.",
    )
    vmstate: str | None = opt(
        "Saved memory",
        check=volume,
        max_length=512,
        hidden=True,
        help="The volume with the memory of a snapshot or of a hibernated guest.",
        otherwise="Without it the guest boots afresh.",
        why="Written by snapshot and hibernate.",
    )
    parent: str | None = opt(
        "Parent snapshot",
        pattern=r"[A-Za-z][A-Za-z0-9_-]{1,39}",
        pattern_text="a snapshot name",
        hidden=True,
        help="The snapshot the current state comes from.",
        otherwise="Empty means there is none.",
        why="Written by snapshot and rollback.",
    )
    snaptime: int | None = opt(
        "Snapshot time",
        minimum=0,
        hidden=True,
        help="When the snapshot was made, in seconds since 1970.",
        otherwise="Only snapshots have it.",
        why="Written by snapshot.",
    )
    snapstate: Literal["prepare", "delete"] | None = opt(
        "Snapshot state",
        hidden=True,
        help="What an unfinished snapshot job was doing.",
        otherwise="Only unfinished snapshots have it.",
        why="Written by snapshot.",
    )
    runningmachine: str | None = opt(
        "Running machine",
        pattern=r"[A-Za-z0-9._+-]{1,64}",
        pattern_text=_VOLUME_TEXT,
        hidden=True,
        help="The machine type that ran when memory was saved.",
        otherwise="Another one could not read that memory.",
        why="Written by snapshot and hibernate.",
    )
    runningcpu: str | None = opt(
        "Running CPU",
        max_length=1024,
        hidden=True,
        help="The CPU that ran when memory was saved.",
        otherwise="Another one could not read that memory.",
        why="Written by snapshot and hibernate.",
    )
    running_nets_host_mtu: str | None = opt(
        "Running MTUs",
        key="running-nets-host-mtu",
        pattern=r"(net\d+=\d+)?(,net\d+=\d+)*",
        pattern_text="net0=1500,…",
        max_length=512,
        hidden=True,
        help="The packet sizes the cards had when memory was saved.",
        otherwise="Other sizes could not read that memory.",
        why="Written by snapshot and hibernate.",
    )
