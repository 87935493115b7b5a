"""A serial line with many viewers: all hear what QEMU says on its one connection, and it waits for none."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from consolekit import Screen, wait_for

from console import line as lines
from console.line import Line, Lines
from console.target import connect
from vms.models import VM


def of(desk: Any, **options: str) -> tuple[VM, Screen]:
    vm = desk.vm(screen=False, options={"serial0": "socket", **options})
    return vm, desk.screen(vm.vmid, file="serial0.sock")


def test_one_connection_for_all_with_the_latest_output_first(desk: Any) -> None:
    person, (vm, screen) = desk.person(superuser=True), of(desk)
    first, greeting = desk.open(person, vm, kind="serial"), f"VM{vm.vmid};".encode()
    assert first.read(len(greeting)) == greeting
    first.send(b"one;")
    assert first.read(4) == b"one;"
    late = desk.open(person, vm, kind="serial")
    assert late.read(len(greeting) + 4) == greeting + b"one;", "a late one sees what was printed"
    late.send(b"two;")
    assert first.read(4) == late.read(4) == b"two;"
    first.close()
    late.send(b"three;")
    assert late.read(6) == b"three;", "one that leaves disturbs nobody"
    late.close()
    again = desk.open(person, vm, kind="serial")
    assert again.read(len(greeting) + 14) == greeting + b"one;two;three;", "the line is held for a while"
    assert len(screen.links) == 1
    again.close()


def test_each_port_is_a_line_of_its_own(desk: Any) -> None:
    person, (vm, first) = desk.person(superuser=True), of(desk, serial2="socket")
    third = desk.screen(vm.vmid, file="serial2.sock")
    viewer = desk.open(person, vm, kind="serial", port=2)  # kept: a link nobody holds is closed with it
    viewer.send(b"to the third")
    wait_for("the third port", lambda: third.received == b"to the third")
    assert not first.links
    viewer.close()


def test_a_new_run_is_a_new_line(desk: Any) -> None:
    person, (vm, screen) = desk.person(superuser=True), of(desk)
    before = desk.open(person, vm, kind="serial")
    before.read(2)
    screen.stop()
    assert before.until_closed()[0] == 1000
    desk.screen(vm.vmid, file="serial0.sock")
    vm.run_id = "f" * 32
    vm.save()
    greeting = f"VM{vm.vmid};".encode()
    after = desk.open(person, vm, kind="serial")
    assert after.read(len(greeting)) == greeting
    after.send(b"x")
    assert after.read(1) == b"x", "and nothing of the old one comes"
    after.close()


def test_a_restart_of_the_guests_end_in_the_same_run(desk: Any) -> None:
    """The line that ended is not given to the next viewer."""
    person, (vm, screen) = desk.person(superuser=True), of(desk)
    first = desk.open(person, vm, kind="serial")
    first.read(2)
    screen.hang_up()
    first.until_closed()
    second = desk.open(person, vm, kind="serial")
    assert second.read(2) == b"VM"
    assert len(screen.links) == 2
    second.close()


@pytest.fixture
def guest() -> Iterator[tuple[socket.socket, Line]]:
    """(the guest's end, a line that runs)."""
    theirs, ours = socket.socketpair()
    line = Line(ours)
    line.start()
    yield theirs, line
    theirs.close()
    line.join(5)
    assert not line.is_alive()


def test_a_viewer_that_does_not_read_loses_the_middle(guest: Any) -> None:
    end, line = guest
    reader, sleeper = line.view(), line.view()
    reader.settimeout(20)
    sleeper.settimeout(20)
    total, got = 4 << 20, 0
    for number in range(64):
        end.sendall(bytes([number]) * (total // 64))
        while got < (number + 1) * (total // 64):
            got += len(reader.recv(1 << 18))
    end.sendall(b"the end")
    assert reader.recv(100)[-7:] == b"the end"
    kept = max(len(viewer.backlog) for viewer in line.viewers.values())
    assert kept <= lines.BACKLOG + len(lines.LEFT_OUT) + 20
    heard = bytearray()
    while not heard.endswith(b"the end"):
        heard += sleeper.recv(1 << 18)
    assert b"bytes left out" in heard
    assert len(heard) < total // 2


def test_a_guest_that_takes_nothing_holds_the_viewers_back(guest: Any) -> None:
    """Bounded: what one pastes waits in its own socket, not in our memory."""
    end, line = guest
    viewer = line.view()
    viewer.setblocking(False)
    sent, chunk = 0, b"p" * 65536
    with pytest.raises(BlockingIOError):
        while True:
            sent += viewer.send(chunk)
            assert sent < 16 << 20
            if sent > 8 << 20:
                break
    wait_for("the line to hold back", lambda: len(line.todo) >= lines.INPUT)
    assert len(line.todo) <= lines.INPUT + lines.CHUNK
    end.settimeout(20)
    assert end.recv(10) == b"p" * 10


def test_a_line_without_viewers_is_let_go(tmp_path: Path) -> None:
    screen = Screen(tmp_path / "vm" / "100" / "console" / "serial0.sock", b"hello")
    held = Lines(linger=0.05)
    viewer = held.view(("a",), lambda: connect(tmp_path, 100, "serial"))
    viewer.settimeout(10)
    assert viewer.recv(5) == b"hello"
    viewer.close()
    wait_for("the line to end", lambda: all(line.over for line in held._held.values()))
    viewer = held.view(("a",), lambda: connect(tmp_path, 100, "serial"))
    viewer.settimeout(10)
    assert viewer.recv(5) == b"hello"
    assert len(screen.links) == 2
    viewer.close()
    screen.stop()
