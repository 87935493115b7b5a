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
from vms.models import VM, Node
from vms.models.waiting import Waiting
from vms.qemu.cmdline import parts
from vms.qemu.explain import Argument, arguments, difference


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


def pending_difference(vm: VM, facts: NodeFacts) -> tuple[list[Argument], list[Argument]]:
    """What the next start takes from the command that runs and what it adds, each with the key behind it.

    Nothing for a VM that does not run. Raises :class:`ConfigError` on the key at fault.
    """
    running = vm.launch.get("config")
    if not vm.running or not isinstance(running, Mapping):
        return [], []
    before = arguments(parts_of(vm.vmid, running, facts))
    return difference(before, arguments(parts_of(vm.vmid, Waiting.of(vm).effective, facts)))


def tpm_state(mapping: Mapping[str, str], facts: NodeFacts) -> str:
    """The file with the TPM's state; "" without a TPM."""
    volume = mapping.get("tpmstate0", "").partition(",")[0]
    if not volume:
        return ""
    try:
        return resolve(volume, facts.storages).filename
    except ValueError:
        return ""
