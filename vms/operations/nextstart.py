"""What a start of a VM would run, worked out without starting anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.conf import settings

from vms.config.vmconfig import VMConfig
from vms.hardware.context import LaunchContext, NodeFacts, RuntimePaths
from vms.hardware.parts import Part
from vms.hardware.volume import resolve
from vms.models import Node
from vms.qemu.cmdline import parts


def paths_of(vmid: int) -> RuntimePaths:
    """Where the VM's sockets and log are on a node of this installation."""
    return RuntimePaths.of(str(settings.CONF.run_dir), str(settings.CONF.log_dir.parent / "serial"), vmid)


def facts_of(node: Node, storages: Mapping[str, Mapping[str, Any]]) -> NodeFacts:
    """The node's facts with ``storages`` known besides its own."""
    facts = NodeFacts.from_json(node.facts)
    return replace(facts, storages={**facts.storages, **storages})


def parts_of(vmid: int, mapping: Mapping[str, str], facts: NodeFacts) -> list[Part]:
    """Every part of the command for ``mapping``. Raises :class:`ConfigError` on the key at fault.

    A card on a bridge is shown with the name of its tap device: a launch hands over an open one instead.
    """
    return parts(VMConfig.parse(mapping), LaunchContext(vmid=vmid, facts=facts, paths=paths_of(vmid)))


def tpm_state(mapping: Mapping[str, str], facts: NodeFacts) -> str:
    """The file with the TPM's state; "" without a TPM."""
    volume = mapping.get("tpmstate0", "").partition(",")[0]
    if not volume:
        return ""
    try:
        return resolve(volume, facts.storages).filename
    except ValueError:
        return ""
