"""Typed QMP: one connection to one running QEMU.

Built on ``qemu.qmp``; this module owns every trap of that library:

- a socket serves one client, a second one connects and then hangs in the handshake: every connect
  has a time limit, and the worker's monitor is nobody else's;
- a listener stays silent when QEMU dies, and keeps a history without end: events reach plain
  callbacks here, and the end of the connection is an event of its own (:meth:`Monitor.on_close`);
- an event that comes while a connection begins is taken for QEMU's refusal: such a one is begun again;
- a command whose answer never came may still have happened: that is :class:`OutcomeUnknown`;
- after an unclean end ``disconnect()`` raises what ended it, and must be called all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, QMPClient, QMPError, Runstate
from qemu.qmp.qmp_client import NegotiationError

from vms.errors import MonitorError, OutcomeUnknown

# The library prints tracebacks of its own for ends that are normal here (a guest was switched off).
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)

log = logging.getLogger(__name__)

GONE = "Disconnected"
"""``MonitorError.error_class`` when nothing was sent because there is no QEMU to send it to."""


@dataclass(frozen=True)
class Event:
    """One QMP event. ``seconds`` is QEMU's own clock (Unix time)."""

    name: str
    data: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class BlockInfo:
    """A drive as the guest sees it (``query-block``): what is in it, and how it is cached.

    ``device`` is QEMU's name or the device's path; ``filename`` is empty when the tray is.
    """

    device: str
    node_name: str
    filename: str
    driver: str
    read_only: bool
    direct: bool
    no_flush: bool
    writeback: bool
    discard: str
    detect_zeroes: str
    io_status: str


@dataclass(frozen=True)
class VCpu:
    """A virtual CPU (``query-cpus-fast``) and the host thread that runs it."""

    index: int
    thread_id: int
    props: Mapping[str, int]


