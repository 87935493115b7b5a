"""The consoles that are open in this process, and how one is ended from outside its thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

MAX_PER_VM = 8
MAX_PER_USER = 40

GOING_AWAY = 1001
SIGNED_OUT = 4001
NOT_PERMITTED = 4003
RUN_ENDED = 4004
IDLE = 4008
TOO_MANY = 4029
"""Close codes of our own (4000–4999 are free for applications); ``static/js/console.js`` knows them."""


@dataclass(eq=False)
class Console:
    """One open console. ``ending`` is (close code, reason) once somebody wants it closed."""

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
    opened: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    bytes_in: int = 0
    bytes_out: int = 0
    ending: tuple[int, str] | None = None
    _target: socket.socket | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        """How logs and the audit call it: ``101 vnc view-only``, ``101 serial0``."""
        kind = f"{self.kind}{self.port}" if self.kind == "serial" else self.kind
        return f"{self.vmid} {kind}{' view-only' if self.view_only else ''}"

    def attach(self, target: socket.socket | None) -> None:
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
            if sum(other.vm_pk == console.vm_pk for other in self._open) >= self.per_vm:
                return f"{self.per_vm} consoles of VM {console.vmid} are open; close one first"
            if sum(other.user_id == console.user_id for other in self._open) >= self.per_user:
                return f"you have {self.per_user} consoles open; close one first"
            self._open.add(console)
            return ""

    def leave(self, console: Console) -> None:
        with self._changed:
            self._open.discard(console)
            self._changed.notify_all()

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
