"""How many processors, and of which kind."""

from __future__ import annotations

from vms.config.rulebook.processor import in_a_sentence
from vms.forms.editing import Editing, Texts
from vms.forms.extras import EXTRAS, FLAGS
from vms.forms.fields import Choices, flat
from vms.forms.hardware import option_at, read
from vms.forms.panel import Fields, Panel, Section, disable
from vms.hardware.context import NodeFacts
from vms.hardware.cpumodel import ABSTRACT, emulated_model, has_flag, vendor_of
from vms.schema.option import Option

SECTIONS = (
    Section(("sockets", "cores", "cpu.cputype", "total")),
    Section(("vcpus", "cpulimit", "affinity", "cpuunits", "numa"), advanced=True),
    Section(("flags",), "Extra CPU flags", advanced=True),
)
KEYS = ("sockets", "cores", "cpu", "vcpus", "cpulimit", "affinity", "cpuunits", "numa")
"""The configuration keys these fields write."""
WIZARD_CPU = "x86-64-v2-AES"
"""What a machine made here gets, where the node can run it, unless somebody chooses."""
ABSENT_CPU = "kvm64"
"""What a configuration without the key means."""
CORES_MAX = 256
_GENERIC = ("kvm32", "kvm64", "qemu32", "qemu64", "max", "base")


def levels(draft: Editing) -> list[str]:
    """The x86-64 levels this node can give its guests. All of them while its flags are not known."""
    facts = draft.facts
    if not facts.kvm:
        return [name for name in ABSTRACT if emulated_model(name, ()) == name]
    return [
        name for name, flags in ABSTRACT.items() if all(has_flag(one, facts) is not False for one in flags)
    ]


def default_cpu(draft: Editing) -> str:
    """The preselected type: portable and modern where the node can run it, else "" (kvm64)."""
    return WIZARD_CPU if WIZARD_CPU in levels(draft) else ""


def models(draft: Editing, chosen: str) -> Choices:
    """The types this node can run by maker, as Proxmox groups them; a chosen other one stays."""
    groups: dict[str, list[str]] = {"AMD": [], "Intel": [], "QEMU": [], "Host": [], "Custom": []}
    known = draft.facts.cpu_models or (*_GENERIC[1:2], "max", "host")
    for name in sorted({*known, *levels(draft), "host"}, key=str.lower):
        vendor = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}.get(vendor_of(name), "QEMU")
        groups["Host" if name == "host" else vendor].append(name)
    groups["Custom"] = [f"custom-{name}" for name in sorted(draft.facts.custom_cpus)]
    found = [
        (group, [(name, name.removeprefix("custom-")) for name in names])
        for group, names in groups.items()
        if names
    ]
    default = default_cpu(draft)
    offered: list[tuple[str, object]] = [("", f"Default ({default or ABSENT_CPU})"), *found]
    if chosen and chosen not in dict(flat(offered)):
        offered.append((chosen, f"{chosen} (not on this node)"))
    return offered


class Cpu(Panel):
    """How many processors, and of which kind."""

    slug = "cpu"
    sections = SECTIONS

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in super().names if name != "flags") + tuple(FLAGS)

    def option(self, name: str, slot: str) -> Option:
        return FLAGS.get(name) or super().option(name, slot)

    def values(self, slot: str) -> Texts:
        found = {n: read(self.mapping, n) for n in self.names if n not in EXTRAS and n not in FLAGS}
        default = default_cpu(self.draft)
        if found["cpu.cputype"] == default:
            found["cpu.cputype"] = ""
        elif not found["cpu.cputype"] and default:
            found["cpu.cputype"] = ABSENT_CPU
        for name in ("sockets", "cores"):
            found[name] = found[name] or "1"
        found["total"] = str(int(found["sockets"]) * int(found["cores"]))
        set_flags = [word for word in read(self.mapping, "cpu.flags").split(";") if word]
        return found | {f"flag.{word[1:]}": word[0] for word in set_flags}

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        if name != "cpu.cputype":
            return None
        return models(self.draft, values.get(name, ""))

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        fields["total"].widget.attrs["readonly"] = True
        total, facts = values.get("total", "1"), self.draft.facts
        fields["vcpus"].widget.attrs["placeholder"] = total
        fields["total"].note = f"The node has {facts.threads} threads."
        for name in FLAGS if facts.kvm else ():
            there = has_flag(name.partition(".")[2], facts)
            fields[name].note = {True: "yes", False: "no", None: ""}[there]
        if not facts.kvm:
            wanted = values.get("cpu.cputype") or default_cpu(self.draft)
            fields["cpu.cputype"].note = _emulation(facts, wanted)
        if not self.draft.user.is_superuser:
            disable(fields, "Only an operator may pin a machine to CPUs.", "affinity")

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        found = {}
        if not (values["sockets"].isdigit() and values["cores"].isdigit()):
            return {}
        total = int(values["sockets"]) * int(values["cores"])
        if int(values["cores"]) > CORES_MAX:
            found["cores"] = f"{values['cores']} is more than {CORES_MAX}, the most a machine can have here."
        if values.get("vcpus", "").isdigit() and int(values["vcpus"]) > total:
            found["vcpus"] = f"{values['vcpus']} is more than sockets times cores, which is {total}."
        return found

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        good.pop("total", None)
        if "cpu.cputype" in good:
            good["cpu.cputype"] = good["cpu.cputype"] or default_cpu(self.draft)
        flags = {name: good.pop(name) for name in list(good) if name in FLAGS}
        if good.get("cpulimit") == "0":
            good["cpulimit"] = ""
        if good.get("cpuunits") == option_at("cpuunits").format(option_at("cpuunits").default):
            good["cpuunits"] = ""
        self.put(good, slot)
        if "numa" in good:
            self.mapping["numa"] = good["numa"]
        if flags:
            states = {name: values.get(name, "") for name in FLAGS} | flags
            words = [f"{state}{name.partition('.')[2]}" for name, state in states.items() if state]
            self.put({"cpu.flags": ";".join(words)}, slot)
        return slot


def _emulation(facts: NodeFacts, wanted: str) -> str:
    """What a node without KVM does with the chosen CPU type."""
    reason = in_a_sentence(facts.accel_reason) or "KVM is not available"
    model = emulated_model(wanted, tuple(facts.cpu_models))
    used = f"as '{model}' instead"
    if model == wanted:
        used = "as 'qemu64' with that level's features" if wanted in ABSTRACT else "as it is"
    return (
        f"This node emulates the processor ({reason}), which is ten to thirty times slower. "
        f"QEMU gets {wanted} {used}; the choice is kept for a node with KVM."
    )
