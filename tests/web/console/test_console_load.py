"""The traps of a threaded websockify, each driven until it would have snapped."""

from __future__ import annotations

import os
import resource
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from consolekit import Browser, dial, wait_for

from vms.models import VM, AuditEntry

MIB = 1 << 20


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def prepared(desk: Any, person: Any, vms: list[VM]) -> list[tuple[VM, dict[str, str]]]:
    """For each VM a path and headers with a fresh ticket, so that openings race and minting does not."""
    return [(vm, desk.headers(person, desk.mint(person, vm))) for vm in vms]


def open_one(desk: Any, vm: VM, headers: dict[str, str]) -> Browser:
    return dial(desk.address).upgrade(f"/vms/{vm.vmid}/vncwebsocket", headers)


def test_no_two_consoles_are_ever_crossed(desk: Any, many_descriptors: None) -> None:
    """400 openings of four VMs' consoles, 16 at a time: every browser sees its own VM, all the time."""
    person = desk.person(superuser=True)
    vms = [desk.vm() for _ in range(4)]
    lock = threading.Lock()
    wrong: list[str] = []

    def look(work: tuple[VM, dict[str, str]]) -> None:
        vm, headers = work
        browser = open_one(desk, vm, headers)
        greeting = f"VM{vm.vmid};".encode()
        seen = browser.read(len(greeting))
        word = os.urandom(8)
        browser.send(word)
        if browser.status != 101 or seen != greeting or browser.read(8) != word:
            with lock:
                wrong.append(f"{vm.vmid} saw {seen!r} ({browser.status})")
        browser.close()

    for _ in range(5):  # tickets live shorter than 400 openings could take on a busy machine
        work = prepared(desk, person, vms * 20)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(look, work))
    assert wrong == []


def test_a_browser_that_stops_reading_costs_no_memory(desk: Any) -> None:
    """A screen that sends 256 MiB to a browser that takes nothing: the flood stops instead of piling up."""
    person, vm = desk.person(superuser=True), desk.vm(flood=256 * MIB)
    screen = desk.screens[-1]
    process = psutil.Process()
    before = process.memory_info().rss
    browser = desk.open(person, vm)
    assert browser.status == 101
    seen, pause = -1, threading.Event()
    while screen.sent != seen:  # until nothing moves any more
        seen = screen.sent
        pause.wait(0.5)
    assert 0 < screen.sent < 8 * MIB
    assert process.memory_info().rss - before < 16 * MIB
    assert process.cpu_percent(0.5) < 50, "it waits, it does not spin"
    for _ in range(64):
        assert len(browser.read(4 * MIB)) >= 4 * MIB
    assert process.memory_info().rss - before < 48 * MIB
    browser.close()


def test_a_screen_that_hangs_up_on_a_stalled_browser(desk: Any) -> None:
    """The hang-up cannot be passed on yet: neither lost bytes nor a spinning loop."""
    person, vm = desk.person(superuser=True), desk.vm(flood=2 * MIB)
    screen = desk.screens[-1]
    browser = desk.open(person, vm)
    wait_for("a stalled flood", lambda: screen.sent)
    process, pause = psutil.Process(), threading.Event()
    pause.wait(0.2)
    screen.hang_up()
    assert process.cpu_percent(0.5) < 50
    code, reason = browser.until_closed()
    assert (code, reason) == (1000, "the screen was closed")


def test_a_screen_that_stops_reading_costs_no_memory(desk: Any) -> None:
    """The other way round: a browser pastes without end at a guest that takes nothing."""
    person, vm = desk.person(superuser=True), desk.vm(flood=1 << 40)  # floods for ever, never reads
    browser = desk.open(person, vm)
    before = psutil.Process().memory_info().rss
    browser.link.settimeout(1)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 64 * MIB:
            browser.send(bytes(MIB))
            sent += MIB
    assert sent < 32 * MIB
    assert psutil.Process().memory_info().rss - before < 40 * MIB
    browser.close()
    desk.screens[-1].flood = 0


def test_descriptors_above_1023(desk: Any, many_descriptors: None) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    dummies = [os.open("/dev/null", os.O_RDONLY) for _ in range(1200)]
    try:
        browser = desk.open(person, vm)
        assert browser.link.fileno() > 1023
        greeting = f"VM{vm.vmid};".encode()
        assert browser.read(len(greeting)) == greeting
        data = os.urandom(300_000)
        browser.send(data)
        assert browser.read(len(data)) == data
        browser.close()
    finally:
        for descriptor in dummies:
            os.close(descriptor)


def test_open_consoles_hold_no_database_link(desk: Any) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    process = psutil.Process()

    def links() -> int:
        return sum(file.path == str(desk.home / "pvelite.sqlite3") for file in process.open_files())

    before = links()
    browsers = [desk.open(person, vm) for _ in range(12)]
    assert all(browser.read(1) for browser in browsers)
    wait_for("the links to be closed", lambda: links() <= before + 1)  # the sweeper's own may be new
    for browser in browsers:
        browser.close()


@pytest.mark.parametrize(
    "frames",
    [
        struct.pack(">BBQ", 0x82, 0xFF, 1 << 40) + bytes(4) + bytes(1 << 20),
        (struct.pack(">BBQ", 0x02, 0xFF, 1 << 20) + bytes(4) + bytes(1 << 20))
        + (struct.pack(">BBQ", 0x00, 0xFF, 1 << 20) + bytes(4) + bytes(1 << 20)) * 5,
    ],
    ids=["one frame of a TiB", "one message in endless pieces"],
)
def test_a_message_without_end(desk: Any, frames: bytes) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    browser = desk.open(person, vm)
    before = psutil.Process().memory_info().rss
    try:
        browser.link.sendall(frames)
        browser.link.sendall(bytes(64 << 20))
    except OSError:
        pass  # cut off while it was still talking
    wait_for(
        "the console's end",
        lambda: AuditEntry.objects.filter(action="console-close", target__contains=str(vm.vmid)).exists(),
    )
    assert "too large" in AuditEntry.objects.get(action="console-close", target__contains=str(vm.vmid)).target
    assert psutil.Process().memory_info().rss - before < 64 * MIB
    browser.close()
    again = desk.open(person, vm)
    assert again.read(2) == b"VM", "the others go on"
    again.close()
