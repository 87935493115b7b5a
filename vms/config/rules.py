"""Rules R1 … R35: what deserves a refusal, a warning or a word before a machine is created or started.

Pure functions of the configuration and the node's facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vms.config.vmconfig import VMConfig
from vms.hardware.context import NodeFacts

Severity = Literal["block", "warn", "info"]


@dataclass(frozen=True)
class Finding:
    """One thing to say. ``keys`` are the configuration keys it is about; ``fix`` is the change that ends it:
    key → new text, ``None`` to remove the key."""

    rule: str
    severity: Severity
    keys: tuple[str, ...]
    text: str
    fix: Mapping[str, str | None] | None = None


def findings(config: VMConfig, facts: NodeFacts) -> list[Finding]:
    """Every finding for this configuration on this node, blocking ones first."""
    return []
