"""A dialog of the Hardware page between its request and its answer.

It keeps nothing between two requests: the fields that were sent are laid over the configuration as the next
start would have it, and what differs then is what somebody asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict

from vms.config.pending import verdict
from vms.config.rules import Finding, findings
from vms.config.upkeep import is_unused
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError, NotFound, StateError, VMError
from vms.forms import dialogs
from vms.forms.command import Line, Place, planned, told
from vms.forms.editing import Editing
from vms.forms.fields import sentence
from vms.forms.hardware import OptionForm
from vms.forms.panel import Block, Panel, blocks
from vms.models import VM
from vms.models.waiting import Waiting
from vms.operations.nextstart import facts_of, parts_of
from vms.qemu.explain import arguments

STANDS_FOR = {
    "": ("bus", "index"), "file": ("storage", "iso", "efi_storage", "tpm_storage", "bus"),
    "media": ("medium",), "import-from": ("image",),
}  # fmt: skip
"""Part of a value → the fields that show it under another name."""


@dataclass(frozen=True)
class Advice:
    """A finding as a page shows it. ``rule`` names it to Fix; ``reason`` says why that cannot be used now."""

    rule: str
    severity: str
    text: str
    fixable: bool
    reason: str = ""


class Sheet:
    """The configuration of ``vm`` with one device (``kind``) added or one ``row`` edited.

    Raises :class:`NotFound` when there is no such row to edit, :class:`StateError` when there is no room.
    """

    def __init__(self, vm: VM, user: Any, *, kind: str = "", row: str = "") -> None:
        self.vm, self.kind, self.row = vm, kind, row
        self.waiting = Waiting.of(vm)
        self.before = self.waiting.effective
        self.editing = Editing(vm, user, self.before)
        self.fixed: list[str] = []
        self.key, self._open = self._begin()

    def _begin(self) -> tuple[str, dialogs.Open]:
        if self.kind:
            addition = dialogs.BY_KIND[self.kind]
            why = addition.why_not(self.editing)
            if why:
                raise StateError(why)
            return addition.begin(self.editing), addition.open
        if is_unused(self.row) and self.row in self.before:
            slot = dialogs.begin_loose(self.editing, self.row)
            if not slot:
                raise StateError("Every place is taken.")
            return slot, dialogs.open_loose
        if dialogs.opened(self.editing, self.row) is None:
            raise NotFound(f"There is no '{self.row}' to edit.")
        return self.row, dialogs.open_row

    @property
    def panel(self) -> Panel:
        """The panel as the configuration stands now; it makes its form once."""
        return self._open(self.editing, self.key)

    def form(self, *, lenient: bool = False) -> OptionForm:
        """The form. ``lenient``: no complaint about fields that nobody has filled in yet."""
        panel = self.panel
        form = panel.form(dialogs.slot_in(panel, self.key))
        for name in list(form.errors) if lenient else ():
            if name in form.fields and not form.data.get(name):
                del form.errors[name]
        return form

    def blocks(self, form: OptionForm) -> list[Block]:
        """The form's sections."""
        panel = self.panel
        return blocks(form, panel.sections, panel.names)

    def fill(self, data: QueryDict) -> None:
        """Lay the sent fields over the configuration, then the fixes that were taken."""
        panel = self.panel
        slot = panel.submit(data, dialogs.slot_in(panel, self.key))
        self.key = slot or self.key
        go, _, rule = data.get("go", "").partition(":")
        for name in (*data.getlist("fixed"), *([rule] if go == "fix" else ())):
            if name not in self.fixed and self._fix(name):
                self.fixed.append(name)

    def _fix(self, name: str) -> bool:
        fixes = (item.fix for item in self._found(self.editing.mapping) if name_of(item) == name)
        fix = next((fix for fix in fixes if fix), None)
        if fix is not None:
            self.editing.mapping = laid(self.editing.mapping, fix)
        return fix is not None

    @property
    def changes(self) -> dict[str, str | None]:
        """Key → text, ``None`` for a removal. A detached disk that is plugged in goes by itself."""
        after = self.editing.mapping
        gone = {key: None for key in self.before if key not in after and not is_unused(key)}
        return gone | {key: text for key, text in after.items() if text != self.before.get(key)}

    def _found(self, mapping: dict[str, str]) -> list[Finding]:
        try:
            return findings(VMConfig.parse(mapping), self.editing.facts)
        except VMError:
            return []

    def advice(self) -> list[Advice]:
        """What the rules say of the change: what they did not say before, and what is about its keys."""
        known = {(name_of(finding), finding.text) for finding in self._found(self.before)}
        keys = set(self.changes)
        return [
            Advice(name_of(finding), finding.severity, finding.text, bool(finding.fix))
            for finding in self._found(self.editing.mapping)
            if (name_of(finding), finding.text) not in known or keys & set(finding.keys)
        ]

    def blocked(self) -> list[str]:
        """The refusals that this change brings about."""
        known = {name_of(finding) for finding in self._found(self.before)}
        after = self._found(self.editing.mapping)
        return [item.text for item in after if item.severity == "block" and name_of(item) not in known]

    def waits(self) -> list[str]:
        """What of the change a machine that runs gets at its next start only: key and reason."""
        return waits_of(self.vm, self.waiting, self.changes)

    def lines(self) -> list[Line]:
        """The arguments QEMU gets more and less at the next start, + and − marked."""
        facts = facts_of(self.vm.node, {row.name: row.facts() for row in self.editing.offers.rows})
        try:
            now = arguments(parts_of(self.vm.vmid, planned(self.editing.mapping, self.vm.vmid), facts))
            was = arguments(parts_of(self.vm.vmid, planned(self.before, self.vm.vmid), facts))
        except VMError:
            return []
        groups = told(now, was, lambda key: Place("", ""))
        return [line for group in groups for cause in group.causes for line in cause.lines if line.mark]

    def blame(self, error: ConfigError) -> None:
        """Put what an operation refused on the fields it is about; the rest on the form as a whole."""
        panel = self.panel
        scope = panel.scope(dialogs.slot_in(panel, self.key))
        for single in getattr(error, "errors", (error,)):
            whole = f"{single.key}.{single.part}" if single.part else single.key
            own = (single.part, *STANDS_FOR.get(single.part, ())) if single.key == self.key else ()
            parts = tuple(name for name in panel.names if name.startswith(f"{whole}."))
            name = next((name for name in (whole, *own, *parts) if name in panel.names), "")
            text = sentence(single) if name else f"{single.key}: {sentence(single)}"
            self.editing.blame(scope, name or whole, text)


def waits_of(vm: VM, waiting: Waiting, changes: Mapping[str, str | None]) -> list[str]:
    """What of ``changes`` has to wait for a cold start of ``vm``: key and reason. Nothing while it is off."""
    found = []
    for key, text in changes.items() if vm.running else ():
        try:
            judged = verdict(key, text, waiting.config)
        except ConfigError:
            continue
        if judged.waits:
            found.append(f"{key}: {judged.why}")
    return found


def laid(mapping: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """``mapping`` after ``changes``; ``None`` removes a key."""
    found = {**mapping, **{key: text for key, text in changes.items() if text is not None}}
    return {key: text for key, text in found.items() if changes.get(key, "") is not None}


def name_of(finding: Finding) -> str:
    """What a Fix button calls a finding: the same rule may speak of several drives."""
    return f"{finding.rule}:{finding.keys[0] if finding.keys else ''}"
