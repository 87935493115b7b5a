"""The port for SPICE viewer programs: TLS, one-time passwords, and a real QEMU behind it."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from consolekit import wait_for
from django.utils import timezone
from spicekit import DENIED, GONE, QEMU, SpiceGuest, Viewer

from console import spicehandshake, viewerdoor
from console.certificate import ensure
from console.keyfiles import Files
from console.models import ConsoleTicket
from console.registry import TAKEN_OVER
from console.spicelink import CURSOR, DISPLAY, INPUTS, MAIN, message
from console.tickets import digest
from console.viewerdoor import ViewerDoor
from vms.models import VM, AuditEntry

pytestmark = [pytest.mark.qemu, pytest.mark.skipif(not QEMU, reason="needs QEMU")]


@pytest.fixture(scope="module")
def files(home: Any) -> Files:
    return ensure(home, "pve1")


@pytest.fixture(scope="module")
def door(desk: Any, home: Any, files: Files) -> Iterator[ViewerDoor]:
    found = ViewerDoor(("127.0.0.1", 0), files, home / "run", desk.server.registry)
    threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True).start()
    yield found
    found.close()


@pytest.fixture(scope="module")
def guest(desk: Any) -> Iterator[VM]:
    vm = desk.vm(screen=False, options={"vga": "qxl"})
    found = SpiceGuest(desk.home / "run" / "vm" / str(vm.vmid))
    yield vm
    found.end()


@pytest.fixture
def dial(door: ViewerDoor, files: Files) -> Iterator[Callable[[], Viewer]]:
    opened: list[Viewer] = []

    def call() -> Viewer:
        host, port = door.server_address[:2]
        opened.append(Viewer((str(host), int(port)), files.authority))
        return opened[-1]

    yield call
    for viewer in opened:
        viewer.close()


def given(desk: Any, vm: VM, person: Any = None) -> tuple[Any, str]:
    person = person or desk.person(superuser=True)
    return person, desk.mint(person, vm, kind="viewer")


def closed(desk: Any) -> None:
    wait_for("all consoles to close", lambda: not desk.server.registry.all())


def test_the_password_works_once(desk: Any, guest: VM, dial: Any) -> None:
    _, password = given(desk, guest)
    viewer = dial()
    assert viewer.link(password) == 0
    assert viewer.greeted() != 0
    kinds = viewer.channels()
    assert {DISPLAY, INPUTS, CURSOR} <= kinds
    assert [console.name for console in desk.server.registry.all()] == [f"{guest.vmid} viewer"]
    # Its further channels are part of the session: same password, same number.
    for kind in (DISPLAY, INPUTS):
        assert dial().link(password, session=viewer.session, channel=kind) == 0
    assert len(desk.server.registry.all()) == 3
    given(desk, guest)  # somebody is awaited, so a stranger gets as far as a password
    assert dial().link(password) == DENIED, "a second session with it"
    assert dial().link("not the password") == DENIED
    assert dial().link("") == DENIED
    viewer.close()
    closed(desk)
    assert dial().link(password) == DENIED, "nor after the session"
    written = AuditEntry.objects.filter(target__startswith=f"VM {guest.vmid} viewer")
    assert written.filter(action="console-open").count() == 1, "channels are no consoles of their own"


def test_it_works_for_thirty_seconds(desk: Any, guest: VM, dial: Any) -> None:
    person, password = given(desk, guest)
    row = ConsoleTicket.objects.filter(digest=digest(password))
    left = (row.get().expires - timezone.now()).total_seconds()
    assert 20 < left <= 30
    row.update(expires=timezone.now() - timedelta(seconds=1))
    given(desk, guest, person)
    assert dial().link(password) == DENIED
    closed(desk)


def test_nobody_awaited_nobody_greeted(desk: Any, guest: VM, dial: Any) -> None:
    ConsoleTicket.objects.all().delete()
    assert dial().link("x" * 43) == GONE
    assert dial().link(twist=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == GONE
    assert dial().link(session=12345, channel=DISPLAY) == GONE
    assert dial().link(twist=message(0, MAIN)[:15] + b"\xff" * 60) == GONE, "an endless link message"
    closed(desk)


def test_sessions_are_not_crossed(desk: Any, guest: VM, dial: Any) -> None:
    """A channel of somebody else's session, or of the right one with another password, is refused."""
    other = desk.vm(screen=False, options={"vga": "qxl"})
    machine = SpiceGuest(desk.home / "run" / "vm" / str(other.vmid))
    try:
        (_, mine), (_, theirs) = given(desk, guest), given(desk, other)
        first, second = dial(), dial()
        assert first.link(mine) == 0
        assert second.link(theirs) == 0
        assert first.greeted() != second.greeted()
        assert dial().link(mine, session=second.session, channel=DISPLAY) == DENIED
        assert dial().link(mine, session=first.session, channel=MAIN) == DENIED
        given(desk, guest)
        assert dial().link(mine, session=0, channel=DISPLAY) == DENIED
        assert {console.vmid for console in desk.server.registry.all()} == {guest.vmid, other.vmid}
        assert dial().link(theirs, session=second.session, channel=DISPLAY) == 0
        # The page's door takes no viewer's password, nor this door a page's ticket.
        person, password = given(desk, guest)
        answer = desk_upgrade(desk, person, guest, password)
        assert answer.status == 403
        assert dial().link(desk.mint(person, guest, kind="spice")) == DENIED
    finally:
        machine.end()
    first.close()
    closed(desk)


