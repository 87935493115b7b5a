"""Small devices: random numbers, watchdog, sound, shared memory, shared folders, confidential guests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vms.schema.option import opt
from vms.schema.propstring import PropertyString


@dataclass(frozen=True, kw_only=True)
class Rng(PropertyString):
    """A source of random numbers."""

    source: Literal["/dev/urandom", "/dev/random", "/dev/hwrng"] | None = opt(
        "Source",
        short=True,
        help="Where the node takes the random numbers from.",
        otherwise="/dev/random may block; /dev/hwrng needs hardware.",
        why="/dev/urandom never blocks and is good enough for keys.",
    )
    max_bytes: int | None = opt(
        "Limit (Bytes/Period)",
        default=1024,
        minimum=0,
        help="How many bytes the guest may take per period; 0 is unlimited.",
        otherwise="Without a limit a guest can use up the node's entropy.",
        why="1024 bytes per second.",
    )
    period: int | None = opt(
        "Period (ms)",
        default=1000,
        minimum=1,
        unit="ms",
        help="How long a period is.",
        otherwise="A shorter one gives the guest more random numbers.",
        why="One second.",
    )


@dataclass(frozen=True, kw_only=True)
class Watchdog(PropertyString):
    """A timer that acts when the guest stops feeding it."""

    model: Literal["i6300esb", "ib700"] | None = opt(
        "Model",
        short=True,
        default="i6300esb",
        help="The kind of watchdog card the guest sees.",
        otherwise="ib700 is for very old systems.",
        why="i6300esb: every Linux has a driver for it.",
    )
    action: Literal["reset", "shutdown", "poweroff", "pause", "debug", "none"] | None = opt(
        "Action",
        help="What happens when the guest has not answered in time.",
        otherwise="'none' only notes it down; 'poweroff' leaves the guest off.",
        why="QEMU's own by default: reset.",
    )


@dataclass(frozen=True, kw_only=True)
class Audio(PropertyString):
    """A sound card."""

    device: Literal["ich9-intel-hda", "intel-hda", "AC97"] = opt(
        "Audio device",
        required=True,
        help="The kind of sound card the guest sees.",
        otherwise="AC97 is for old systems; Intel HD is what current ones expect.",
        why="No default.",
    )
    driver: Literal["spice", "none"] | None = opt(
        "Backend driver",
        default="spice",
        help="Where the sound goes.",
        otherwise="'none' plays into nothing, but the guest is content.",
        why="SPICE, because only its client plays sound.",
    )


@dataclass(frozen=True, kw_only=True)
class Ivshmem(PropertyString):
    """Memory shared with a program on the node."""

    size: int = opt(
        "Size",
        required=True,
        minimum=1,
        maximum=1048576,
        unit="MB",
        help="How much memory is shared.",
        otherwise="The program on the node has to expect the same size.",
        why="No default.",
    )
    name: str | None = opt(
        "Name",
        pattern=r"[A-Za-z0-9-]{1,64}",
        pattern_text="letters, digits and hyphens",
        help="The name of the shared memory on the node.",
        otherwise="Two machines with the same name share with each other.",
        why="The VM ID by default.",
    )


@dataclass(frozen=True, kw_only=True)
class VirtioFs(PropertyString):
    """A folder of the node inside the guest."""

    dirid: str = opt(
        "Directory ID",
        required=True,
        short=True,
        pattern=r"[A-Za-z][A-Za-z0-9_-]+",
        pattern_text="a mapping's name",
        help="The name the administrator gave to the folder.",
        otherwise="The guest sees nothing of the node without it.",
        why="No default.",
    )
    cache: Literal["auto", "always", "metadata", "never"] | None = opt(
        "Cache",
        default="auto",
        help="How long the guest may keep what it has read.",
        otherwise="'always' is fast, but changes made on the node show late.",
        why="auto.",
    )
    direct_io: bool | None = opt(
        "Direct IO",
        key="direct-io",
        default=False,
        help="Honour the guest's wish to go around caches.",
        otherwise="Off, such wishes are ignored.",
        why="Off by default.",
    )
    expose_acl: bool | None = opt(
        "POSIX ACLs",
        key="expose-acl",
        default=False,
        help="Let the guest see and set access lists.",
        otherwise="Off, it sees plain permissions only.",
        why="Off by default.",
    )
    expose_xattr: bool | None = opt(
        "Extended attributes",
        key="expose-xattr",
        default=False,
        help="Let the guest see and set extended attributes.",
        otherwise="Off, programs that need them fail.",
        why="Off by default.",
    )


@dataclass(frozen=True, kw_only=True)
class AmdSev(PropertyString):
    """Memory encryption by an AMD processor."""

    type: Literal["std", "es", "snp"] = opt(
        "Type",
        required=True,
        short=True,
        help="Which generation of the protection is used.",
        otherwise="A newer one needs a newer processor.",
        why="No default.",
    )
    no_debug: bool | None = opt(
        "No debugging",
        key="no-debug",
        default=False,
        help="The node cannot debug the guest.",
        otherwise="Off, it can.",
        why="Off by default.",
    )
    no_key_sharing: bool | None = opt(
        "No key sharing",
        key="no-key-sharing",
        default=False,
        help="The key is not shared with other guests.",
        otherwise="Off, it may be.",
        why="Off by default.",
    )
    kernel_hashes: bool | None = opt(
        "Kernel hashes",
        key="kernel-hashes",
        default=False,
        help="Put the kernel's hashes into the measurement.",
        otherwise="Off, the kernel is not measured.",
        why="Off by default.",
    )
    allow_smt: bool | None = opt(
        "Allow SMT",
        key="allow-smt",
        default=True,
        help="The guest may run while the sibling thread runs something else.",
        otherwise="Off, it refuses to.",
        why="On by default.",
    )


@dataclass(frozen=True, kw_only=True)
class IntelTdx(PropertyString):
    """Memory encryption by an Intel processor."""

    type: Literal["tdx"] = opt(
        "Type",
        required=True,
        short=True,
        help="Which protection is used.",
        otherwise="Without it the guest's memory is not encrypted.",
        why="No default.",
    )
    attestation: bool | None = opt(
        "Attestation",
        default=True,
        help="Let the guest prove to others that it is protected.",
        otherwise="Off, nobody can check.",
        why="On by default.",
    )
    vsock_cid: int | None = opt(
        "Attestation CID",
        key="vsock-cid",
        default=2,
        minimum=2,
        help="Where the quote service listens.",
        otherwise="The wrong number makes attestation fail.",
        why="2, the node.",
    )
    vsock_port: int | None = opt(
        "Attestation port",
        key="vsock-port",
        default=4050,
        minimum=0,
        help="The quote service's port.",
        otherwise="The wrong number makes attestation fail.",
        why="4050.",
    )


@dataclass(frozen=True, kw_only=True)
class ExtraOptions:
    """The plain keys of the small devices."""

    watchdog: str | None = opt(
        "Watchdog",
        help="A timer that acts when the guest stops feeding it.",
        otherwise="Without it a hung guest hangs until somebody looks.",
        why="None by default; the guest must run a watchdog daemon.",
    )
    rng0: str | None = opt(
        "VirtIO RNG",
        help="A source of random numbers for the guest.",
        otherwise="Without it a fresh guest may wait long for its first keys.",
        why="None by default; current kernels manage without.",
    )
    audio0: str | None = opt(
        "Audio device",
        help="A sound card.",
        otherwise="Without it the guest is silent.",
        why="None by default: servers make no sound.",
    )
    ivshmem: str | None = opt(
        "Shared memory",
        hidden=True,
        help="Memory shared with a program on the node.",
        otherwise="Without it there is none.",
        why="None by default.",
    )
    amd_sev: str | None = opt(
        "AMD SEV",
        key="amd-sev",
        hidden=True,
        help="Encrypt the guest's memory on an AMD processor.",
        otherwise="Without it the node can read the guest's memory.",
        why="None by default; it needs a matching processor.",
    )
    intel_tdx: str | None = opt(
        "Intel TDX",
        key="intel-tdx",
        hidden=True,
        help="Encrypt the guest's memory on an Intel processor.",
        otherwise="Without it the node can read the guest's memory.",
        why="None by default; it needs a matching processor.",
    )
