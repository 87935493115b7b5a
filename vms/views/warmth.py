"""The warm state of a template, as its page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from vms.config.warmth import refusals
from vms.models import VM
from vms.operations.warmstate import clones_on, cold_reasons, warm


@dataclass(frozen=True)
class Warmth:
    """``reasons``: why clones boot all the same, or, where nothing is kept, why nothing can be."""

    warm: bool
    reasons: list[str]
    at: datetime | None = None
    size: int = 0
    clones: int = 0


def warmth_of(vm: VM, config: Mapping[str, str]) -> Warmth | None:
    """What a template keeps; None for any other VM."""
    if not vm.template:
        return None
    if not warm(vm):
        return Warmth(False, [f"{error}." for error in refusals(config)])
    saved = vm.saved
    return Warmth(
        True, [f"{reason}." for reason in cold_reasons(vm)], datetime.fromisoformat(str(saved["at"])),
        int(saved.get("size", 0)), len({row.vmid for row in clones_on(vm)}),
    )  # fmt: skip
