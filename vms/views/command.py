"""The command panel of the Hardware page: what runs, and what the next start will run."""

from __future__ import annotations

from collections.abc import Mapping

from django.urls import reverse

from vms.errors import VMError
from vms.forms.command import Command, Place, script, told
from vms.models import VM, Storage
from vms.models.waiting import Waiting
from vms.operations.nextstart import facts_of, parts_of, paths_of, tpm_state
from vms.qemu.explain import Argument, arguments, tab_of
from vms.views.words import OPTION_KEYS

ROWS = dict.fromkeys(("sockets", "cores", "cpu", "vcpus", "numa", "cpulimit"), "processors") | dict.fromkeys(
    ("memory", "balloon", "shares", "hugepages"), "memory"
)
"""Keys that share a line of the Hardware table."""
SAME = "This command runs now, and the next start runs it again."
DIFFERENT = "The next start differs from what runs now: + comes, \N{MINUS SIGN} goes."
CHANGED = "This is what the next start runs. Your last change: + came, \N{MINUS SIGN} went."
STOPPED = "This is what the next start runs."


def command_of(vm: VM, before: Mapping[str, str] | None = None) -> Command:
    """The panel for ``vm``, whose parts were prefetched. ``before`` is what stood before the last change; a
    machine that is off is compared with it, one that runs with what runs."""
    mapping = Waiting.of(vm).effective
    facts = facts_of(vm.node, {row.name: row.facts() for row in Storage.objects.all()})
    try:
        now = arguments(parts_of(vm.vmid, mapping, facts))
    except VMError as error:
        return Command(why_not=str(error))
    other = vm.launch.get("config") if vm.running else before
    running: list[Argument] | None = None
    if isinstance(other, Mapping):
        try:
            running = arguments(parts_of(vm.vmid, other, facts))
        except VMError:
            running = None
    groups = told(now, running, lambda key: place(vm, key))
    changed = any(line.mark for group in groups for cause in group.causes for line in cause.lines)
    note = (DIFFERENT if changed else SAME) if running is not None else STOPPED
    if not vm.running:
        note = CHANGED if changed else STOPPED
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
