"""Minting and redeeming of console tickets.

The token is 256 random bits in base64url, shown once to the page that asked for it and carried back in the
websocket's subprotocol; it never stands in an address or a log. Every condition is checked when it is minted
*and* when it is redeemed: a right taken away in between counts.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import timedelta
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest
from django.utils import timezone

from console.models import ConsoleTicket
from vms.access import may_vm, require_vm
from vms.errors import AccessError, StateError
from vms.hardware.serial import display_of, terminals
from vms.models import VM

LIFE = timedelta(seconds=20)
"""From mint to redemption; the page connects at once, so this only covers a slow network (30 s at most)."""
PRIVILEGE = "VM.Console"
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


class Refused(Exception):
    """A console will not be opened. The text is for our log; the client only learns that it was refused."""


def digest(secret: str) -> str:
    """What is stored of a token or a session key."""
    return hashlib.sha256(secret.encode()).hexdigest()


def mint(
    user: Any, session_key: str, vm: VM, *, kind: str, view_only: bool, address: str = "", port: int = 0
) -> str:
    """A token for one opening of ``vm``'s console by ``user`` in the session ``session_key``; ``port`` is the
    serial line's number.

    Raises :class:`AccessError` without ``VM.Console`` or a session, :class:`StateError` when there is no
    screen to show.
    """
    require_vm(user, PRIVILEGE, vm)
    if not session_key:
        raise AccessError("A console needs a signed-in session.")
    _require_output(vm, kind, port)
    token = secrets.token_urlsafe(32)
    ConsoleTicket.objects.create(
        digest=digest(token), session=digest(session_key), user=user, vm=vm, run_id=vm.run_id, kind=kind,
        port=port, view_only=view_only, address=address, expires=timezone.now() + LIFE,
    )  # fmt: skip
    return token


def _require_output(vm: VM, kind: str, port: int) -> None:
    """Raises :class:`StateError` when the VM has nothing of that kind to show now."""
    if not (vm.running and vm.run_id):
        raise StateError(f"VM {vm.vmid} is not running.", hint="Start it first.")
    display = display_of(vm.options)
    if kind == ConsoleTicket.Kind.VNC and display.startswith(("none", "serial")):
        raise StateError(f"VM {vm.vmid} has no screen: its display is '{display}'.", hint="See Hardware.")
    if kind == ConsoleTicket.Kind.SERIAL and port not in terminals(vm.options):
        hint = f"Add serial{port} in Hardware, as 'socket'."
        raise StateError(f"VM {vm.vmid} has no serial terminal {port}.", hint=hint)


def redeem(token: str, session_key: str, vmid: int) -> ConsoleTicket:
    """Use up ``token``; the ticket with its ``user`` and ``vm``. Raises :class:`Refused`.

    The conditional UPDATE lets exactly one of several openings win. A wrong session or VM does not match,
    so it cannot burn somebody else's ticket.
    """
    if not TOKEN.fullmatch(token):
        raise Refused("the token is malformed")
    user = user_of(session_key)
    if user is None:
        raise Refused("no signed-in session")
    now, key = timezone.now(), digest(token)
    taken = ConsoleTicket.objects.filter(
        digest=key, session=digest(session_key), user=user, vm__vmid=vmid, used=None, expires__gt=now
    ).update(used=now)
    if not taken:
        raise Refused("no such ticket, or used, or expired")
    ticket = ConsoleTicket.objects.select_related("vm", "vm__pool").get(digest=key)
    ticket.user = user
    if not may_vm(user, PRIVILEGE, ticket.vm):
        raise Refused(f"{user.get_username()} may not open VM {vmid}")
    if not ticket.vm.running or ticket.vm.run_id != ticket.run_id:
        raise Refused(f"the run of VM {vmid} has ended")
    return ticket


def user_of(session_key: str) -> Any:
    """Who is signed in with the session cookie ``session_key``: an active user, or None."""
    if not session_key:
        return None
    engine = import_module(settings.SESSION_ENGINE)
    request = HttpRequest()
    request.session = engine.SessionStore(session_key)
    user = get_user(request)
    return user if user.is_authenticated and user.is_active else None


def sweep() -> int:
    """Delete tickets nobody can use any more; how many."""
    return ConsoleTicket.objects.filter(expires__lt=timezone.now()).delete()[0]
