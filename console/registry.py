"""The consoles that are open in this process, and how one is ended from outside its thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

MAX_PER_VM = 8
MAX_PER_USER = 40
MAX_CHANNELS = 32
"""Of one SPICE session; they count as one console."""
SPICE = frozenset({"spice", "viewer"})
"""Kinds of which QEMU serves one a VM: who comes later takes over."""

GOING_AWAY = 1001
SIGNED_OUT = 4001
NOT_PERMITTED = 4003
RUN_ENDED = 4004
IDLE = 4008
TAKEN_OVER = 4009
TOO_MANY = 4029
"""Close codes of our own (4000–4999 are free for applications); ``static/js/console-link.js`` knows them."""


class CanShutDown(Protocol):
    """A socket, or what stands for one."""

    def shutdown(self, how: int, /) -> None: ...


@dataclass(eq=False)
class Console:
    """One open console. ``ending`` is (close code, reason) once somebody wants it closed.

    A SPICE session has a main console, which used up the ``ticket`` (its digest) and has the number QEMU gave
    the ``session``, 0 until then, and further channels whose ``main`` it is.
    """

    user_id: int
    username: str
    session_key: str
    vm_pk: int
    vmid: int
    run_id: str
    kind: str
    view_only: bool
    address: str = ""
    port: int = 0
    ticket: str = ""
    main: Console | None = None
    session: int = 0
    opened: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    bytes_in: int = 0
    bytes_out: int = 0
    ending: tuple[int, str] | None = None
    _target: CanShutDown | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        """How logs and the audit call it: ``101 vnc view-only``, ``101 serial0``."""
        kind = f"{self.kind}{self.port}" if self.kind == "serial" else self.kind
        return f"{self.vmid} {kind}{' view-only' if self.view_only else ''}"

    def attach(self, target: CanShutDown | None) -> None:
        """The socket whose shutdown wakes the console's thread; None before it is closed."""
        with self._lock:
            self._target = target

    def end(self, code: int, reason: str) -> None:
        """Ask its thread to close it, and wake that thread. The first reason stands."""
        with self._lock:
            if self.ending is None:
                self.ending = (code, reason)
            if self._target is not None:
                with suppress(OSError):  # the guest's end may be gone already
                    self._target.shutdown(socket.SHUT_RDWR)


class Registry:
    """All open consoles; at most so many a VM and a user."""

    def __init__(self, per_vm: int = MAX_PER_VM, per_user: int = MAX_PER_USER) -> None:
        self.per_vm = per_vm
        self.per_user = per_user
        self._open: set[Console] = set()
        self._changed = threading.Condition()

    def enter(self, console: Console) -> str:
        """Count ``console`` in. An empty string, or in words why there is no room."""
        with self._changed:
            if console.main is not None:
                return self._enter_channel(console, console.main)
            mains = [other for other in self._open if other.main is None]
            if sum(other.vm_pk == console.vm_pk for other in mains) >= self.per_vm:
                return f"{self.per_vm} consoles of VM {console.vmid} are open; close one first"
            if sum(other.user_id == console.user_id for other in mains) >= self.per_user:
                return f"you have {self.per_user} consoles open; close one first"
            if console.kind in SPICE:
                words = f"{console.username} opened this screen and took it over"
                former = [other for other in mains if other.kind in SPICE and other.vm_pk == console.vm_pk]
                self.end_all(TAKEN_OVER, words, former)
            self._open.add(console)
            return ""

    def _enter_channel(self, console: Console, main: Console) -> str:
        if main not in self._open or main.ending:
            return "the session has ended"
        if sum(other.main is main for other in self._open) >= MAX_CHANNELS:
            return f"the session has {MAX_CHANNELS} channels already"
        self._open.add(console)
        return ""

    def leave(self, console: Console) -> None:
        """Count ``console`` out; the channels of a session end with its main one."""
        with self._changed:
            self._open.discard(console)
            channels = [other for other in self._open if other.main is console]
            self._changed.notify_all()
        self.end_all(GOING_AWAY, "the session has ended", channels)

    def main_of(self, ticket: str) -> Console | None:
        """The open console that used up the ticket of this digest, if it can have further channels."""
        return next((each for each in self._sessions() if each.ticket == ticket), None)

    def of_session(self, session: int) -> list[Console]:
        """Main consoles of viewer programs whose SPICE session has that number."""
        return [each for each in self._sessions() if each.kind == "viewer" and each.session == session]

    def _sessions(self) -> list[Console]:
        return [each for each in self.all() if each.kind in SPICE and each.main is None]

    def all(self) -> list[Console]:
        with self._changed:
            return list(self._open)

    def end_all(self, code: int, reason: str, consoles: Iterable[Console] | None = None) -> None:
        for console in self.all() if consoles is None else consoles:
            console.end(code, reason)

    def wait_empty(self, seconds: float) -> bool:
        """Whether every console has left within ``seconds``."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, seconds)
