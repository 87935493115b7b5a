"""One guest's serial line, shared by everybody who looks at it.

QEMU's socket takes one client at a time. So one thread holds that connection and gives each viewer an end of
a socket pair: for the viewer's :class:`console.pump.Pump` this is a guest's socket like any other, and what a
watcher types is dropped there. The guest never waits for a viewer: one that does not read loses the middle
of what was printed. Viewers wait for the guest: nothing more is read of them while it takes no input.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

CHUNK = 1 << 16
SCROLLBACK = 1 << 16
"""Bytes of the latest output a new viewer gets first; kept while the line is held."""
BACKLOG = 1 << 18
"""Bytes that wait for one viewer, beyond what its socket holds; above it the older ones are left out."""
INPUT = 1 << 14
"""Bytes typed or pasted that the guest has not taken, above which no viewer is read."""
LINGER = 120.0
"""Seconds a line without viewers is held, so that a page loaded anew finds what was printed meanwhile."""
LEFT_OUT = b"\x18\x1b[0m\r\n[%d bytes left out: this viewer did not read]\r\n"
"""CAN ends an escape sequence that was cut in two."""
IN, OUT = select.POLLIN, select.POLLOUT


class Viewer:
    """Our end of one viewer's socket pair, and what it has not taken yet."""

    def __init__(self, link: socket.socket, first: bytes) -> None:
        link.setblocking(False)
        self.link = link
        self.backlog = bytearray(first)

    def give(self, data: bytes) -> None:
        """Add ``data`` to what the viewer gets; at most :data:`BACKLOG` bytes wait."""
        self.backlog += data
        if len(self.backlog) > BACKLOG:
            lost = len(self.backlog) - SCROLLBACK
            self.backlog = bytearray(LEFT_OUT % lost) + self.backlog[lost:]

    def flush(self) -> None:
        """Write what its socket takes now; one that is gone is noticed when it is read."""
        with suppress(OSError):
            while self.backlog:
                del self.backlog[: self.link.send(self.backlog)]


class Line(threading.Thread):
    """The holder of one connection ``guest``: until that ends, or :data:`LINGER` after the last viewer."""

    def __init__(self, guest: socket.socket, linger: float = LINGER) -> None:
        super().__init__(name="serial line", daemon=True)
        guest.setblocking(False)
        self.guest = guest
        self.linger = linger
        self.tail = bytearray()
        self.todo = bytearray()
        self.viewers: dict[int, Viewer] = {}
        self.lonely = time.monotonic()
        self.over = False
        self._lock = threading.Lock()
        self._bell, self._ear = socket.socketpair()
        self._ear.setblocking(False)

    def view(self) -> socket.socket | None:
        """A socket that reads and types on the line; None when the line has ended."""
        with self._lock:
            if self.over:
                return None
            ours, theirs = socket.socketpair()
            self.viewers[ours.fileno()] = Viewer(ours, bytes(self.tail))
            self._bell.send(b".")
            return theirs

    def run(self) -> None:
        while self._round():
            pass
        with self._lock:
            self.over = True
            for viewer in self.viewers.values():
                viewer.flush()
                viewer.link.close()
            self.viewers.clear()
            for link in (self.guest, self._bell, self._ear):
                link.close()

    def _round(self) -> bool:
        """Wait for something, and carry it. False when the line is to end."""
        with self._lock:
            if not self.viewers and time.monotonic() - self.lonely >= self.linger:
                return False
            poll = self._asked()
        for fd, event in poll.poll(None if self.viewers else self.linger * 1000):
            with self._lock:
                if fd == self._ear.fileno():
                    self._ear.recv(CHUNK)
                elif fd == self.guest.fileno():
                    if not self._from_guest(event):
                        return False
                elif viewer := self.viewers.get(fd):
                    self._from_viewer(viewer, event)
        return True

    def _asked(self) -> select.poll:
        poll = select.poll()
        poll.register(self._ear, IN)
        poll.register(self.guest, IN | (OUT if self.todo else 0))
        for viewer in self.viewers.values():
            poll.register(viewer.link, (IN if len(self.todo) < INPUT else 0) | (OUT if viewer.backlog else 0))
        return poll

    def _from_guest(self, event: int) -> bool:
        try:
            if event & OUT:
                del self.todo[: self.guest.send(self.todo)]
            data = self.guest.recv(CHUNK) if event & ~OUT else None
        except BlockingIOError:
            return True
        except OSError:
            return False
        if data is None:
            return True
        self.tail = (self.tail + data)[-SCROLLBACK:]
        for viewer in self.viewers.values():
            viewer.give(data)
            viewer.flush()
        return bool(data)

    def _from_viewer(self, viewer: Viewer, event: int) -> None:
        if event & OUT:
            viewer.flush()
        if not event & ~OUT:
            return
        try:
            data = viewer.link.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.todo += data
        if not data:
            del self.viewers[viewer.link.fileno()]
            viewer.link.close()
            self.lonely = time.monotonic()


class Lines:
    """The lines this process holds, by name."""

    def __init__(self, linger: float = LINGER) -> None:
        self.linger = linger
        self._held: dict[tuple[object, ...], Line] = {}
        self._lock = threading.Lock()

    def view(self, name: tuple[object, ...], connect: Callable[[], socket.socket]) -> socket.socket:
        """A viewer's socket on the line ``name``, which ``connect`` opens if nobody holds it yet.

        Raises what ``connect`` raises.
        """
        with self._lock:
            self._held = {key: line for key, line in self._held.items() if not line.over}
            held = self._held.get(name)
            found = held.view() if held else None
            if found is None:
                line = self._held[name] = Line(connect(), self.linger)
                found = line.view()
                line.start()
            assert found is not None  # noqa: S101  (a line that was not started has not ended)
            return found
