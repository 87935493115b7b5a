"""The eight tabs of one draft, in order: which are open, which stand, which one needs a hand."""

from __future__ import annotations

from dataclasses import dataclass

from vms.forms.disks import Disks
from vms.forms.memory import Memory
from vms.forms.network import Network
from vms.forms.panel import Panel
from vms.forms.processors import Cpu
from vms.wizard.drafts import Draft
from vms.wizard.general import General
from vms.wizard.media import OS
from vms.wizard.system import System
from vms.wizard.tabs import SLUGS, TABS


class Confirm(Panel):
    """Holds no field of the configuration."""

    slug = "confirm"

    def slots(self) -> list[str]:
        return []


PANELS: dict[str, type[Panel]] = {
    panel.slug: panel for panel in (General, OS, System, Disks, Cpu, Memory, Network, Confirm)
}


@dataclass(frozen=True)
class Step:
    """A tab in the row of tabs. ``why`` says why a locked one cannot be opened yet."""

    slug: str
    label: str
    state: str
    why: str = ""

    @property
    def words(self) -> str:
        """The state for screen readers."""
        return {"done": "done", "now": "current", "wrong": "needs attention"}.get(self.state, "")


class Panels:
    """Every tab of a draft; validity is worked out once."""

    def __init__(self, draft: Draft, current: str) -> None:
        self.draft = draft
        self.current = current
        self.panels = {slug: kind(draft) for slug, kind in PANELS.items()}
        self.states = {slug: self._valid(slug) for slug in SLUGS}

    @staticmethod
    def one(draft: Draft, slug: str) -> Panel:
        """A single tab of ``draft``."""
        return PANELS[slug](draft)

    def _valid(self, slug: str) -> bool:
        if slug != self.current and slug not in self.draft.visited:
            return False
        return self.panels[slug].valid()

    def blocking(self, slug: str) -> str:
        """The first tab before ``slug`` that has to be finished first; "" when the way is free."""
        for earlier in SLUGS[: SLUGS.index(slug)]:
            if not self.states[earlier]:
                return earlier
        return ""

    def farthest(self) -> str:
        """The last tab that may be opened."""
        return next((slug for slug in reversed(SLUGS) if not self.blocking(slug)), SLUGS[0])

    def steps(self) -> list[Step]:
        """The row of tabs."""
        labels = {tab.slug: tab.label for tab in TABS}
        found = []
        for slug in SLUGS:
            blocker = self.blocking(slug)
            if slug == self.current:
                found.append(Step(slug, labels[slug], "now"))
            elif blocker:
                found.append(Step(slug, labels[slug], "locked", f"Finish {labels[blocker]} first."))
            elif slug in self.draft.visited:
                found.append(Step(slug, labels[slug], "done" if self.states[slug] else "wrong"))
            else:
                found.append(Step(slug, labels[slug], "open"))
        return found


def neighbour(slug: str, by: int) -> str:
    """The tab ``by`` steps away, within the row."""
    return SLUGS[max(0, min(len(SLUGS) - 1, SLUGS.index(slug) + by))]
