"""Protection: a VM that is not to be removed, who says so and why.

The key ``protection`` is PVE's. Beside it stands ``VM.guard``: ``reason``, ``owner`` and ``since``, and
``came``: what brought it along where nobody switched it on, as a clone's source did. It is dropped with the
protection, through whatever door that went.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.dispatch import receiver
from django.utils import timezone

from vms.errors import StateError
from vms.models import VM
from vms.models.configuration import saved

SWITCH_OFF = "Switch Protection off under Options first."


def protected(vm: VM) -> bool:
    """Whether protection is on."""
    return str(vm.options.get("protection", "0")) == "1"


def said_of(vm: VM) -> str:
    """Who protects it since when and why, as a sentence: ``Protected by anna since 2 May 2025: the shop.``"""
    guard = vm.guard if isinstance(vm.guard, dict) else {}
    owner, reason = str(guard.get("owner") or ""), str(guard.get("reason") or "")
    words = f"Protected by {owner}" if owner else "Protected"
    since = since_of(vm)
    if since is not None:
        words += f" since {timezone.localtime(since):%-d %B %Y}"
    if guard.get("came"):
        words += f", {guard['came']}"
    return f"{words}: {reason.rstrip('.')}." if reason else f"{words}; no reason was given."


def since_of(vm: VM) -> datetime | None:
    """When protection was switched on; None where nobody noted it."""
    try:
        return datetime.fromisoformat(str(vm.guard["since"]))
    except (KeyError, TypeError, ValueError):
        return None


def check_protection(vm: VM, what: str) -> None:
    """Raise :class:`StateError` when ``vm`` is protected and ``what`` would go: in PVE's words."""
    if protected(vm):
        raise StateError(f"can't remove {what} - protection mode enabled", hint=f"{said_of(vm)} {SWITCH_OFF}")


def note_owner(vm: VM, owner: str, came: str = "") -> None:
    """Store who switched protection on where no reason was asked for; whoever did it first stays.

    ``came``: what it came with when something else was done, as words that follow the day.
    """
    owner = "" if owner == "system" else owner
    if protected(vm) and (owner or came) and not (vm.guard.get("owner") or vm.guard.get("came")):
        note_guard(vm, owner, str(vm.guard.get("reason") or ""), came)


def note_guard(vm: VM, owner: str, reason: str, came: str = "") -> None:
    """Store who protects it and why: after protection was switched on, in the same transaction."""
    with transaction.atomic():
        since = VM.everything.values_list("guard", flat=True).get(pk=vm.pk).get("since")
        vm.guard = {"reason": reason, "owner": owner, "since": since or timezone.now().isoformat()}
        vm.guard |= {"came": came} if came else {}
        VM.everything.filter(pk=vm.pk).update(guard=vm.guard)


@receiver(saved, dispatch_uid="vms.operations.protection")
def follow(sender: Any, vm: VM, **more: Any) -> None:
    """Protection came or went, through whatever door: the guard comes or goes with it."""
    if protected(vm) == bool(vm.guard):
        return
    vm.guard = {"reason": "", "owner": "", "since": timezone.now().isoformat()} if protected(vm) else {}
    VM.everything.filter(pk=vm.pk).update(guard=vm.guard)
