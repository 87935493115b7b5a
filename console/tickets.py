"""Minting and redeeming of console tickets.

The token is 256 random bits in base64url, shown once to the page that asked for it and carried back in the
websocket's subprotocol; it never stands in an address or a log. Every condition is checked when it is minted
*and* when it is redeemed: a right taken away in between counts.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from console.models import ConsoleTicket
from console.registry import SPICE
from vms.access import may_vm, require_vm
from vms.errors import AccessError, StateError
from vms.hardware.screens import no_spice
from vms.hardware.serial import display_of, terminals
from vms.models import VM

LIFE = timedelta(seconds=20)
"""From mint to redemption; the page connects at once, so this only covers a slow network (30 s at most)."""
VIEWER_LIFE = timedelta(seconds=30)
"""The same for a viewer file, which a person opens."""
PRIVILEGE = "VM.Console"
IN_BROWSERS = (ConsoleTicket.Kind.VNC, ConsoleTicket.Kind.SERIAL, ConsoleTicket.Kind.SPICE)
IN_VIEWERS = (ConsoleTicket.Kind.VIEWER,)
"""Each door takes its own kinds; a ticket for the other one does not even burn there."""
ONE_VIEWER = "SPICE has one viewer at a time and no way to only watch."
SPICE_LIMIT = timedelta(days=1)
"""How long a used ticket still opens further channels of the session it opened, while that is open."""
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
    _require_output(vm, kind, port, view_only)
    life = VIEWER_LIFE if kind == ConsoleTicket.Kind.VIEWER else LIFE
    token = secrets.token_urlsafe(32)
    ConsoleTicket.objects.create(
        digest=digest(token), session=digest(session_key), user=user, vm=vm, run_id=vm.run_id, kind=kind,
        port=port, view_only=view_only, address=address, expires=timezone.now() + life,
    )  # fmt: skip
    return token


def _require_output(vm: VM, kind: str, port: int, view_only: bool) -> None:
    """Raises :class:`StateError` when the VM has nothing of that kind to show now."""
    if not (vm.running and vm.run_id):
        raise StateError(f"VM {vm.vmid} is not running.", hint="Start it first.")
    display = display_of(vm.options)
    if kind == ConsoleTicket.Kind.VNC and display.startswith(("none", "serial")):
        raise StateError(f"VM {vm.vmid} has no screen: its display is '{display}'.", hint="See Hardware.")
    if kind in SPICE:
        if view_only:
            raise StateError(ONE_VIEWER, hint="Use noVNC with View only.")
        if missing := no_spice(display, built=bool(vm.node.facts.get("spice", True))):
            raise StateError(f"VM {vm.vmid} has no SPICE screen.", hint=missing)
    if kind == ConsoleTicket.Kind.SERIAL and port not in terminals(vm.options):
        hint = f"Add serial{port} in Hardware, as 'socket'."
        raise StateError(f"VM {vm.vmid} has no serial terminal {port}.", hint=hint)


def redeem(token: str, session_key: str, vmid: int, kinds: Sequence[str] = IN_BROWSERS) -> ConsoleTicket:
    """Use up ``token``; the ticket with its ``user`` and ``vm``. Raises :class:`Refused`.

    The conditional UPDATE lets exactly one of several openings win. A wrong session or VM does not match,
    so it cannot burn somebody else's ticket.
    """
    user, now = _user_with(token, session_key), timezone.now()
    found = _tickets(token, session_key, user, vmid, kinds)
    if not found.filter(used=None, expires__gt=now).update(used=now):
        raise Refused("no such ticket, or used, or expired")
    return _valid(found.get(), user, vmid)


def rejoin(token: str, session_key: str, vmid: int, kinds: Sequence[str]) -> ConsoleTicket:
    """The ticket a SPICE session was opened with, for another of its channels. Raises :class:`Refused`.

    For a caller who knows that the session is open: its ticket is used, and everything else still must hold.
    """
    user = _user_with(token, session_key)
    kinds = [kind for kind in kinds if kind in SPICE]
    ticket = _tickets(token, session_key, user, vmid, kinds).exclude(used=None).first()
    if ticket is None:
        raise Refused("this session is somebody else's")
    return _valid(ticket, user, vmid)


def _user_with(token: str, session_key: str) -> Any:
    if not TOKEN.fullmatch(token):
        raise Refused("the token is malformed")
    user = user_of(session_key)
    if user is None:
        raise Refused("no signed-in session")
    return user


def _tickets(
    token: str, session_key: str, user: Any, vmid: int, kinds: Sequence[str]
) -> QuerySet[ConsoleTicket]:
    found = ConsoleTicket.objects.select_related("vm", "vm__pool")
    return found.filter(
        digest=digest(token), session=digest(session_key), user=user, vm__vmid=vmid, kind__in=kinds
    )


def _valid(ticket: ConsoleTicket, user: Any, vmid: int) -> ConsoleTicket:
    """Raises :class:`Refused` when the privilege or the run is gone."""
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


def bearer(token: str) -> tuple[str, int]:
    """The browser session a viewer's ``token`` was given to, and the VM ID it is for. Uses nothing up.

    A viewer program brings no cookie, and the ticket only a digest of the session's key, so the keys of all
    live sessions are read. Raises :class:`Refused` for an unknown token and an ended session.
    """
    kinds = (ConsoleTicket.Kind.VIEWER,)
    found = ConsoleTicket.objects.filter(digest=digest(token), kind__in=kinds).select_related("vm").first()
    if found is None:
        raise Refused("a wrong password")
    return _session_of(found.session), found.vm.vmid


def _session_of(hashed: str) -> str:
    live = Session.objects.filter(expire_date__gt=timezone.now()).values_list("session_key", flat=True)
    found = next((key for key in live.iterator() if digest(key) == hashed), None)
    if found is None:
        raise Refused("the session has ended")
    return found


def awaited() -> list[int]:
    """IDs of VMs some viewer program may connect to now, the latest asked for first."""
    waiting = ConsoleTicket.objects.filter(
        kind=ConsoleTicket.Kind.VIEWER, used=None, expires__gt=timezone.now()
    )
    return list(waiting.values_list("vm__vmid", flat=True)[:8])


def sweep() -> int:
    """Delete tickets nobody can use any more; how many. Those of open SPICE sessions are still needed."""
    old = ConsoleTicket.objects.filter(expires__lt=timezone.now())
    spent = timezone.now() - SPICE_LIMIT
    return old.exclude(kind__in=SPICE, used__isnull=False, created__gt=spent).delete()[0]
