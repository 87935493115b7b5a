"""The guest agent: a program inside the guest that answers over a virtio serial port.

Whatever it says is the guest's word: typed here, bounded in size and time, trusted nowhere. Its
socket serves one client, so each call connects, asks and leaves. With nobody inside the guest the
socket connects all the same and stays silent, hence the time limits.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vms.errors import MonitorError, OutcomeUnknown

ANSWER_LIMIT = 48 << 20
"""Bytes of the longest answer taken (16 MiB of output and of errors, in base64); more is a guest that wants
our memory."""
THAW_TIMEOUT = 180
"""Seconds a thaw may take, as in PVE."""

THAW_GREETING = 20
"""Seconds an agent that shall thaw has to answer at all within: one that is dead is not waited for longer."""

SILENT = "AgentSilent"
"""``MonitorError.error_class`` when nobody in the guest answers."""


@dataclass(frozen=True)
class Interface:
    """A network interface as the guest sees it.

    ``addresses`` are ``(address, prefix length)``; ``traffic`` is bytes (received, sent), None where this
    agent counts none.
    """

    name: str
    mac: str
    addresses: tuple[tuple[str, int], ...]
    traffic: tuple[int, int] | None = None


@dataclass(frozen=True)
class GuestOS:
    """What runs in the guest, in its own words; empty where it says nothing."""

    name: str
    pretty_name: str
    version: str
    kernel: str
    machine: str


@dataclass(frozen=True)
class ExecStatus:
    """A command inside the guest. ``exit_code`` is ``None`` while it runs or when a signal ended it.

    ``truncated``: the agent kept only the beginning of (output, errors).
    """

    exited: bool
    exit_code: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
    truncated: tuple[bool, bool] = (False, False)


class Agent:
    """The agent of one guest, behind the socket at ``path``. Calls queue up behind each other."""

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self._turn = asyncio.Lock()
        self.freezing = 0
        """How many hold the guest's file systems still just now, or try to."""
        self.owed = False
        """Whether the guest may be frozen and nobody could thaw it: whoever reaches it next is to do it."""

    @property
    def busy(self) -> bool:
        """Whether somebody waits for its answer: the socket serves one client."""
        return self._turn.locked()

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        timeout: float = 5,
        greeting: float | None = None,
    ) -> Any:
        """Ask and answer ``return``. ``greeting``: seconds somebody has to answer at all within.

        Raises :class:`MonitorError`: the agent refused, or (class ``AgentSilent``) nobody answered
        and nothing was asked; :class:`OutcomeUnknown` when it was asked and then fell silent.
        """
        asked = False
        try:
            async with self._turn, asyncio.timeout(timeout), self._connected() as (reader, writer):
                async with asyncio.timeout(greeting):
                    await self._synchronise(reader, writer)
                asked = True
                writer.write(_line(command, arguments))
                return _answer(command, await reader.readuntil(b"\n"))
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            if asked:
                raise OutcomeUnknown(f"{command}: the guest agent fell silent before it answered") from error
            raise MonitorError(command, SILENT, "the guest agent does not answer") from error

    async def tell(
        self, command: str, arguments: Mapping[str, Any] | None = None, timeout: float = 5
    ) -> None:
        """Say something that gets no answer when it succeeds (``guest-shutdown``)."""
        # A refusal comes at once; silence for a moment means it is being done.
        try:
            async with self._turn, asyncio.timeout(timeout), self._connected() as (reader, writer):
                await self._synchronise(reader, writer)
                writer.write(_line(command, arguments))
                await writer.drain()
                with contextlib.suppress(TimeoutError, EOFError):
                    async with asyncio.timeout(0.3):
                        _answer(command, await reader.readuntil(b"\n"))
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise MonitorError(command, SILENT, "the guest agent does not answer") from error

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=ANSWER_LIMIT)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @staticmethod
    async def _synchronise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Skip what an earlier, interrupted call left in the pipe, both ways."""
        token = secrets.randbits(31)
        # 0xFF resets the agent's parser, and it sends one before its answer.
        writer.write(b"\xff" + _line("guest-sync-delimited", {"id": token}))
        while True:
            await reader.readuntil(b"\xff")
            line = await reader.readuntil(b"\n")
            line = line[line.rfind(b"\xff") + 1 :]
            with contextlib.suppress(ValueError):
                if _mapping(json.loads(line)).get("return") == token:
                    return

    # ---- what is asked of it

    async def ping(self, timeout: float = 2) -> bool:
        """Whether somebody answers within ``timeout`` seconds, those in the queue included."""
        try:
            async with asyncio.timeout(timeout):
                await self.execute("guest-ping", timeout=timeout)
        except (MonitorError, OutcomeUnknown, TimeoutError):
            return False
        return True

    async def shutdown(self, mode: str = "powerdown") -> None:
        """Ask the guest to power off (``powerdown``), ``halt`` or ``reboot`` in good order."""
        await self.tell("guest-shutdown", {"mode": mode})

    async def interfaces(self) -> list[Interface]:
        """The guest's network interfaces with their addresses."""
        answer = await self.execute("guest-network-get-interfaces")
        return [_interface(_mapping(entry)) for entry in _sequence(answer)]

    async def os_info(self) -> GuestOS:
        """Which operating system runs there."""
        found = _mapping(await self.execute("guest-get-osinfo"))
        keys = ("name", "pretty-name", "version", "kernel-release", "machine")
        return GuestOS(*(str(found.get(key, ""))[:200] for key in keys))

    async def host_name(self) -> str:
        """What the guest calls itself."""
        return str(_mapping(await self.execute("guest-get-host-name")).get("host-name", ""))[:255]

    async def run(self, argv: Sequence[str], *, input: bytes = b"") -> int:
        """Start a program inside the guest and answer its number there, for :meth:`run_status`."""
        arguments: dict[str, Any] = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
        if input:
            arguments["input-data"] = base64.b64encode(input).decode()
        return _number(_mapping(await self.execute("guest-exec", arguments, timeout=30)).get("pid")) or 0

    async def run_status(self, pid: int) -> ExecStatus:
        """How a program started by :meth:`run` is doing; its output comes once, when it has ended."""
        found = _mapping(await self.execute("guest-exec-status", {"pid": pid}, timeout=30))
        return ExecStatus(
            exited=bool(found.get("exited")),
            exit_code=_number(found.get("exitcode")),
            signal=_number(found.get("signal")),
            stdout=_decoded(found.get("out-data", "")),
            stderr=_decoded(found.get("err-data", "")),
            truncated=(bool(found.get("out-truncated")), bool(found.get("err-truncated"))),
        )

    async def freeze(self, timeout: float) -> int:
        """Let the file systems be written out and stand still; answers how many do. :meth:`thaw` ends it."""
        return _number(await self.execute("guest-fsfreeze-freeze", timeout=timeout)) or 0

    async def thaw(self) -> int:
        """Let the file systems go on; answers how many were frozen."""
        answer = await self.execute("guest-fsfreeze-thaw", timeout=THAW_TIMEOUT, greeting=THAW_GREETING)
        return _number(answer) or 0

    async def still(self) -> bool:
        """Whether the guest's file systems are frozen."""
        return str(await self.execute("guest-fsfreeze-status")) == "frozen"


