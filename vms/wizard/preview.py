"""What the rules say about a draft, and the exact command QEMU would get."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlencode

from django.urls import reverse

from vms.config.rules import Finding, findings
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError, VMError
from vms.forms.command import Command, Place, planned, script, told
from vms.forms.hardware import decompose
from vms.hardware import part_of
from vms.hardware.context import NodeFacts
from vms.operations.nextstart import facts_of, parts_of, paths_of, tpm_state
from vms.qemu.explain import Argument, arguments
from vms.wizard.drafts import Draft, locate
from vms.wizard.panels import Panels
from vms.wizard.tabs import BY_SLUG, TABS, tab_of


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
    commands: str = ""


def rule_findings(draft: Draft) -> list[Finding]:
    """What the rules find; nothing while the configuration itself cannot be read."""
    try:
        own = draft.vm.vmid
        facts = replace(draft.facts, used_ids=tuple(one for one in draft.facts.used_ids if one != own))
        return list(findings(VMConfig.parse(draft.mapping), facts, own))
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
        fixable = bool(finding.fix)
        found.append(Advice(name, finding.severity, finding.text, fixable, slug, label, finding.commands))
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


def command(panels: Panels) -> Command:
    """What QEMU would get for this draft, the open tab first, with marks for what the last change did."""
    draft, current = panels.draft, panels.current
    vmid, facts = draft.vm.vmid, facts_of(draft.vm.node, {row.name: row.facts() for row in draft.offers.rows})
    mapping = planned(draft.mapping, vmid)
    try:
        now = arguments(parts_of(vmid, mapping, facts))
    except VMError as error:
        return Command(why_not=str(error))
    before = _before(draft, vmid, facts)
    groups = told(now, before, lambda key: place(panels, key), current)
    changed = any(line.mark for group in groups for cause in group.causes for line in cause.lines)
    note = f"Runs once VM {vmid} has been created; its disks do not exist before."
    text = script(facts.qemu_binary, now, paths_of(vmid), tpm_state(mapping, facts), note)
    return Command(text, groups, changed=changed)


def _before(draft: Draft, vmid: int, facts: NodeFacts) -> list[Argument] | None:
    """The command before the last change; None while nothing was changed."""
    previous = draft.rest.get("previous")
    if not isinstance(previous, dict):
        return None
    try:
        return arguments(parts_of(vmid, planned(previous, vmid), facts))
    except VMError:
        return None


def place(panels: Panels, key: str) -> Place:
    """The tab and the field behind a key. A tab that is locked still has no address to go to."""
    mapping = panels.draft.mapping
    slug = tab_of(key, mapping)
    if not slug or not key:
        return Place("", "Always there")
    scope, name, _ = locate(ConfigError(key, ""), mapping)
    title = f"{scope} {name}" if scope not in (slug, name) else name
    if panels.blocking(slug) and slug != panels.current:
        return Place(slug, BY_SLUG[slug].label, "", title)
    address = reverse("vms:wizard_tab", args=[panels.draft.vm.vmid, slug])
    query = f"?{urlencode({'slot': scope})}" if BY_SLUG[slug].lists else ""
    return Place(slug, BY_SLUG[slug].label, f"{address}{query}#field-{name}", title)
