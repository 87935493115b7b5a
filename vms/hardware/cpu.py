"""The processor: how many, which model, which flags."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from vms.schema.option import opt, options_of, shown
from vms.schema.propstring import PropertyString
from vms.schema.types import cpu_set

VM_FLAGS: dict[str, str] = {
    "nested-virt": "Let the guest run virtual machines itself (svm on AMD, vmx on Intel).",
    "md-clear": "Tell the guest that the CPU can clear its buffers against MDS attacks (Intel).",
    "pcid": "Make the guest's Meltdown protection cheaper on older Intel models.",
    "spec-ctrl": "Give the guest a better Spectre protection (Intel).",
    "ssbd": "Protection against speculative store bypass (Intel).",
    "ibpb": "Give the guest a better Spectre protection (AMD).",
    "virt-ssbd": "Basic protection against speculative store bypass (AMD).",
    "amd-ssbd": "Faster protection against speculative store bypass (AMD).",
    "amd-no-ssb": "Tell the guest that this CPU needs no such protection (AMD).",
    "pdpe1gb": "Let the guest use memory pages of 1 GiB.",
    "hv-tlbflush": "Quicker memory bookkeeping for Windows guests on a crowded node.",
    "hv-evmcs": "Quicker nested Hyper-V on Intel.",
    "aes": "AES instructions, which make encryption several times faster.",
}
"""Flags a VM may switch, with what they do."""


def cpu_flags(text: str) -> str:
    """A list like ``+aes;-pcid`` of flags a VM may switch."""
    for flag in text.split(";"):
        if not re.fullmatch(r"[+-][a-z0-9.-]+", flag):
            raise ValueError(f"'{shown(flag)}' is not a flag; write +name or -name, separated by ';'")
        if flag[1:] not in VM_FLAGS:
            raise ValueError(f"'{shown(flag[1:])}' may not be switched; known are {', '.join(VM_FLAGS)}")
    return text


def any_flags(text: str) -> str:
    """A list like ``+avx;-pcid`` of any flags, as an administrator's model may have."""
    for flag in text.split(";"):
        if not re.fullmatch(r"[+-][a-zA-Z0-9._-]{1,40}", flag):
            raise ValueError(f"'{shown(flag)}' is not a flag; write +name or -name, separated by ';'")
    return text


def phys_bits(text: str) -> str:
    """``host`` or a number of address bits from 8 to 64."""
    if text != "host" and not (text.isascii() and text.isdigit() and 8 <= int(text[:4]) <= 64):
        raise ValueError(f"'{shown(text)}' is neither 'host' nor a number from 8 to 64")
    return text


@dataclass(frozen=True, kw_only=True)
class Cpu(PropertyString):
    """The processor model the guest sees."""

    cputype: str | None = opt(
        "Type",
        short=True,
        default="kvm64",
        pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
        pattern_text="a CPU model name",
        placeholder="x86-64-v2-AES",
        help="The processor model shown to the guest. Newer models offer more instructions.",
        otherwise="A model newer than the node's CPU does not start; an old one makes programs slower.",
        why="x86-64-v2-AES runs on every server since about 2010 and is what current Linux systems ask for.",
    )
    flags: str | None = opt(
        "Extra CPU Flags",
        check=cpu_flags,
        max_length=512,
        advanced=True,
        help="Single processor features to add to or take from the model.",
        otherwise="A flag the node's CPU lacks keeps the machine from starting.",
        why="None by default; the model already carries a set that fits together.",
    )
    hidden_kvm: bool | None = opt(
        "Hide KVM",
        key="hidden",
        default=False,
        advanced=True,
        help="Do not tell the guest that it runs under KVM.",
        otherwise="On, some guests lose their paravirtual clock and run a little slower.",
        why="Off by default; only a few graphics drivers insist on it.",
    )
    hv_vendor_id: str | None = opt(
        "Hyper-V vendor",
        key="hv-vendor-id",
        pattern=r"[A-Za-z0-9]{1,12}",
        pattern_text="1 to 12 letters or digits",
        advanced=True,
        help="The name of the hypervisor a Windows guest reads.",
        otherwise="Some graphics drivers refuse to work under certain names.",
        why="Empty by default, which keeps QEMU's own name.",
    )
    phys_bits: str | None = opt(
        "Physical address bits",
        key="phys-bits",
        check=phys_bits,
        max_length=4,
        advanced=True,
        help="How many bits the guest's CPU claims for memory addresses: a number, or 'host'.",
        otherwise="Too few limit how much memory can be plugged in; too many may not start elsewhere.",
        why="Empty by default: QEMU's 40 bits are enough for 1 TiB.",
    )
    guest_phys_bits: int | None = opt(
        "Guest address bits",
        key="guest-phys-bits",
        minimum=32,
        maximum=64,
        advanced=True,
        help="How many of the address bits the guest should really use.",
        otherwise="Too few may keep large devices from being mapped.",
        why="Empty by default: the guest uses what the CPU claims.",
    )
    level: int | None = opt(
        "CPUID level",
        minimum=0,
        maximum=4294967295,
        advanced=True,
        help="The highest CPUID leaf the guest may ask for.",
        otherwise="Too low, and the guest does not see newer features.",
        why="Empty by default: the model says it. A few old Windows versions need a lower one.",
    )
    reported_model: str | None = opt(
        "Reported model",
        key="reported-model",
        pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
        pattern_text="a CPU model name",
        hidden=True,
        help="The model a custom CPU type builds on.",
        otherwise="Without it a custom type builds on kvm64.",
        why="Only used inside custom CPU models.",
    )


