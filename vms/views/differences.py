"""Two texts, line by line: what went, what came, and a few lines around it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

LIMIT = 3000
"""Lines beyond which two texts are not compared: the time grows with their square."""
AROUND = 3


@dataclass(frozen=True)
class DiffLine:
    """A line; ``mark`` is "+", "\N{MINUS SIGN}", "…" between two places, or "" for an unchanged one."""

    text: str
    mark: str = ""

    @property
    def word(self) -> str:
        """The mark for those who hear the page."""
        return {"+": "added: ", "\N{MINUS SIGN}": "removed: "}.get(self.mark, "")


def difference(before: str, after: str) -> list[DiffLine] | None:
    """The lines that differ with what stands around them; empty when none does, None when there are too many
    lines to compare."""
    old, new = before.splitlines(), after.splitlines()
    if max(len(old), len(new)) > LIMIT:
        return None
    found: list[DiffLine] = []
    for line in difflib.unified_diff(old, new, n=AROUND, lineterm=""):
        if line.startswith(("--- ", "+++ ")) and not found:
            continue
        if line.startswith("@@"):
            found += [DiffLine("", "…")] if found or not line.startswith(("@@ -1 ", "@@ -1,")) else []
        else:
            mark = {"+": "+", "-": "\N{MINUS SIGN}"}.get(line[0], "")
            found.append(DiffLine(line[1:], mark))
    return found
