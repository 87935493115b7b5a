"""Which fields have a table that compares their choices, and the words that open it."""

from __future__ import annotations

COMPARISONS = {
    "cache": ("compare cache modes", "wizard/compare/cache.html"),
    "cpu.cputype": ("compare CPU types", "wizard/compare/cpu.html"),
    "bus": ("compare buses", "wizard/compare/bus.html"),
    "bios": ("compare firmware", "wizard/compare/bios.html"),
}
"""Field → the control's words and the template with the table."""
