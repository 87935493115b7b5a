"""How a monitor begins: with whatever QEMU says first."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from vms.errors import MonitorError
from vms.qemu.monitor import Monitor

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}
EVENT = {"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 0}}


class Server:
    """What stands for QEMU; the first ``early`` connections hear of an event before their answer."""

    def __init__(self, folder: Path, early: int) -> None:
        self.path = folder / "qmp.sock"
        self.early = early
        self.clients = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        first = [EVENT] if self.clients <= self.early else []
        await self.say(writer, GREETING)
        while asked := await reader.read(4096):
            number = json.loads(asked).get("id")
            for message in (*first, {"return": {"status": "running"}, "id": number}):
                await self.say(writer, {key: one for key, one in message.items() if one is not None})
            first = []
        writer.close()

    @staticmethod
    async def say(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        writer.write(json.dumps(message).encode() + b"\r\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory(prefix="pvd-", dir="/tmp") as folder:
        made = Server(Path(folder), request.param)
        listening = await asyncio.start_unix_server(made.serve, made.path)
        yield made
        listening.close()
        await listening.wait_closed()


@pytest.mark.parametrize("server", [0, 1, 2], indirect=True)
async def test_an_event_that_comes_first_is_no_refusal(server: Server) -> None:
    monitor = await Monitor.connect(server.path)
    assert await monitor.query_status() == "running"
    assert server.clients == server.early + 1
    await monitor.close()


@pytest.mark.parametrize("server", [99], indirect=True)
async def test_what_only_talks_is_no_qemu(server: Server) -> None:
    with pytest.raises(MonitorError, match="Negotiation failed"):
        await Monitor.connect(server.path)
    assert server.clients == 3
