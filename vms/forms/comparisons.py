"""Which fields have a table that compares their choices, and the words that open it."""

from __future__ import annotations

COMPARISONS = {
    "cache": ("compare cache modes", "components/compare/cache.html"),
    "cpu.cputype": ("compare CPU types", "components/compare/cpu.html"),
    "bus": ("compare buses", "components/compare/bus.html"),
    "bios": ("compare firmware", "components/compare/bios.html"),
}
"""Field → the control's words and the template with the table."""
