"""SPICE in a page: one ticket opens one session, its channels are bound to it, and QEMU survives it all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from consolekit import Browser, dial, wait_for
from spicekit import MINI, QEMU, Channel, SpiceGuest, in_browser

from console import tickets
from console.spicelink import CURSOR, DISPLAY, INPUTS, MAIN
from vms.errors import StateError
from vms.models import VM

pytestmark = [pytest.mark.qemu, pytest.mark.skipif(not QEMU, reason="needs QEMU")]
PLAYBACK = 5


@pytest.fixture(scope="module")
def machine(desk: Any) -> Iterator[tuple[VM, SpiceGuest]]:
    vm = desk.vm(screen=False, options={"vga": "qxl"})
    found = SpiceGuest(desk.home / "run" / "vm" / str(vm.vmid))
    yield vm, found
    found.end()


@pytest.fixture
def vm(machine: tuple[VM, SpiceGuest]) -> VM:
    return machine[0]


def upgrade(desk: Any, person: Any, vm: VM, token: str, **headers: str) -> Browser:
    given = {**desk.headers(person, token), **headers}
    return dial(desk.address).upgrade(f"/vms/{vm.vmid}/vncwebsocket", given)


def session(desk: Any, person: Any, vm: VM) -> tuple[str, Browser, Channel]:
    """A ticket, the websocket that used it up, and its greeted main channel."""
    token = desk.mint(person, vm, kind="spice")
    browser = upgrade(desk, person, vm, token)
    assert browser.status == 101
    main = in_browser(browser)
    assert main.link("whatever") == 0, "what a page says is no password: its ticket was"
    main.greeted()
    return token, browser, main


def closed(desk: Any) -> None:
    wait_for("all consoles to close", lambda: not desk.server.registry.all())


def test_one_ticket_one_session(desk: Any, vm: VM) -> None:
    person = desk.person(superuser=True)
    token, browser, main = session(desk, person, vm)
    assert {DISPLAY, INPUTS, CURSOR} <= main.channels()
    opened = []
    for kind in (DISPLAY, INPUTS, CURSOR):
        opened.append(upgrade(desk, person, vm, token))
        assert in_browser(opened[-1]).link(session=main.session, channel=kind) == 0
    assert len(desk.server.registry.all()) == 4
    # With the same ticket: no second session, no other session's channel, none that pages do not show.
    wrong = (
        (0, MAIN),
        (0, DISPLAY),
        (main.session ^ 1, DISPLAY),
        (main.session, MAIN),
        (main.session, PLAYBACK),
    )
    for number, kind in wrong:
        late = upgrade(desk, person, vm, token)
        in_browser(late).link(session=number, channel=kind)
        assert late.until_closed()[0] == 1008, (number, kind)
    browser.close()
    for each in opened:
        assert each.until_closed()[0] in (1000, 1001), "the channels end with their session"
    closed(desk)
    assert upgrade(desk, person, vm, token).status == 403, "used up"


def test_a_channel_needs_all_that_a_session_needs(desk: Any, vm: VM) -> None:
    person, other = desk.person(superuser=True), desk.person(superuser=True)
    token, browser, _ = session(desk, person, vm)
    assert upgrade(desk, other, vm, token).status == 403, "somebody else's session cookie"
    assert upgrade(desk, person, vm, token, Origin="https://evil.example").status == 403
    elsewhere = desk.vm(screen=False, options={"vga": "qxl"})
    assert upgrade(desk, person, elsewhere, token).status == 403, "another VM's address"
    person.user.is_superuser = False
    person.user.save()
    assert upgrade(desk, person, vm, token).status == 403, "the role was taken"
    assert browser.until_closed()[0] == 4003
    closed(desk)

    person.user.is_superuser = True
    person.user.save()
    token, browser, _ = session(desk, person, vm)
    person.client.logout()
    assert upgrade(desk, person, vm, token).status == 403, "signed out"
    assert browser.until_closed()[0] == 4001
    closed(desk)


def test_a_session_is_busy_or_idle_as_one(desk: Any, vm: VM) -> None:
    """Nobody talks on the main channel for hours while the keyboard is used; its bytes are the session's."""
    person = desk.person(superuser=True)
    token, browser, main = session(desk, person, vm)
    keys = upgrade(desk, person, vm, token)
    channel = in_browser(keys)
    assert channel.link(session=main.session, channel=INPUTS) == 0
    (first,) = (console for console in desk.server.registry.all() if console.main is None)
    before, counted = first.heard, first.bytes_in
    keys.send(MINI.pack(103, 4) + b"\x1e\0\0\0")  # a key goes down
    wait_for("it to count", lambda: first.bytes_in > counted and first.heard > before)
    browser.close()
    closed(desk)


def test_tickets_are_not_crossed(desk: Any, vm: VM) -> None:
    """A ticket for the screen opens no SPICE session, and one unused none of another kind."""
    person = desk.person(superuser=True)
    token = desk.mint(person, vm, kind="vnc")
    browser = upgrade(desk, person, vm, token)
    in_browser(browser).link()
    assert browser.until_closed()[0] == 1011, "this VM has no VNC socket; SPICE's was not taken instead"
    assert upgrade(desk, person, vm, token).status == 403
    closed(desk)


def test_refusals_in_words(desk: Any, vm: VM) -> None:
    person = desk.person(superuser=True)
    with pytest.raises(StateError, match="no way to only watch"):
        desk.mint(person, vm, kind="spice", view_only=True)
    plain = desk.vm(screen=False, options={"vga": "std"})
    with pytest.raises(StateError, match="no SPICE screen") as caught:
        desk.mint(person, plain, kind="spice")
    assert "Choose SPICE (qxl)" in caught.value.hint
    bare = VM.objects.get(pk=vm.pk)
    bare.node.facts = {"spice": False}
    with pytest.raises(StateError) as caught:
        tickets.mint(person.user, person.key, bare, kind="viewer", view_only=False)
    assert "without SPICE" in caught.value.hint


@pytest.mark.parametrize("said", ["nothing", "half a link", "no init"])
def test_a_tab_shut_at_the_wrong_moment_leaves_the_guest_alive(
    desk: Any, machine: tuple[VM, SpiceGuest], said: str
) -> None:
    """QEMU's SPICE library dies of a screen channel that ends before its first message."""
    vm, guest = machine
    person = desk.person(superuser=True)
    token, browser, main = session(desk, person, vm)
    screen = upgrade(desk, person, vm, token)
    if said == "half a link":
        screen.send(b"REDQ\x02\x00")
    elif said == "no init":
        assert in_browser(screen).link(session=main.session, channel=DISPLAY) == 0
    screen.close()
    wait_for("the channel to close", lambda: len(desk.server.registry.all()) == 1)
    assert guest.command("query-status")["running"] is False
    later = upgrade(desk, person, vm, token)
    channel = in_browser(later)
    assert channel.link(session=main.session, channel=DISPLAY) == 0
    channel.send(MINI.pack(101, 14) + b"\x01" + bytes(8) + b"\x01" + bytes(4))
    assert channel.message()[0] in range(1, 400), "the screen"
    later.close()
    browser.close()
    closed(desk)
    assert guest.command("query-status")["running"] is False
