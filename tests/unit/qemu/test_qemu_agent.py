"""The agent client against guests that answer well, badly, and not at all."""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from vms.errors import MonitorError, OutcomeUnknown
from vms.operations import freeze
from vms.qemu import agent as agent_module
from vms.qemu import guestfiles
from vms.qemu.agent import Agent

Answer = Callable[[dict[str, Any]], bytes | None]


class Guest:
    """A guest's side of the serial port: a script that answers line by line."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "qga.sock"
        self.answer: Answer = lambda message: json.dumps({"return": {}}).encode()
        self.noise = b""
        self.heard: list[dict[str, Any]] = []
        self.clients = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        try:
            while line := await reader.readline():
                message = json.loads(line.lstrip(b"\xff"))
                self.heard.append(message)
                if message["execute"] == "guest-sync-delimited":
                    answer = b"\xff" + json.dumps({"return": message["arguments"]["id"]}).encode()
                    writer.write(self.noise + answer + b"\n")
                elif (said := self.answer(message)) is not None:
                    writer.write(said + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.clients -= 1
            writer.close()


@pytest.fixture
async def guest() -> AsyncIterator[Guest]:
    with tempfile.TemporaryDirectory(prefix="pvd-", dir="/tmp") as folder:
        made = Guest(Path(folder))
        server = await asyncio.start_unix_server(made.serve, made.path)
        yield made
        server.close()
        await server.wait_closed()


def returns(value: object) -> Answer:
    return lambda message: json.dumps({"return": value}).encode()


async def test_ping_and_a_guest_that_is_silent(guest: Guest) -> None:
    agent = Agent(guest.path)
    assert await agent.ping()
    guest.answer = lambda message: None
    assert not await agent.ping(timeout=0.1)
    assert not await Agent(guest.path.with_name("nobody.sock")).ping()


async def test_leftovers_of_an_interrupted_call_are_skipped(guest: Guest) -> None:
    guest.noise = b'{"return": 1}\n{"ret\xff{"return": 17}\n'
    guest.answer = returns({"host-name": "web-01"})
    assert await Agent(guest.path).host_name() == "web-01"


async def test_calls_wait_for_each_other(guest: Guest) -> None:
    most = 0

    def answer(message: dict[str, Any]) -> bytes:
        nonlocal most
        most = max(most, guest.clients)
        return b'{"return": {}}'

    guest.answer = answer
    agent = Agent(guest.path)
    await asyncio.gather(*(agent.execute("guest-ping") for _ in range(5)))
    assert len([m for m in guest.heard if m["execute"] == "guest-ping"]) == 5
    assert most <= 2  # the last client may still be saying good-bye


async def test_a_refusal_is_the_agents_word(guest: Guest) -> None:
    guest.answer = lambda m: b'{"error": {"class": "CommandNotFound", "desc": "no guest-exec here"}}'
    with pytest.raises(MonitorError, match="no guest-exec here") as caught:
        await Agent(guest.path).run(["id"])
    assert caught.value.error_class == "CommandNotFound"


async def test_asked_and_then_silent_is_unknown(guest: Guest) -> None:
    guest.answer = lambda message: None
    with pytest.raises(OutcomeUnknown):
        await Agent(guest.path).execute("guest-exec", {"path": "x"}, timeout=0.2)


async def test_nobody_there_is_not_unknown() -> None:
    with pytest.raises(MonitorError) as caught:
        await Agent("/tmp/no/such.sock").execute("guest-ping")
    assert caught.value.error_class == "AgentSilent"


async def test_shutdown_needs_no_answer(guest: Guest) -> None:
    guest.answer = lambda message: None
    await Agent(guest.path).shutdown()
    assert guest.heard[-1] == {"execute": "guest-shutdown", "arguments": {"mode": "powerdown"}}


async def test_interfaces_are_typed(guest: Guest) -> None:
    guest.answer = returns([
        {"name": "eth0", "hardware-address": "02:00:00:00:00:01",
         "ip-addresses": [{"ip-address": "10.0.2.15", "ip-address-type": "ipv4", "prefix": 24}],
         "statistics": {"rx-bytes": 1000, "tx-bytes": 20, "rx-errs": 0}},
        {"name": "bad", "statistics": {"rx-bytes": 10**400, "tx-bytes": -1}},
    ])  # fmt: skip
    found, bad = await Agent(guest.path).interfaces()
    assert found.traffic == (1000, 20)
    assert bad.traffic is None
    assert (found.name, found.mac, found.addresses) == ("eth0", "02:00:00:00:00:01", (("10.0.2.15", 24),))


@pytest.mark.parametrize("value", [None, 7, "x", [], [1, None], {"ip-addresses": 3}, [{"ip-addresses": [5]}]])
async def test_a_hostile_guest_only_gets_nonsense_ignored(guest: Guest, value: object) -> None:
    guest.answer = returns(value)
    agent = Agent(guest.path)
    assert isinstance(await agent.interfaces(), list)
    assert isinstance((await agent.os_info()).name, str)
    assert (await agent.run_status(1)).exit_code is None


@pytest.mark.parametrize("line", [b"no json", b"[1]", b"{}", b'"x"'])
async def test_garbage_is_an_error_of_ours(guest: Guest, line: bytes) -> None:
    guest.answer = lambda message: line
    with pytest.raises((MonitorError, OutcomeUnknown)):
        await Agent(guest.path).execute("guest-info")


async def test_programs_in_the_guest(guest: Guest) -> None:
    agent = Agent(guest.path)
    guest.answer = returns({"pid": 77})
    assert await agent.run(["/bin/cat", "-"], input=b"hello") == 77
    assert guest.heard[-1]["arguments"]["input-data"] == base64.b64encode(b"hello").decode()
    guest.answer = returns({"exited": True, "exitcode": 3, "out-data": base64.b64encode(b"out").decode()})
    status = await agent.run_status(77)
    assert (status.exited, status.exit_code, status.stdout, status.stderr) == (True, 3, b"out", b"")


class Machine:
    """QEMU as one who waits for the agent sees it; the guest of ``state`` answers when it runs."""

    def __init__(self, guest: Guest) -> None:
        self.agent = Agent(guest.path)
        self.monitor: Any = self
        self.state = "running"

    async def query_status(self) -> str:
        return self.state


async def test_thawed_whatever_happens(guest: Guest) -> None:
    guest.answer = returns(2)
    machine: Any = Machine(guest)
    with pytest.raises(RuntimeError):
        async with freeze.frozen(machine) as count:
            assert (count, machine.agent.freezing) == (2, 1)
            raise RuntimeError
    assert guest.heard[-1]["execute"] == "guest-fsfreeze-thaw"
    assert (machine.agent.freezing, machine.agent.owed) == (0, False)


@pytest.mark.parametrize("silent", ["guest-fsfreeze-freeze", "guest-fsfreeze-thaw"])
@pytest.mark.parametrize("state", ["io-error", "paused"])
async def test_who_stands_still_is_not_waited_for(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, silent: str, state: str
) -> None:
    """Stopped while it freezes, or before it thaws: that stays owed."""
    monkeypatch.setattr(freeze, "GLANCE", 0.01)
    monkeypatch.setattr(freeze, "MOMENT", 0.05)
    machine: Any = Machine(guest)

    def answer(message: dict[str, Any]) -> bytes | None:
        if message["execute"] == silent:
            machine.state = state
        return None if machine.state == state else b'{"return": 1}'

    guest.answer = answer
    with pytest.raises(OutcomeUnknown, match=f"stands still \\({state}\\)"):
        async with freeze.frozen(machine):
            pass
    assert (machine.agent.freezing, machine.agent.owed) == (0, True)
    machine.state, guest.answer = "running", returns(1)
    assert await freeze.thaw(machine) == 1
    assert not machine.agent.owed


async def test_the_moment_of_another_task_is_waited_out(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freeze, "GLANCE", 0.01)
    machine: Any = Machine(guest)
    asked: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    machine.state = "paused"
    waiting = asyncio.ensure_future(freeze.while_it_runs(machine, asked))
    await asyncio.wait([waiting], timeout=0.1)
    assert not waiting.done()
    asked.set_result(3)
    assert await waiting == 3


async def test_an_agent_that_never_answers_a_thaw(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "THAW_TIMEOUT", 0.1)
    guest.answer = lambda message: b'{"return": 1}' if message["execute"].endswith("freeze") else None
    machine: Any = Machine(guest)
    with pytest.raises(OutcomeUnknown, match="fell silent"):
        async with freeze.frozen(machine):
            pass
    assert machine.agent.owed


class Files:
    """The agent's answers about one file, which takes what it is given in small pieces."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at, self.open = content, 0, 0

    def __call__(self, message: dict[str, Any]) -> bytes:
        return json.dumps(
            {"return": getattr(self, message["execute"][6:].replace("-", "_"))(message)}
        ).encode()

    def file_open(self, message: dict[str, Any]) -> int:
        self.open += 1
        return 7

    def file_read(self, message: dict[str, Any]) -> dict[str, Any]:
        piece = self.content[self.at : self.at + min(message["arguments"]["count"], 10)]
        self.at += len(piece)
        return {"buf-b64": base64.b64encode(piece).decode(), "eof": self.at == len(self.content)}

    def file_write(self, message: dict[str, Any]) -> dict[str, Any]:
        piece = base64.b64decode(message["arguments"]["buf-b64"])[:10]
        self.content += piece
        return {"count": len(piece)}

    def file_flush(self, message: dict[str, Any]) -> dict[str, Any]:
        return {}

    def file_close(self, message: dict[str, Any]) -> dict[str, Any]:
        self.open -= 1
        return {}


async def test_files_are_read_up_to_a_limit_and_closed(guest: Guest) -> None:
    text = bytes(range(64))
    for limit, expected in ((64, (text, False)), (63, (text[:63], True)), (100, (text, False))):
        guest.answer = files = Files(text)
        assert await guestfiles.read(Agent(guest.path), "/x", limit) == expected
        assert files.open == 0


async def test_files_are_written_piece_by_piece_and_closed(guest: Guest) -> None:
    guest.answer = files = Files(b"")
    assert await guestfiles.write(Agent(guest.path), "/x", b"y" * 64) == 64
    assert (files.content, files.open) == (b"y" * 64, 0)
    files.file_write = lambda message: {"count": 0}  # type: ignore[method-assign]
    with pytest.raises(MonitorError, match="only 0 bytes"):
        await guestfiles.write(Agent(guest.path), "/x", b"y")
    assert files.open == 0


async def test_a_ping_does_not_wait_for_a_long_answer(guest: Guest) -> None:
    guest.answer = lambda message: None
    agent = Agent(guest.path)
    trim = asyncio.create_task(agent.execute("guest-fstrim", timeout=30))
    while not agent.busy:
        await asyncio.sleep(0)
    assert not await agent.ping(timeout=0.1)
    trim.cancel()
