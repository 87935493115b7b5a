"""A draft's life: begun with Proxmox's defaults, found again, finished or thrown away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.db.models import QuerySet

from vms.errors import ConfigError
from vms.forms import disks, network
from vms.forms.hardware import write
from vms.forms.processors import default_cpu
from vms.models import VM, Node, Task
from vms.models.configuration import with_parts
from vms.operations import drafts
from vms.wizard.drafts import Draft, locate
from vms.wizard.follow import current, desired, put
from vms.wizard.presets import lay_over
from vms.wizard.system import settle
from vms.wizard.tabs import SLUGS, tab_of

FIRST = {
    "ostype": "l26", "sockets": "1", "cores": "1", "numa": "0", "memory": "2048",
    "scsihw": "virtio-scsi-single", "ide2": "none,media=cdrom",
}  # fmt: skip
"""What the wizard sends when nobody touches anything (besides a disk and a network card)."""


def begin(user: Any, node: Node, preset: str = "", values: Mapping[str, str] | None = None) -> VM:
    """A new draft on ``node`` with the defaults of a Linux guest, a preset and given ``values`` laid over
    them. Raises :class:`VMError`."""
    vm = drafts.new_draft(user, node)
    draft = Draft(vm, user)
    draft.mapping.update(FIRST)
    write(draft.mapping, "cpu.cputype", default_cpu(draft))
    disks.add_disk(draft)
    network.add_nic(draft)
    for name, text in desired(draft).items():
        if current(draft, name) != text:
            put(draft, name, text)
    settle(draft)
    if preset or values:
        lay_over(draft, preset, values or {})
    else:
        draft.store()
    draft.rest.pop("previous", None)
    draft.remember()
    return draft.vm


def drafts_of(user: Any) -> QuerySet[VM]:
    """The drafts a user may resume: their own; an operator's eye sees all."""
    rows = VM.everything.filter(stage=VM.Stage.DRAFT).select_related("node", "owner", "pool")
    rows = rows.exclude(lock="clone")  # those are clones being made, and nobody's to fill in
    rows = rows if user.is_superuser else rows.filter(owner=user)
    return rows.order_by("-modified")


def find(user: Any, vmid: int, *, lock: bool = False) -> VM | None:
    """The draft with this number, or that once had it, with its drives and cards; None when there is none for
    this user. ``lock``: nobody else may change it until the transaction ends."""
    rows = with_parts(drafts_of(user))
    rows = rows.select_for_update(of=("self",)) if lock else rows
    found: VM | None = rows.filter(vmid=vmid).first()
    return found or next((vm for vm in rows if vmid in vm.draft.get("was", ())), None)


def place_of(vm: VM) -> str:
    """The tab somebody was on when they left."""
    slug = str(vm.draft.get("at", SLUGS[0]))
    return slug if slug in SLUGS else SLUGS[0]


def creating(vm: VM) -> Task | None:
    """The create task that works on this draft now."""
    if not vm.lock:
        return None
    return Task.objects.filter(vm=vm, type="qmcreate").first()


def failures(draft: Draft) -> dict[str, str]:
    """What the last attempt to create it died of: configuration key ("" for all of it) → words."""
    found = draft.rest.get("error", {})
    return dict(found) if isinstance(found, dict) else {}


def place_failures(draft: Draft) -> None:
    """Put the last attempt's errors on their fields, once; they stay until the field is sent again."""
    errors = failures(draft)
    for key in [key for key in errors if tab_of(key)]:
        part, _, rest = errors.pop(key).partition(": ")
        known = re.fullmatch(r"[a-z_-]+", part) is not None and rest
        error = ConfigError(key, rest if known else part, part=part if known else "")
        scope, name, text = locate(error, draft.mapping)
        draft.blame(scope, name, text)
    if errors:
        draft.rest["error"] = errors
    else:
        draft.rest.pop("error", None)


def finish(draft: Draft, *, start: bool) -> Task:
    """Ask for the machine. Raises :class:`VMError`; the draft is then as it was."""
    return drafts.finish_draft(draft.vm, draft.user, start)


def discard(vm: VM, user: Any) -> None:
    """Throw the draft away. Raises :class:`VMError`."""
    drafts.discard_draft(vm, user)
