"""Processor and memory: what this node can run, and how much of it there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vms.config.finding import GIB, Case, Finding
from vms.hardware.cpu import Cpu
from vms.hardware.cpumodel import ABSTRACT, emulated_model, has_flag

OVERCOMMIT = 3
"""Virtual CPUs per thread of the node that guests usually share without noticing."""
PORTABLE = "x86-64-v2-AES"
_OLD_MODELS = ("kvm64", "qemu64", "kvm32", "qemu32")


def _model(case: Case) -> str:
    cpu: Cpu = case.config.part("cpu", Cpu)
    return cpu.cputype or "kvm64"


def with_model(case: Case, model: str) -> dict[str, str | None]:
    """The change that gives the machine another CPU model and leaves its other CPU options."""
    cpu: Cpu = case.config.part("cpu", Cpu)
    return {"cpu": replace(cpu, cputype=model).format()}


def accelerator(case: Case) -> Iterator[Finding]:
    """R11: without KVM every instruction is translated."""
    facts = case.facts
    if facts.kvm or not case.config.value("kvm"):
        return
    reason = f" ({in_a_sentence(facts.accel_reason)})" if facts.accel_reason else ""
    text = f"This node has no KVM{reason}: the machine is emulated, about ten to thirty times slower."
    yield Finding("R11", "warn", ("kvm", "cpu"), text)
    model = _model(case)
    stand_in = emulated_model(model, facts.cpu_models)
    if stand_in != model and not model.startswith("custom-"):
        text = f"'{model}' cannot be emulated here; the guest sees '{stand_in}' instead."
        yield Finding("R11", "info", ("cpu",), text, with_model(case, stand_in))


def in_a_sentence(text: str) -> str:
    """A sentence fit to stand inside another one."""
    small = text[:1].lower() + text[1:] if text[1:2].islower() else text
    return small.rstrip(".")


def model(case: Case) -> Iterator[Finding]:
    """R9, R10: the CPU model has to run here; ``host`` binds the machine to this processor."""
    facts, name = case.facts, _model(case)
    if name.startswith("custom-"):
        if name.removeprefix("custom-") not in facts.custom_cpus:
            text = f"This node has no custom CPU model '{name.removeprefix('custom-')}'."
            yield Finding("R9", "block", ("cpu",), text, with_model(case, PORTABLE))
        return
    if not case.kvm:
        return
    if name == "host":
        text = "'host' is fast, but snapshots with memory and moves need a node with the same processor."
        yield Finding("R10", "info", ("cpu",), text)
        return
    base = "qemu64" if name in ABSTRACT else name
    if facts.cpu_models and base not in facts.cpu_models:
        text = f"This node's processor cannot run '{name}'; the machine would not start."
        yield Finding("R9", "block", ("cpu",), text, with_model(case, PORTABLE))


def flags(case: Case) -> Iterator[Finding]:
    """R9: the features a machine asks for, that the node's processor lacks."""
    if not case.kvm or not case.facts.cpu_flags:
        return
    cpu: Cpu = case.config.part("cpu", Cpu)
    own = [flag for flag in (cpu.flags or "").split(";") if flag]
    added = [flag[1:] for flag in own if flag.startswith("+")]
    by_model = [flag for flag in ABSTRACT.get(_model(case), ()) if f"-{flag}" not in own]
    missing = [flag for flag in (*by_model, *added) if not _on_host(case, flag)]
    if not missing:
        return
    text = f"This node's processor lacks {', '.join(missing)}; the machine would not start."
    kept = ";".join(flag for flag in own if flag[1:] not in missing)
    fix: dict[str, str | None] | None = {"cpu": replace(cpu, flags=kept or None).format() or None}
    if set(missing) & set(by_model):
        runs = [name for name, needs in ABSTRACT.items() if all(_on_host(case, flag) for flag in needs)]
        best = runs[-1] if runs else "kvm64"
        fix = {"cpu": replace(cpu, cputype=best, flags=kept or None).format()}
    yield Finding("R9", "block", ("cpu",), text, fix)


def _on_host(case: Case, flag: str) -> bool:
    return has_flag(flag, case.facts) is not False


def old_model(case: Case) -> Iterator[Finding]:
    """R8: Linux systems from 2022 on do not start on the oldest models."""
    name = _model(case)
    if case.config.get("ostype") == "l26" and name in _OLD_MODELS and not case.config.get("template"):
        text = f"Linux systems from 2022 on do not start on '{name}'; they ask for x86-64-v2 at least."
        yield Finding("R8", "warn", ("cpu",), text, with_model(case, PORTABLE))


def _cpus(case: Case) -> int:
    return int(case.config.value("sockets") * case.config.value("cores"))


def threads(case: Case) -> Iterator[Finding]:
    """R12: no more CPUs than the node has threads."""
    total = _cpus(case)
    if total > case.facts.threads:
        text = f"{total} CPUs are more than this node's {case.facts.threads} threads; it would not start."
        fix: dict[str, str | None] = {"sockets": "1", "cores": str(case.facts.threads)}
        if (case.config.get("vcpus") or 0) > case.facts.threads:
            fix["vcpus"] = None
        yield Finding("R12", "block", ("cores", "sockets"), text, fix)


def overcommit(case: Case) -> Iterator[Finding]:
    """R12: beyond three virtual CPUs per thread, guests wait for each other."""
    used, own, threads = case.facts.vcpus_used, _cpus(case), case.facts.threads
    if used + own > OVERCOMMIT * threads and own <= threads:
        text = (
            f"With this machine {used + own} virtual CPUs share {threads} threads; beyond {OVERCOMMIT} "
            "for each, guests wait for each other."
        )
        room = OVERCOMMIT * threads - used
        sockets = case.config.value("sockets")
        fix = {"cores": str(room // sockets)} if room >= sockets and "vcpus" not in case.config else None
        yield Finding("R12", "warn", ("cores", "sockets"), text, fix)


def memory(case: Case) -> Iterator[Finding]:
    """R13: memory the node does not have."""
    facts, wanted = case.facts, case.config.value("memory").value("current") << 20
    if facts.memory and wanted > facts.memory:
        has, asks = facts.memory / GIB, wanted / GIB
        text = f"The node has {has:.1f} GiB of memory, the machine wants {asks:.1f} GiB."
        yield Finding("R13", "block", ("memory",), text)
    elif facts.memory_free and wanted > facts.memory_free:
        text = f"Only {facts.memory_free / GIB:.1f} GiB of memory are free on the node right now."
        yield Finding("R13", "warn", ("memory",), text)


def huge_pages(case: Case) -> Iterator[Finding]:
    """R13: huge pages have to be reserved before."""
    kind, free = case.config.get("hugepages"), case.facts.huge_pages
    if not kind or not free:
        return
    size = int(case.config.value("memory").value("current"))
    pages = [int(kind)] if kind != "any" else [1024, 2]
    if not any(size % page == 0 and int(free.get(str(page), 0)) * page >= size for page in pages):
        have = ", ".join(f"{count} of {page} MiB" for page, count in free.items())
        text = f"The node has too few free huge pages for {size} MiB: {have}."
        yield Finding("R13", "block", ("hugepages", "memory"), text, {"hugepages": None})
