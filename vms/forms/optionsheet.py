"""A dialog of the Options page between its request and its answer."""

from __future__ import annotations

from typing import Any

from vms.forms import dialogs
from vms.forms.bootorder import BootOrder
from vms.forms.editing import Editing
from vms.forms.options import PANELS
from vms.forms.panel import Panel
from vms.forms.sheet import Sheet
from vms.models import VM

KEYS = frozenset({*PANELS, BootOrder.slug})
"""The configuration keys that have a dialog."""


class OptionSheet(Sheet):
    """The configuration of ``vm`` with the option ``key`` edited; ``key`` is one of :data:`KEYS`."""

    def __init__(self, vm: VM, user: Any, key: str) -> None:
        super().__init__(vm, user, row=key)

    def _begin(self) -> tuple[str, dialogs.Open]:
        if self.row == BootOrder.slug:
            boot = BootOrder(self.editing)  # one for the whole request: it holds the list as it was moved
            return self.row, lambda draft, key: boot
        made = PANELS[self.row]

        def fresh(draft: Editing, key: str) -> Panel:
            return made(draft)

        return self.row, fresh

    @property
    def boot(self) -> BootOrder | None:
        """The list, if this is about the boot order."""
        panel = self.panel
        return panel if isinstance(panel, BootOrder) else None

    @property
    def reason(self) -> str | None:
        """Why the VM is protected, as it was given just now; None when nothing was said about it."""
        return self.editing.stash.get("reason")