class Monitor:
    """One QMP connection. Make one with :meth:`connect`; end it with :meth:`close`.

    Closing the monitor does not touch the guest.
    """

    def __init__(self, client: QMPClient) -> None:
        """For :meth:`connect` and :meth:`over` only."""
        self._client = client
        self._on_event: list[Callable[[Event], None]] = []
        self._on_close: list[Callable[[], None]] = []
        self._closed = asyncio.Event()
        self._handing = asyncio.Lock()
        # A filter that hands over and then refuses: the library keeps each accepted event for ever.
        client.events.event_filter = self._deliver
        self._watcher = asyncio.create_task(self._watch(), name="qmp-watch")

    @classmethod
    async def connect(cls, path: str | Path, timeout: float = 5) -> Self:
        """Connect to the QMP socket at ``path`` within ``timeout`` seconds.

        Raises :class:`MonitorError` (class ``Disconnected``) when nobody listens there, when somebody
        else holds the socket already, or when what answers is no QEMU.
        """
        for _ in range(2):
            try:
                return await cls._open(str(path), timeout)
            except MonitorError as error:
                if not _interrupted(error.__cause__):
                    raise
        return await cls._open(str(path), timeout)

    @classmethod
    async def over(cls, connected: socket.socket, timeout: float = 5) -> Self:
        """The same over a socket that is connected already; it belongs to the monitor from now on."""
        try:
            return await cls._open(connected, timeout)
        except BaseException:
            connected.close()
            raise

    @classmethod
    async def _open(cls, address: str | socket.socket, timeout: float) -> Self:
        client = QMPClient()
        try:
            async with asyncio.timeout(timeout):
                await client.connect(address)
        except TimeoutError:
            raise MonitorError("connect", GONE, "the monitor socket does not answer; is it in use?") from None
        except ConnectError as error:
            raise MonitorError("connect", GONE, f"no monitor: {error.exc}") from error
        return cls(client)

    # ---- life of the connection

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, from either side."""
        return self._client.runstate != Runstate.RUNNING

    async def wait_closed(self) -> None:
        """Return when the connection has ended."""
        await self._closed.wait()

    def on_event(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``callback`` with every event from now on; the answer is what stops that again.

        It runs on the event loop in the order QEMU sent them, so it must only note and wake.
        """
        self._on_event.append(callback)
        return lambda: self._on_event.remove(callback) if callback in self._on_event else None

    def on_close(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` once when the connection ends (at once if it has); answers the undoing."""
        if self._closed.is_set():
            callback()
            return lambda: None
        self._on_close.append(callback)
        return lambda: self._on_close.remove(callback) if callback in self._on_close else None

    async def close(self) -> None:
        """End the connection; harmless when it has ended. QEMU and the guest go on."""
        await self._disconnect()
        await self._closed.wait()

    async def _disconnect(self) -> None:
        # It re-raises whatever ended the connection (EOFError, OSError, a protocol error): the
        # connection is over either way, and those who wait for answers were told theirs.
        with contextlib.suppress(Exception):
            await self._client.disconnect()

    async def _watch(self) -> None:
        """Notice the end of the connection and tell everybody who asked."""
        while self._client.runstate == Runstate.RUNNING:
            await self._client.runstate_changed()
        await self._disconnect()
        self._closed.set()
        callbacks, self._on_close = self._on_close, []
        for callback in callbacks:
            self._call(callback)

    def _deliver(self, message: Mapping[str, Any]) -> bool:
        stamp = message.get("timestamp", {})
        seconds = stamp.get("seconds", 0) + stamp.get("microseconds", 0) / 1e6
        event = Event(message["event"], message.get("data", {}), seconds)
        for callback in list(self._on_event):
            self._call(callback, event)
        return False

    @staticmethod
    def _call(callback: Callable[..., None], *args: Event) -> None:
        try:
            callback(*args)
        except Exception:
            # A listener's mistake must not end the connection everybody shares.
            log.exception("a monitor callback failed")

    # ---- commands

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        timeout: float = 30,
    ) -> Any:
        """Send one command and answer its ``return`` value.

        Raises :class:`MonitorError` when QEMU refuses (or there is no connection: class
        ``Disconnected``, nothing was sent), :class:`OutcomeUnknown` when the connection died or
        ``timeout`` seconds passed after it was sent.
        """
        if self.closed:
            raise MonitorError(command, GONE, "QEMU is not connected; nothing was sent")
        try:
            async with asyncio.timeout(timeout):
                return await self._client.execute(command, arguments)
        except ExecuteError as error:
            raise MonitorError(command, error.error_class, str(error)) from error
        except ExecInterruptedError as error:
            raise OutcomeUnknown(f"{command}: the connection to QEMU ended before its answer") from error
        except TimeoutError:
            raise OutcomeUnknown(f"{command}: no answer from QEMU within {timeout:g} seconds") from None
        except QMPError as error:
            raise OutcomeUnknown(f"{command}: QEMU's answer was not understood: {error}") from error

    async def send_fd(self, name: str, fd: int) -> None:
        """Hand a descriptor to QEMU under ``name`` (``getfd``): a tap, a state file. Ours stays open."""
        await self._hand(fd, "getfd", {"fdname": name})

    async def add_fd(self, fd: int) -> int:
        """Hand over a descriptor as ``/dev/fdset/N``; answers N. Ours stays open."""
        answer = await self._hand(fd, "add-fd", {})
        return int(answer["fdset-id"])

    async def _hand(self, fd: int, command: str, arguments: Mapping[str, Any]) -> Any:
        """One descriptor and the command that takes it. QEMU keeps the descriptor that came last, so two
        who hand something over at once would get each other's."""
        async with self._handing:
            if self.closed:
                raise MonitorError(command, GONE, "QEMU is not connected; nothing was sent")
            self._client.send_fd_scm(fd)
            return await self.execute(command, arguments)

    async def query_status(self) -> str:
        """The run state in QEMU's words: running, paused, prelaunch, shutdown, internal-error, …"""
        return str((await self.execute("query-status"))["status"])

    async def cont(self) -> None:
        """Let the guest run."""
        await self.execute("cont")

    async def stop(self) -> None:
        """Pause the guest; its memory stays."""
        await self.execute("stop")

    async def system_reset(self) -> None:
        """Press the reset button."""
        await self.execute("system_reset")

    async def system_powerdown(self) -> None:
        """Press the power button (ACPI); what follows is the guest's affair."""
        await self.execute("system_powerdown")

    async def system_wakeup(self) -> None:
        """Wake a guest from S3."""
        await self.execute("system_wakeup")

    async def quit(self) -> None:
        """Ask QEMU to end now, without asking the guest. A lost answer counts as done: it ended."""
        with contextlib.suppress(OutcomeUnknown):
            await self.execute("quit")

    async def query_version(self) -> str:
        """``7.2.22``."""
        version = (await self.execute("query-version"))["qemu"]
        return f"{version['major']}.{version['minor']}.{version['micro']}"

    async def query_block(self) -> list[BlockInfo]:
        """Every drive the guest has, empty trays too."""
        return [_block(entry) for entry in await self.execute("query-block")]

    async def query_cpus(self) -> list[VCpu]:
        """The virtual CPUs that are plugged."""
        return [
            VCpu(int(cpu["cpu-index"]), int(cpu["thread-id"]), cpu.get("props", {}))
            for cpu in await self.execute("query-cpus-fast")
        ]

    async def query_balloon(self) -> int | None:
        """Bytes of memory the guest has now; ``None`` when it has no balloon."""
        try:
            return int((await self.execute("query-balloon"))["actual"])
        except MonitorError as error:
            if error.error_class in ("DeviceNotActive", "KVMMissingCap"):
                return None
            raise

    async def balloon(self, size: int) -> None:
        """Ask the guest to live with ``size`` bytes of memory."""
        await self.execute("balloon", {"value": size})

    async def set_password(self, protocol: str, password: str, expires: str = "+30") -> None:
        """Set the one password of the ``vnc`` or ``spice`` display; ``expires`` as QMP says it."""
        await self.execute("set_password", {"protocol": protocol, "password": password})
        await self.execute("expire_password", {"protocol": protocol, "time": expires})

    async def set_link(self, device: str, *, up: bool) -> None:
        """Plug or pull the cable of a network card (its id is the configuration key, ``net0``)."""
        await self.execute("set_link", {"name": device, "up": up})

    async def send_key(self, keys: Sequence[str], hold: int) -> None:
        """Press ``keys`` in order and let them go in reverse, by QEMU's names.

        ``hold`` milliseconds pass after each of these. Answers at once: QEMU keeps what is still to come.
        """
        wanted = [{"type": "qcode", "data": key} for key in keys]
        await self.execute("send-key", {"keys": wanted, "hold-time": hold})

    async def screendump(self, fdset: int, timeout: float = 10) -> None:
        """Write the screen, as a PPM picture, into what :meth:`add_fd` handed over (opened for writing only).

        Raises :class:`MonitorError` where there is no screen.
        """
        await self.execute("screendump", {"filename": f"/dev/fdset/{fdset}"}, timeout=timeout)

    async def human(self, command: str) -> str:
        """A command of the human monitor, for the few things QMP lacks (``info usernet``)."""
        return str(await self.execute("human-monitor-command", {"command-line": command}))


def _interrupted(cause: BaseException | None) -> bool:
    """Whether a connection failed over something else that came instead of QEMU's first answer."""
    refused = cause.exc if isinstance(cause, ConnectError) else None
    return isinstance(refused, NegotiationError) and isinstance(refused.exc, AssertionError)


def _block(entry: Mapping[str, Any]) -> BlockInfo:
    """One element of ``query-block``'s answer."""
    inserted: Mapping[str, Any] = entry.get("inserted") or {}
    cache: Mapping[str, Any] = inserted.get("cache") or {}
    return BlockInfo(
        device=str(entry.get("device") or entry.get("qdev") or ""),
        node_name=str(inserted.get("node-name", "")),
        filename=str(inserted.get("file", "")),
        driver=str(inserted.get("drv", "")),
        read_only=bool(inserted.get("ro", False)),
        direct=bool(cache.get("direct", False)),
        no_flush=bool(cache.get("no-flush", False)),
        writeback=bool(cache.get("writeback", False)),
        discard=str(inserted.get("discard", "")),
        detect_zeroes=str(inserted.get("detect_zeroes", "off")),
        io_status=str(entry.get("io-status", "ok")),
    )