def desk_upgrade(desk: Any, person: Any, vm: VM, token: str) -> Any:
    from consolekit import dial as plain

    return plain(desk.address).upgrade(f"/vms/{vm.vmid}/vncwebsocket", desk.headers(person, token))


@pytest.mark.parametrize("what", ["signed out", "role taken", "next run"])
def test_what_ends_a_console_ends_a_viewer(desk: Any, guest: VM, dial: Any, what: str) -> None:
    person, password = given(desk, guest)
    _, late = given(desk, guest, person)
    viewer = dial()
    assert viewer.link(password) == 0
    viewer.greeted()
    channel = dial()
    assert channel.link(password, session=viewer.session, channel=DISPLAY) == 0
    run_id = guest.run_id
    try:
        if what == "signed out":
            person.client.session.flush()
        elif what == "role taken":
            person.user.is_superuser = False
            person.user.save()
        else:
            VM.objects.filter(pk=guest.pk).update(run_id=uuid.uuid4().hex)
        assert viewer.ended()
        assert channel.ended()
        assert dial().link(late) == DENIED
    finally:
        VM.objects.filter(pk=guest.pk).update(run_id=run_id)
    closed(desk)


def test_the_later_one_takes_over(desk: Any, guest: VM, dial: Any) -> None:
    """QEMU has one SPICE viewer: the former one is told who it was instead of fighting for it."""
    person = desk.person(superuser=True)
    page = desk.open(person, guest, kind="spice")
    assert page.status == 101
    other, password = given(desk, guest)
    viewer = dial()
    assert viewer.link(password) == 0
    viewer.greeted()
    code, words = page.until_closed()
    assert code == TAKEN_OVER
    assert other.user.username in words
    viewer.close()
    closed(desk)


def test_slow_strangers_are_cut_off(door: ViewerDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spicehandshake, "GREETING_LIMIT", 0.1)
    with socket.create_connection(door.server_address[:2], 60) as silent:
        assert silent.recv(1) == b""
    wait_for("its place", lambda: door.room._value == viewerdoor.STRANGERS)


def test_no_more_strangers_than_there_is_room(door: ViewerDoor) -> None:
    taken = [door.room.acquire(blocking=False) for _ in range(viewerdoor.STRANGERS)]
    try:
        with socket.create_connection(door.server_address[:2], 60) as late:
            assert late.recv(1) == b""
    finally:
        for _ in filter(None, taken):
            door.room.release()
