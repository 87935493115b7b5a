"""From the processor options to ``-cpu`` and ``-smp``."""

from __future__ import annotations

from collections.abc import Iterator

from vms.errors import ConfigError
from vms.hardware.context import NodeFacts
from vms.hardware.cpu import Cpu, CustomCpu
from vms.hardware.parts import Device, Flag, Part
from vms.hardware.plan import Plan

_V2 = ("popcnt", "pni", "sse4.1", "sse4.2", "ssse3")
_V2_AES = (*_V2, "aes")
_V3 = (*_V2_AES, "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
ABSTRACT = {"x86-64-v2": _V2, "x86-64-v2-AES": _V2_AES, "x86-64-v3": _V3, "x86-64-v4": _V4}
"""Levels of the x86-64 definition: qemu64 and the flags each adds."""

REPLACED = {"Icelake-Client": "Icelake-Server", "Icelake-Client-noTSX": "Icelake-Server-noTSX"}
_ONLY_64 = ("486", "pentium", "pentium2", "pentium3", "coreduo", "athlon", "kvm32", "qemu32")
_AMD = ("athlon", "phenom", "Opteron", "EPYC")
_INTEL = (
    *("486", "pentium", "coreduo", "core2duo", "Conroe", "Penryn", "Nehalem", "Westmere", "SandyBridge"),
    *("IvyBridge", "Haswell", "Broadwell", "Skylake", "Cascadelake", "Cooperlake", "KnightsMill", "Icelake"),
    *("SapphireRapids", "GraniteRapids", "SierraForest", "ClearwaterForest"),
)
_TCG_RUNS = (
    *("486", "pentium", "pentium2", "pentium3", "coreduo", "core2duo", "athlon", "phenom", "kvm32", "kvm64"),
    *("qemu32", "qemu64", "Conroe", "Penryn", "Nehalem", "Westmere", "Opteron_G1", "Opteron_G2"),
    *("Opteron_G3", "max", "base"),
)
_HYPERV = (("hv_spinlocks", 6, "0x1fff"), ("hv_vapic", 6, ""), ("hv_time", 6, ""), ("hv_reset", 6, ""))
_HYPERV_MORE = (("hv_vpindex", 6), ("hv_runtime", 6), ("hv_relaxed", 7), ("hv_synic", 7), ("hv_stimer", 7))


_KERNEL_NAMES = {
    "sse4.1": "sse4_1", "sse4.2": "sse4_2", "md-clear": "md_clear", "virt-ssbd": "virt_ssbd",
}  # fmt: skip
"""QEMU's name of a flag → the kernel's, where they differ."""
_TOLD = frozenset({*_V4, "pcid", "pdpe1gb", "md-clear", "ssbd", "ibpb"})
"""Flags the kernel lists under a name of their own; of the others its list says nothing."""


def has_flag(flag: str, facts: NodeFacts) -> bool | None:
    """Whether the node's processor has a feature; None where nobody can tell."""
    name = _native(flag, facts.cpu_vendor)
    if not facts.cpu_flags or (name not in _TOLD and flag != "nested-virt"):
        return None
    return _KERNEL_NAMES.get(name, name) in facts.cpu_flags


def vendor_of(model: str) -> str:
    """The CPUID vendor a model belongs to; empty for generic ones."""
    if model.startswith(_AMD):
        return "AuthenticAMD"
    return "GenuineIntel" if model.startswith(_INTEL) else ""


def is_32bit(model: str) -> bool:
    """Whether a model cannot run 64-bit code, and so no UEFI."""
    return model in _ONLY_64


def emulated_model(model: str, runnable: tuple[str, ...]) -> str:
    """What stands in for ``model`` without KVM: itself if it can be emulated, else ``max``.

    ``runnable`` are the models the node said it can run; empty means nobody asked it.
    """
    if model in ABSTRACT:
        return "max" if model == "x86-64-v4" else model
    return model if model in (runnable or _TCG_RUNS) and model != "host" else "max"


def topology(plan: Plan) -> Iterator[Part]:
    """``-smp`` and, with CPU hot-plug, one device for every CPU after the first."""
    config = plan.config
    sockets, cores = config.value("sockets"), config.value("cores")
    total = sockets * cores
    vcpus = config.get("vcpus") or total
    if vcpus > total:
        raise ConfigError("vcpus", f"{vcpus} is more than sockets × cores ({total})")
    if total > plan.facts.threads:
        raise ConfigError("cores", f"{total} CPUs are more than the node's {plan.facts.threads} threads")
    key = "cores" if "cores" in config.mapping or "sockets" not in config.mapping else "sockets"
    plugged = plan.plugs("cpu")
    first = 1 if plugged else vcpus
    yield Flag(key, "-smp", f"{first},sockets={sockets},cores={cores},maxcpus={total}")
    if plugged:
        model = base_model(plan)
        for number in range(1, vcpus):
            place = {"socket-id": number // cores, "core-id": number % cores, "thread-id": 0}
            yield Device("vcpus", f"{model}-x86_64-cpu", {"id": f"cpu{number + 1}", **place})


def processor(plan: Plan) -> Cpu:
    """The processor options, a custom model's own filled in. Raises :class:`ConfigError` on ``cpu``."""
    cpu: Cpu = plan.config.part("cpu", Cpu)
    if not (cpu.cputype or "").startswith("custom-"):
        return cpu
    name = str(cpu.cputype).removeprefix("custom-")
    text = plan.facts.custom_cpus.get(name)
    if text is None:
        raise ConfigError("cpu", f"this node has no custom CPU model '{name}'", part="cputype")
    return CustomCpu.parse(text, "cpu").under(cpu)


def _wanted(plan: Plan) -> str:
    wanted = processor(plan).cputype or ("kvm64" if plan.kvm else "qemu64")
    wanted = REPLACED.get(wanted, wanted)
    # A template is read by a backup only and always shows the same plain CPU.
    if plan.template:
        return "qemu64"
    # A machine that does without the KVM its node has keeps its model: only 'host' is never emulated.
    switched_off = plan.facts.kvm and not plan.facts.cpu_models and wanted != "host"
    return wanted if plan.kvm or switched_off else emulated_model(wanted, plan.facts.cpu_models)


def base_model(plan: Plan) -> str:
    """The QEMU model behind the configured one."""
    if plan.ctx.cpu:
        return plan.ctx.cpu.partition(",")[0]
    wanted = _wanted(plan)
    return "qemu64" if wanted in ABSTRACT else wanted


def model(plan: Plan) -> Iterator[Part]:
    """``-cpu`` with its flags in alphabetical order."""
    key = "cpu" if "cpu" in plan.config.mapping else "ostype"
    if plan.ctx.cpu:
        yield Flag(key, "-cpu", plan.ctx.cpu)
        return
    cpu = processor(plan)
    wanted, base = _wanted(plan), base_model(plan)
    flags = {name: f"+{name}" for name in ABSTRACT.get(wanted, ())}
    flags |= _automatic(plan, base)
    if plan.kvm:
        flags |= _hyperv(plan, cpu)
    for flag in filter(None, (cpu.flags or "").split(";")):
        name = _native(flag[1:], plan.facts.cpu_vendor)
        if plan.kvm or not name.startswith("hv"):
            flags[name.replace("hv-", "hv_")] = flag[0] + name
    flags |= _forced(plan, cpu, base)
    words = [base, *([f"level={cpu.level}"] if cpu.level is not None else [])]
    words += [flags[name] for name in sorted(flags)]
    if cpu.guest_phys_bits is not None and plan.qemu_at_least(9, 1):
        words.append(f"guest-phys-bits={cpu.guest_phys_bits}")
    if cpu.phys_bits:
        words.append(_phys_bits(cpu.phys_bits, plan.kvm))
    yield Flag(key, "-cpu", ",".join(words))


def _phys_bits(text: str, kvm: bool) -> str:
    if text == "host":
        return "host-phys-bits=true" if kvm else "phys-bits=40"
    return f"phys-bits={text}"


def _native(flag: str, vendor: str) -> str:
    if flag == "nested-virt":
        return "svm" if vendor == "AuthenticAMD" else "vmx"
    return flag


def _automatic(plan: Plan, base: str) -> dict[str, str]:
    found: dict[str, str] = {}
    if plan.kvm:
        found |= {"kvm_pv_eoi": "+kvm_pv_eoi", "kvm_pv_unhalt": "+kvm_pv_unhalt"}
    if base == "kvm64":
        found["lahf_lm"] = "+lahf_lm"
    if base in ("kvm64", "kvm32"):
        found["sep"] = "+sep"
    if plan.ostype == "solaris":
        found["x2apic"] = "-x2apic"
    if base.startswith("Opteron_G"):
        found["rdtscp"] = "-rdtscp"
    if plan.kvm and plan.ostype == "win11" and plan.qemu_at_least(11, 0):
        found |= {"cet-ibt": "-cet-ibt", "cet-ss": "-cet-ss"}
    if plan.kvm and base == "host" and plan.qemu_at_least(11, 0) and not plan.machine_at_least(11, 0):
        found["vmx-mbec"] = "-vmx-mbec"
    return found


def _gpu(plan: Plan) -> bool:
    return any(part.x_vga for _, _, part in plan.config.slots("hostpci"))


def _hyperv(plan: Plan, cpu: Cpu) -> dict[str, str]:
    """What makes Windows feel at home. UEFI with a Windows before 8 does not boot with it."""
    if plan.windows < 6 or (plan.ovmf and plan.windows < 8):
        return {}
    found = {name: f"{name}={value}" if value else name for name, since, value in _HYPERV if since}
    found |= {name: name for name, since in (*_HYPERV_MORE, ("hv_ipi", 7)) if plan.windows >= since}
    vendor = cpu.hv_vendor_id or ("proxmox" if _gpu(plan) else "")
    if vendor:
        found["hv_vendor_id"] = f"hv_vendor_id={vendor}"
    if plan.windows >= 11 and plan.facts.cpu_vendor == "GenuineIntel" and plan.machine_at_least(11, 0, 2):
        found["hv_evmcs"] = "hv_evmcs"
    return found


def _forced(plan: Plan, cpu: Cpu, base: str) -> dict[str, str]:
    found: dict[str, str] = {}
    if plan.kvm and base != "host":
        found["enforce"] = "enforce"
    if plan.kvm and (cpu.hidden_kvm or (_gpu(plan) and plan.windows)):
        found["kvm"] = "kvm=off"
    if vendor_of(base):
        found["vendor"] = f"vendor={vendor_of(base)}"
    return found
