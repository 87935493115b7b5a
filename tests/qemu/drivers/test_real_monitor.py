"""QMP as it really answers: commands, refusals, events, descriptors, ends."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from smallest import minimal

from vms.errors import MonitorError, OutcomeUnknown
from vms.host.paths import VMPaths
from vms.qemu import process
from vms.qemu.monitor import Event, Monitor
from vms.qemu.process import Launched


@pytest.fixture
async def up(paths: VMPaths) -> AsyncIterator[Launched]:
    extra = ["-blockdev", '{"driver":"null-co","node-name":"n","size":1048576,"read-zeroes":true}']
    extra += ["-device", "virtio-blk-pci,drive=n,id=virtio0,write-cache=on", "-device", "ide-cd,id=ide2"]
    extra += ["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,id=net0"]
    launched = await process.launch(minimal(paths, *extra), qmp=paths.qmp, log=paths.log)
    yield launched
    await process.terminate(launched.running)
    await launched.monitor.close()


async def test_answers_are_typed(up: Launched) -> None:
    monitor = up.monitor
    assert (await monitor.query_version()).split(".")[0].isdigit()
    assert [cpu.index for cpu in await monitor.query_cpus()] == [0]
    assert await monitor.query_balloon() is None
    drives = {drive.device: drive for drive in await monitor.query_block()}
    assert any(drive.driver == "null-co" and drive.writeback for drive in drives.values())
    assert drives["ide2"].filename == ""
    assert "type=user" in await monitor.human("info network")
    await monitor.set_link("net0", up=False)


async def test_a_refusal_says_why(up: Launched) -> None:
    with pytest.raises(MonitorError, match="no-such-command") as caught:
        await up.monitor.execute("no-such-command")
    assert caught.value.error_class == "CommandNotFound"
    with pytest.raises(MonitorError):
        await up.monitor.set_link("net9", up=True)


async def test_events_reach_callbacks_in_order_until_told_otherwise(up: Launched) -> None:
    heard: list[Event] = []
    two = asyncio.Event()

    def note(event: Event) -> None:
        heard.append(event)
        if len(heard) == 2:
            two.set()

    stop_listening = up.monitor.on_event(note)
    up.monitor.on_event(lambda event: 1 / 0)  # another listener's mistake is not ours
    await up.monitor.cont()
    await up.monitor.stop()
    async with asyncio.timeout(5):
        await two.wait()
    assert [event.name for event in heard] == ["RESUME", "STOP"]
    assert heard[0].seconds > 1e9
    stop_listening()
    await up.monitor.cont()
    assert await up.monitor.query_status() == "running"
    assert len(heard) == 2


async def test_events_do_not_pile_up(up: Launched) -> None:
    """The library would keep every event for the life of the connection."""
    for _ in range(10):
        await up.monitor.cont()
        await up.monitor.stop()
    gc.collect()
    assert up.monitor._client.events.history == ()


async def test_descriptors_are_handed_over(up: Launched, short: Path) -> None:
    path = short / "disk"
    path.write_bytes(bytes(1 << 20))
    number = os.open(path, os.O_RDONLY)
    fdset = await up.monitor.add_fd(number)
    await up.monitor.send_fd("named", number)
    os.close(number)
    path.unlink()
    options = {"driver": "file", "node-name": "handed", "filename": f"/dev/fdset/{fdset}", "read-only": True}
    await up.monitor.execute("blockdev-add", options)
    nodes = await up.monitor.execute("query-named-block-nodes")
    assert "handed" in {node["node-name"] for node in nodes}
    await up.monitor.execute("closefd", {"fdname": "named"})


async def test_one_socket_one_client(up: Launched, paths: VMPaths) -> None:
    with pytest.raises(MonitorError, match="in use"):
        await Monitor.connect(paths.qmp, timeout=0.3)
    assert await up.monitor.query_status() == "prelaunch"


async def test_nobody_there(short: Path) -> None:
    with pytest.raises(MonitorError) as caught:
        await Monitor.connect(short / "no.sock")
    assert caught.value.error_class == "Disconnected"


async def test_somebody_who_is_no_qemu(short: Path) -> None:
    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello?\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(chatter, short / "s")
    with pytest.raises(MonitorError):
        await Monitor.connect(short / "s", timeout=10)
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(MonitorError):
        await Monitor.over(ours)
    server.close()


async def test_closing_leaves_the_guest_and_can_be_done_twice(up: Launched, paths: VMPaths) -> None:
    closed: list[int] = []
    up.monitor.on_close(lambda: closed.append(1))
    await up.monitor.close()
    await up.monitor.close()
    assert closed == [1]
    up.monitor.on_close(lambda: closed.append(2))
    assert closed == [1, 2]
    with pytest.raises(MonitorError, match="nothing was sent"):
        await up.monitor.query_status()
    assert process.alive(up.running)
    again = await Monitor.connect(paths.qmp)
    assert await again.query_status() == "prelaunch"
    await again.close()


async def test_death_in_the_middle_is_outcome_unknown(up: Launched) -> None:
    """A stopped QEMU takes the command and dies before it answers."""
    os.kill(up.running.pid, signal.SIGSTOP)
    with pytest.raises(OutcomeUnknown, match="no answer from QEMU within"):
        await up.monitor.execute("query-status", timeout=0.2)
    waiting = asyncio.create_task(up.monitor.execute("query-status"))
    await asyncio.sleep(0)
    os.kill(up.running.pid, signal.SIGKILL)
    with pytest.raises(OutcomeUnknown, match="ended before its answer"):
        await waiting
    async with asyncio.timeout(10):
        await up.monitor.wait_closed()


async def test_quit_needs_no_answer(up: Launched) -> None:
    await up.monitor.quit()
    assert await process.wait_ended(up.running, 5)
    await up.monitor.close()
