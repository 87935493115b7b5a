"""What the rules say about a draft, and the exact command QEMU would get."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from vms.config.rules import Finding, findings
from vms.config.vmconfig import VMConfig
from vms.errors import VMError
from vms.forms.hardware import decompose
from vms.hardware import is_drive, part_of
from vms.hardware.context import LaunchContext, NodeFacts, RuntimePaths
from vms.models.configuration import NEW_DISK, NEW_SEED
from vms.qemu import cmdline
from vms.qemu.explain import masked
from vms.wizard.drafts import Draft
from vms.wizard.tabs import TABS, tab_of

RUN_DIR, LOG_DIR = "/run/pvelite", "/var/log/pvelite"
"""Stand-ins: the node knows the real folders when it starts the machine."""


@dataclass(frozen=True)
class Words:
    """Part of the command, under the tab whose choices caused it."""

    slug: str
    label: str
    text: str


@dataclass(frozen=True)
class Advice:
    """A finding as the page shows it. ``rule`` names it to :func:`fix`; ``slug`` and ``label`` name the tab
    where it can be changed."""

    rule: str
    severity: str
    text: str
    fixable: bool
    slug: str
    label: str


def rule_findings(draft: Draft) -> list[Finding]:
    """What the rules find; nothing while the configuration itself cannot be read."""
    try:
        return list(findings(VMConfig.parse(draft.mapping), draft.facts))
    except VMError:
        return []


def advice(draft: Draft) -> list[Advice]:
    """Every finding, blocking ones first."""
    order = {"block": 0, "warn": 1, "info": 2}
    labels = {tab.slug: tab.label for tab in TABS}
    found = []
    for finding in sorted(rule_findings(draft), key=lambda finding: order[finding.severity]):
        slug = next((tab_of(key, draft.mapping) for key in finding.keys if tab_of(key)), "")
        name, label = name_of(finding), labels.get(slug, "")
        found.append(Advice(name, finding.severity, finding.text, bool(finding.fix), slug, label))
    return found


def name_of(finding: Finding) -> str:
    """What a Fix button calls a finding: the same rule may speak of several drives."""
    return f"{finding.rule}:{finding.keys[0] if finding.keys else ''}"


def fix(draft: Draft, name: str) -> bool:
    """Make the change a finding offers; from then on it is somebody's choice. False when it is gone."""
    for finding in rule_findings(draft):
        if name_of(finding) == name and finding.fix:
            for key, text in finding.fix.items():
                draft.touch(_changed(key, draft.mapping.get(key, ""), text or ""))
                for note in NOTES.get(key, ()):
                    draft.stash.pop(note, None)
                if text is None:
                    draft.mapping.pop(key, None)
                else:
                    draft.mapping[key] = text
            return True
    return False


def _changed(key: str, old: str, new: str) -> set[str]:
    """The names of the options that differ between two texts of ``key``."""
    if part_of(key) is None:
        return {key}
    before, after = decompose(key, old), decompose(key, new)
    return {f"{key}.{part}" for part in before | after if before.get(part) != after.get(part)}


NOTES = {
    "efidisk0": ("efi", "efi_storage", "efi_format", "keys"),
    "tpmstate0": ("tpm", "tpm_storage", "tpm_version"),
}
"""What the System tab remembers about its small disks, which a fix overrules."""


def planned(mapping: Mapping[str, str], vmid: int) -> dict[str, str]:
    """The configuration with the volumes that will be made, named as they will be."""
    result = dict(mapping)
    number = 0
    for key in sorted(mapping):
        file, comma, rest = mapping[key].partition(",")
        new, seed = NEW_DISK.fullmatch(file), NEW_SEED.fullmatch(file)
        if seed is not None:
            result[key] = f"{seed[1]}:{vmid}/vm-{vmid}-cloudinit.raw{comma}{rest}"
        if new is None or not (is_drive(key) or key in ("efidisk0", "tpmstate0")):
            continue
        found = re.search(r"(?:^|,)format=(\w+)", rest)
        kind = "raw" if key == "tpmstate0" else found[1] if found else "qcow2"
        result[key] = f"{new[1]}:{vmid}/vm-{vmid}-disk-{number}.{kind}{comma}{rest}"
        number += 1
    return result


@dataclass(frozen=True)
class Command:
    """The command as one line to copy, and grouped by tab. ``why_not`` says why there is none yet."""

    line: str = ""
    groups: tuple[Words, ...] = ()
    why_not: str = ""


def command(draft: Draft, current: str = "") -> Command:
    """What QEMU would get for this draft; the words that tab ``current`` causes come first."""
    vmid = draft.vm.vmid
    facts: NodeFacts = draft.facts
    storages = {**facts.storages, **{row.name: row.facts() for row in draft.offers.rows}}
    known = NodeFacts.from_json({**facts.to_json(), "storages": storages})
    context = LaunchContext(vmid=vmid, facts=known, paths=RuntimePaths.of(RUN_DIR, LOG_DIR, vmid))
    try:
        parts = cmdline.parts(VMConfig.parse(planned(draft.mapping, vmid)), context)
    except VMError as error:
        return Command(why_not=str(error))
    lines: dict[str, list[str]] = {}
    for part in parts:
        text = shlex.join(masked(word) for word in part.argv())
        lines.setdefault(tab_of(part.key, draft.mapping), []).append(text)
    labels = {tab.slug: tab.label for tab in TABS} | {"": "Always there"}
    order = sorted((slug for slug in labels if slug in lines), key=lambda slug: slug != current)
    groups = tuple(Words(slug, labels[slug], "\n".join(lines[slug])) for slug in order)
    words = [known.qemu_binary, *(masked(word) for part in parts for word in part.argv())]
    return Command(shlex.join(words), groups)
