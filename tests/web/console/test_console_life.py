"""How open consoles end: in seconds, for the right reason, and nobody else's."""

from __future__ import annotations

import time
from typing import Any

import pytest
from consolekit import ORIGIN, Screen, wait_for

from console import registry as codes
from console.proxy import ConsoleServer
from console.registry import Registry
from console.sweeper import EVERY
from vms.models import VM, AclEntry, AuditEntry


def sign_out(desk: Any, person: Any, vm: VM) -> None:
    person.client.session.flush()


def new_password(desk: Any, person: Any, vm: VM) -> None:
    person.user.set_password("another")
    person.user.save()


def disable(desk: Any, person: Any, vm: VM) -> None:
    type(person.user).objects.filter(pk=person.user.pk).update(is_active=False)


def take_role(desk: Any, person: Any, vm: VM) -> None:
    AclEntry.objects.filter(user=person.user).delete()


def change_role(desk: Any, person: Any, vm: VM) -> None:
    AclEntry.objects.filter(user=person.user).update(role="PVEAuditor")


def remove_user(desk: Any, person: Any, vm: VM) -> None:
    person.user.delete()


def remove_vm(desk: Any, person: Any, vm: VM) -> None:
    vm.delete()


def trash_vm(desk: Any, person: Any, vm: VM) -> None:
    VM.everything.filter(pk=vm.pk).update(stage=VM.Stage.TRASH)


def stop_vm(desk: Any, person: Any, vm: VM) -> None:
    VM.everything.filter(pk=vm.pk).update(status=VM.Status.STOPPED)


def restart_vm(desk: Any, person: Any, vm: VM) -> None:
    VM.everything.filter(pk=vm.pk).update(run_id="another")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (sign_out, codes.SIGNED_OUT), (new_password, codes.SIGNED_OUT), (disable, codes.SIGNED_OUT),
        (remove_user, codes.SIGNED_OUT), (take_role, codes.NOT_PERMITTED), (change_role, codes.NOT_PERMITTED),
        (remove_vm, codes.RUN_ENDED), (trash_vm, codes.RUN_ENDED), (stop_vm, codes.RUN_ENDED),
        (restart_vm, codes.RUN_ENDED),
    ],
)  # fmt: skip
def test_a_right_that_ends_closes_the_console(desk: Any, change: Any, code: int) -> None:
    assert EVERY <= 2
    vm, bystander = desk.vm(), desk.person(superuser=True)
    person = desk.person()
    AclEntry.objects.create(path=vm.path, user=person.user, role="PVEVMUser")
    mine, other_vm = desk.open(person, vm), desk.vm()
    theirs = desk.open(bystander, other_vm)
    assert mine.read(2) == theirs.read(2) == b"VM"
    begun = time.monotonic()
    change(desk, person, vm)
    assert mine.until_closed()[0] == code
    assert time.monotonic() - begun < 5
    theirs.read(len(f"{other_vm.vmid};"))  # the rest of the greeting
    theirs.send(b"still here")
    assert theirs.read(10) == b"still here"
    theirs.close()


def test_it_reaches_a_browser_that_does_not_read(desk: Any) -> None:
    person, vm = desk.person(superuser=True), desk.vm(flood=1 << 40)
    browser = desk.open(person, vm)
    wait_for("the console", lambda: any(c.vmid == vm.vmid for c in desk.server.registry.all()))
    person.client.session.flush()
    wait_for("its end", lambda: not any(c.vmid == vm.vmid for c in desk.server.registry.all()), 5)
    browser.close()
    desk.screens[-1].flood = 0


def test_the_screens_own_end(desk: Any) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    browser = desk.open(person, vm)
    assert browser.read(2) == b"VM"
    desk.screens[-1].hang_up()
    assert browser.until_closed() == (1000, "the screen was closed")


def test_a_browser_that_leaves_lets_the_screen_go(desk: Any) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    browser = desk.open(person, vm)
    assert browser.read(2) == b"VM"
    browser.send(b"\x03\xe8", opcode=8)
    assert browser.until_closed()[0] == 1000
    browser.close()
    end = {"action": "console-close", "target__startswith": f"VM {vm.vmid} vnc, "}
    entry = wait_for("the audit", lambda: AuditEntry.objects.filter(**end).first())
    assert "the browser left" in entry.target
    assert "bytes out" in entry.target


