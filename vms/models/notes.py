"""What a VM's row remembers of work in progress (``VM.draft`` of a VM that is defined)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vms.config.busmove import RECORD
from vms.models.vm import VM


def note_work(vm: VM, note: Mapping[str, Any]) -> None:
    """Replace what is remembered of the work that is being done, for who settles it when this worker dies.

    A change of the boot disk's bus, which spans many tasks, stays noted beside it.
    """
    row = VM.everything.filter(pk=vm.pk)
    kept = {name: what for name, what in row.values_list("draft", flat=True).get().items() if name == RECORD}
    vm.draft = {**kept, **note}
    row.update(draft=vm.draft)
