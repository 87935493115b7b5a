"""Rules R1 … R35: what deserves a refusal, a warning or a word before a machine is created or started.

Pure functions of the configuration and the node's facts; every door asks :func:`findings`: the wizard, the
hardware page, the admin, an import, ``qm``, and a launch once more. Not in the list are the rules that say
how something is done instead of finding something: what a user set is never changed behind his back (R4, the
wizard), and a unit stands beside its number (part of R27, the form).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vms.config.finding import Case, Finding, Severity
from vms.config.rulebook import board, disks, firmware, guest, network, processor
from vms.config.vmconfig import VMConfig
from vms.hardware.context import NodeFacts

_ORDER: dict[Severity, int] = {"block": 0, "warn": 1, "info": 2}

Rule = Callable[[Case], Iterator[Finding]]
RULES: tuple[Rule, ...] = (
    firmware.windows_11,
    firmware.variables,
    firmware.unsigned_image,
    firmware.network_boot,
    guest.identifier,
    guest.name,
    guest.boot,
    guest.agent,
    guest.windows_drivers,
    guest.driver_disc_order,
    guest.windows_balloon,
    processor.accelerator,
    processor.model,
    processor.old_model,
    processor.flags,
    processor.threads,
    processor.overcommit,
    processor.memory,
    processor.huge_pages,
    disks.cache,
    disks.async_io,
    disks.io_thread,
    disks.discard,
    disks.no_snapshots,
    disks.space,
    disks.places,
    disks.readable,
    board.passed_through,
    board.shared_folders,
    board.graphics_pass_through,
    board.clipboard,
    board.terminal,
    board.newer_version,
    network.bridges,
    network.addresses,
    network.rates,
)
"""Every rule, in the order in which its findings are told within one severity."""


def findings(config: VMConfig, facts: NodeFacts, vmid: int | None = None) -> list[Finding]:
    """Every finding for this configuration on this node, blocking ones first.

    ``vmid`` is the number the machine is to get, for whoever creates one.
    """
    case = Case(config, facts, vmid)
    found = [finding for rule in RULES for finding in rule(case)]
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


__all__ = ["RULES", "Case", "Finding", "Rule", "Severity", "findings"]