def test_an_idle_console_ends(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    browser = desk.open(person, vm)
    wait_for("the console", lambda: any(c.vmid == vm.vmid for c in desk.server.registry.all()))
    for console in desk.server.registry.all():
        if console.vmid == vm.vmid:
            console.heard -= 13 * 3600
    assert browser.until_closed()[0] == codes.IDLE


def test_so_many_a_vm_and_a_user(desk: Any) -> None:
    registry = desk.server.registry
    anna, bert = desk.person(superuser=True), desk.person(superuser=True)
    vm, other = desk.vm(), desk.vm()
    kept = registry.per_vm, registry.per_user
    registry.per_vm, registry.per_user = 2, 3
    try:
        browsers = [desk.open(anna, vm), desk.open(anna, vm)]
        assert all(browser.read(2) == b"VM" for browser in browsers)
        code, words = desk.open(bert, vm).until_closed()
        assert (code, words.split(";")[0]) == (codes.TOO_MANY, f"2 consoles of VM {vm.vmid} are open")
        browsers.append(desk.open(anna, other))
        assert browsers[-1].read(2) == b"VM"
        assert desk.open(anna, other).until_closed()[0] == codes.TOO_MANY
        browsers[0].close()
        wait_for("room", lambda: sum(c.vmid == vm.vmid for c in registry.all()) < 2)
        assert desk.open(bert, vm).read(2) == b"VM"
    finally:
        registry.per_vm, registry.per_user = kept


def test_view_only_drops_input_in_the_proxy(desk: Any) -> None:
    """What the server hears of a watcher: how it wants pixels, never a key, a click or a clipboard."""
    person, vm = desk.person(superuser=True), desk.vm()
    screen: Screen = desk.screens[-1]
    browser = desk.open(person, vm, view_only=True)
    hello = b"RFB 003.008\n" + b"\x01" + b"\x00"
    pixels, update = b"\x00" * 20, b"\x03\x01" + b"\x00" * 8
    key, pointer = b"\x04\x01\x00\x00\x00\x00\xff\x0d", b"\x05\x01\x00\x00\x00\x00"
    paste = b"\x06\x00\x00\x00\x00\x00\x00\x06rm -rf"
    extended_key = b"\xff\x00\x00\x01" + b"\x00\x00\xff\x0d" + b"\x00\x00\x00\x1c"
    for part in (
        hello,
        key + pixels,
        pointer,
        paste[:3],
        paste[3:] + extended_key + update,
        key[:5],
        key[5:],
    ):
        browser.send(part)
    browser.send(update)
    allowed = b"RFB 003.008\n\x01\x01" + pixels + update + update
    wait_for("what may pass", lambda: len(screen.received) >= len(allowed))
    assert bytes(screen.received) == allowed
    browser.send(b"\x77 what is this")
    browser.read(len(f"VM{vm.vmid};") + len(allowed))
    assert browser.until_closed()[0] == 1008
    assert bytes(screen.received) == allowed


def test_a_watched_serial_line_takes_nothing(desk: Any) -> None:
    person, vm = desk.person(superuser=True), desk.vm(screen=False, options={"serial0": "socket"})
    screen = desk.screen(vm.vmid, file="serial0.sock")
    watcher = desk.open(person, vm, kind="serial", view_only=True)
    typist = desk.open(person, vm, kind="serial")
    watcher.send(b"reboot\n")
    assert watcher.read(2) == typist.read(2) == b"VM"
    typist.send(b"ls\n")
    wait_for("the typed line", lambda: screen.received)
    assert bytes(screen.received) == b"ls\n"
    watcher.close()
    typist.close()


def test_a_second_proxy_does_not_take_the_socket(desk: Any) -> None:
    with pytest.raises(FileExistsError, match="already listening"):
        ConsoleServer(desk.address, desk.home / "run", [ORIGIN], Registry())