@dataclass(frozen=True, kw_only=True)
class CustomCpu(Cpu):
    """What an administrator's CPU model (``custom-<name>``) is made of."""

    flags: str | None = opt(
        "Flags",
        check=any_flags,
        max_length=2048,
        help="Processor features to add to or take from the model it builds on.",
        otherwise="A flag the node's CPU lacks keeps every machine of this model from starting.",
        why="None by default.",
    )

    def under(self, cpu: Cpu) -> Cpu:
        """The processor of a machine that asks for this model: what ``cpu`` says itself goes first."""
        own = {option.attr: getattr(cpu, option.attr) for option in options_of(Cpu)}
        given = {attr: value for attr, value in own.items() if value is not None}
        flags = ";".join(filter(None, (self.flags, cpu.flags)))
        model = {"cputype": self.reported_model or "kvm64", "flags": flags or None}
        return replace(self, **{**given, **model})


@dataclass(frozen=True, kw_only=True)
class CpuOptions:
    """How many processors, and how much of the node they may use."""

    sockets: int | None = opt(
        "Sockets",
        default=1,
        minimum=1,
        maximum=255,
        help="How many processor packages the guest sees.",
        otherwise="More sockets make no machine faster; some systems are licensed by socket.",
        why="One socket, because guests schedule best inside a single package.",
    )
    cores: int | None = opt(
        "Cores",
        default=1,
        minimum=1,
        maximum=1024,
        help="How many cores each socket has. Sockets times cores are the guest's CPUs.",
        otherwise="More cores than the node has threads are refused at start; idle ones cost a little.",
        why="One core, which is enough for a small server; add when the guest is busy.",
    )
    vcpus: int | None = opt(
        "VCPUs",
        minimum=1,
        maximum=4096,
        advanced=True,
        help="How many of the CPUs are plugged in at start; the rest can be added while it runs.",
        otherwise="Fewer than sockets times cores leaves room to grow without a restart.",
        why="Empty by default: all of them.",
    )
    smp: int | None = opt(
        "CPUs (old)",
        minimum=1,
        hidden=True,
        help="An old way to write the number of sockets.",
        otherwise="It is read as 'sockets' and written that way.",
        why="Kept so that old files can be read.",
    )
    cpu: str | None = opt(
        "Type",
        default="kvm64",
        help="The processor model shown to the guest, with single features switched on or off.",
        otherwise="A model newer than the node's CPU does not start; an old one makes programs slower.",
        why="x86-64-v2-AES runs on every server since about 2010 and is what current Linux systems ask for.",
    )
    cpulimit: float | None = opt(
        "CPU limit",
        default=0,
        minimum=0,
        maximum=128,
        placeholder="unlimited",
        advanced=True,
        help="The most CPU time the guest may use, in host CPUs; 1.5 means one and a half.",
        otherwise="Without a limit a busy guest can use all its cores fully.",
        why="Unlimited by default, because a limit also slows short bursts.",
    )
    cpuunits: int | None = opt(
        "CPU units",
        default=100,
        minimum=1,
        maximum=262144,
        advanced=True,
        help="The guest's weight when guests compete for CPU time; double weight, double share.",
        otherwise="A low weight makes it wait when the node is busy; an idle node gives it all it asks for.",
        why="100 for everybody, so all guests are equal.",
    )
    affinity: str | None = opt(
        "CPU Affinity",
        check=cpu_set,
        max_length=256,
        placeholder="All Cores",
        advanced=True,
        help="The node's CPUs this guest may run on, like 0,5,8-11.",
        otherwise="Pinned to few CPUs it cannot use idle ones elsewhere.",
        why="All cores by default; the kernel spreads the load better than most people.",
    )
    numa: bool | None = opt(
        "Enable NUMA",
        default=False,
        advanced=True,
        help="Give the guest one memory region per socket, as large servers have.",
        otherwise="Off, memory cannot be added while it runs.",
        why="Off by default; it helps only guests that span the node's sockets, and memory hotplug.",
    )
    kvm: bool | None = opt(
        "KVM hardware virtualisation",
        default=True,
        help="Run the guest's instructions directly on the node's CPU.",
        otherwise="Off, every instruction is translated, roughly ten to thirty times slower.",
        why="On by default; where the node has no KVM, translation is used and said so.",
    )
