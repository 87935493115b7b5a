"""The command panel of the Hardware page: what runs, and what the next start will run."""

from __future__ import annotations

from collections.abc import Mapping

from django.urls import reverse

from vms.errors import VMError
from vms.forms.command import Command, Place, script, told
from vms.models import VM, Storage
from vms.models.configuration import config_of
from vms.operations.nextstart import facts_of, parts_of, paths_of, tpm_state
from vms.qemu.explain import Argument, arguments, tab_of
from vms.views.words import OPTION_KEYS

ROWS = dict.fromkeys(("sockets", "cores", "cpu", "vcpus", "numa", "cpulimit"), "processors") | dict.fromkeys(
    ("memory", "balloon", "shares", "hugepages"), "memory"
)
"""Keys that share a line of the Hardware table."""
SAME = "This command runs now, and the next start runs it again."
DIFFERENT = "The next start differs from what runs now: + comes, \N{MINUS SIGN} goes."
STOPPED = "This is what the next start runs."


def next_mapping(vm: VM, config: Mapping[str, str]) -> dict[str, str]:
    """The configuration with everything that waits for a cold start."""
    found = {**config, **{str(key): str(text) for key, text in vm.pending.items() if text is not None}}
    return {key: text for key, text in found.items() if vm.pending.get(key, "") is not None}


def command_of(vm: VM) -> Command:
    """The panel for ``vm``, whose parts were prefetched."""
    mapping = next_mapping(vm, config_of(vm))
    facts = facts_of(vm.node, {row.name: row.facts() for row in Storage.objects.all()})
    try:
        now = arguments(parts_of(vm.vmid, mapping, facts))
    except VMError as error:
        return Command(why_not=str(error))
    running: list[Argument] | None = None
    if vm.running and isinstance(vm.launch.get("config"), dict):
        try:
            running = arguments(parts_of(vm.vmid, vm.launch["config"], facts))
        except VMError:
            running = None
    groups = told(now, running, lambda key: place(vm, key))
    changed = any(line.mark for group in groups for cause in group.causes for line in cause.lines)
    note = STOPPED if running is None else DIFFERENT if changed else SAME
    text = script(facts.qemu_binary, now, paths_of(vm.vmid), tpm_state(mapping, facts))
    return Command(text, groups, changed=changed, note=note)


def place(vm: VM, key: str) -> Place:
    """The line of the Hardware or Options table that holds ``key``."""
    if not key:
        return Place("", "Always there")
    tab = tab_of(key)
    if key in OPTION_KEYS:
        address = reverse("vms:vm_options", args=[vm.vmid])
        return Place(tab, tab, f"{address}#row-{key}", f"{key}, on the Options page")
    return Place(tab, tab, f"#row-{ROWS.get(key, key)}", key)
