"""The watch over open consoles: who signed out, lost the privilege or whose VM ended is cut off in seconds.

A fixed number of queries a round whatever the number of consoles, and none while there are none.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.sessions.models import Session
from django.db import DatabaseError, close_old_connections, connections
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from console import registry as codes
from console import tickets
from console.registry import Console, Registry
from vms.access import may_vm
from vms.models import VM

log = logging.getLogger(__name__)

EVERY = 2.0
BLIND_LIMIT = 60.0
"""Seconds without an answer from the database after which every console is closed: rights are unknown."""
IDLE_LIMIT = 12 * 3600.0
"""Seconds without a byte from the client; a living noVNC asks for pixels whenever the screen changes."""
SWEEP_EVERY = 60.0


class Sweeper(threading.Thread):
    """Rounds every :data:`EVERY` seconds until :meth:`stop`."""

    def __init__(self, registry: Registry, every: float = EVERY) -> None:
        super().__init__(name="sweeper", daemon=True)
        self.registry = registry
        self.every = every
        self._stop_asked = threading.Event()
        self._seen = self._swept = time.monotonic()

    def stop(self) -> None:
        self._stop_asked.set()

    def run(self) -> None:
        while not self._stop_asked.wait(self.every):
            self.round()
        connections.close_all()

    def round(self) -> None:
        """One look at everything that is open."""
        try:
            close_old_connections()
            self.check(self.registry.all())
            if time.monotonic() - self._swept > SWEEP_EVERY:
                self._swept = time.monotonic()
                tickets.sweep()
            self._seen = time.monotonic()
        except DatabaseError as error:
            log.warning("consoles could not be checked: %s", error)
            if time.monotonic() - self._seen > BLIND_LIMIT:
                self.registry.end_all(codes.GOING_AWAY, "the database does not answer")

    def check(self, consoles: list[Console]) -> None:
        """End those whose session, privilege or run is gone."""
        if not consoles:
            return
        keys = {console.session_key for console in consoles}
        live = Session.objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
        sessions = {row.session_key: row.get_decoded() for row in live}
        users = get_user_model().objects.in_bulk({console.user_id for console in consoles})
        machines = VM.objects.filter(pk__in={console.vm_pk for console in consoles}).select_related("pool")
        vms = {vm.pk: vm for vm in machines}
        for console in consoles:
            why = _verdict(
                console, sessions.get(console.session_key), users.get(console.user_id), vms.get(console.vm_pk)
            )
            if why is not None:
                console.end(*why)


def _verdict(
    console: Console, session: dict[str, Any] | None, user: Any, vm: VM | None
) -> tuple[int, str] | None:
    """Why ``console`` must close (code, words), or None."""
    if user is None or not user.is_active or session is None or not _belongs(session, user):
        return codes.SIGNED_OUT, "signed out"
    if vm is None:
        return codes.RUN_ENDED, "the VM is gone"
    if not may_vm(user, tickets.PRIVILEGE, vm):
        return codes.NOT_PERMITTED, "no longer permitted"
    if not vm.running or vm.run_id != console.run_id:
        return codes.RUN_ENDED, "the VM was stopped"
    if time.monotonic() - (console.main or console).heard > IDLE_LIMIT:
        return codes.IDLE, "nobody is watching"
    return None


def _belongs(session: dict[str, Any], user: Any) -> bool:
    """Whether the session is still ``user``'s: a changed password ends the sessions made before it."""
    if str(session.get(SESSION_KEY)) != str(user.pk):
        return False
    known = session.get(HASH_SESSION_KEY, "")
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(known, good) for good in hashes)
