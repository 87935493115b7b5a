"""From a token to an open console that is counted and audited: the same for every door."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.db import DatabaseError

from console import registry as codes
from console.registry import Console, Registry
from console.tickets import digest, redeem, rejoin
from vms.models import AuditEntry

log = logging.getLogger(__name__)


def admit(registry: Registry, token: str, session_key: str, vmid: int, kinds: Sequence[str]) -> Console:
    """The console ``token`` opens, or the further channel of the SPICE session that it opened.

    One there is no room for has its ``ending`` already. Raises :class:`Refused` and ``DatabaseError``.
    """
    main = registry.main_of(digest(token))
    if main is None:
        ticket = redeem(token, session_key, vmid, kinds)
    else:
        ticket = rejoin(token, session_key, vmid, kinds)
    console = Console(
        user_id=ticket.user.pk, username=ticket.user.get_username(), session_key=session_key,
        vm_pk=ticket.vm.pk, vmid=ticket.vm.vmid, run_id=ticket.run_id, kind=ticket.kind,
        port=ticket.port, view_only=ticket.view_only, address=ticket.address,
        ticket=ticket.digest, main=main,
    )  # fmt: skip
    full = registry.enter(console)
    if full:
        console.end(codes.TOO_MANY, full)
    record("open", console)
    return console


def record(what: str, console: Console) -> None:
    """Log and audit an opening or closing. A database that is away loses the audit, never the console.

    A session's further channels are not told one by one.
    """
    if console.main is not None:
        return
    text = console.name
    if what == "close":
        reason = console.ending[1] if console.ending else "lost"
        text += f", {console.bytes_out} bytes out, {console.bytes_in} in: {reason}"
    log.info("console %s: %s by %s", what, text, console.username)
    try:
        AuditEntry.objects.create(
            username=console.username,
            action=f"console-{what}",
            target=f"VM {text}"[:200],
            address=console.address,
        )
    except DatabaseError as error:
        log.error("the console's audit entry was not written: %s", error)