def _line(command: str, arguments: Mapping[str, Any] | None) -> bytes:
    message: dict[str, Any] = {"execute": command}
    if arguments is not None:
        message["arguments"] = dict(arguments)
    return json.dumps(message).encode() + b"\n"


def _answer(command: str, line: bytes) -> Any:
    message = _mapping(json.loads(line))
    if "return" in message:
        return message["return"]
    error = _mapping(message.get("error"))
    raise MonitorError(
        command,
        str(error.get("class", "GenericError"))[:100],
        str(error.get("desc", "no answer we know"))[:500],
    )


def _mapping(value: object) -> Mapping[str, Any]:
    """The guest's word as a mapping; an empty one when it is something else."""
    return value if isinstance(value, dict) else {}


def _sequence(value: object) -> Sequence[Any]:
    return value[:256] if isinstance(value, list) else []


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _interface(entry: Mapping[str, Any]) -> Interface:
    addresses = tuple(
        (str(address.get("ip-address", ""))[:64], _number(address.get("prefix")) or 0)
        for address in map(_mapping, _sequence(entry.get("ip-addresses")))
    )
    counted = _mapping(entry.get("statistics"))
    traffic = [_number(counted.get(name)) for name in ("rx-bytes", "tx-bytes")]
    sound = [value for value in traffic if value is not None and 0 <= value < 1 << 63]
    return Interface(
        str(entry.get("name", ""))[:64], str(entry.get("hardware-address", ""))[:32], addresses,
        traffic=(sound[0], sound[1]) if len(sound) == 2 else None,
    )  # fmt: skip


def _decoded(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except ValueError:
        return b""
