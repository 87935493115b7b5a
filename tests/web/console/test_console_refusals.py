"""Who may not: every guard is shown to reject, each with a proper answer, and to burn nobody's ticket."""

from __future__ import annotations

import stat
import uuid
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from consolekit import ORIGIN, dial, wait_for
from django.utils import timezone

from console import tickets
from console.models import ConsoleTicket
from vms.errors import AccessError, StateError
from vms.models import VM, AclEntry, AuditEntry


def attempt(desk: Any, path: str, headers: Any) -> int:
    browser = dial(desk.address).upgrade(path, headers)
    browser.close()
    return browser.status


def path_of(vm: VM) -> str:
    return f"/vms/{vm.vmid}/vncwebsocket"


def test_the_right_one_gets_in_once(desk: Any) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    headers = desk.headers(person, desk.mint(person, vm))
    browser = dial(desk.address).upgrade(path_of(vm), headers)
    assert browser.status == 101
    assert browser.headers["sec-websocket-protocol"] == "binary"
    assert "server" not in browser.headers or "Python" not in browser.headers["server"]
    greeting = f"VM{vm.vmid};".encode()
    assert browser.read(len(greeting)) == greeting
    browser.send(b"hello")
    assert browser.read(5) == b"hello"
    assert attempt(desk, path_of(vm), headers) == 403, "a ticket opens one console only"
    browser.send(b"still")
    assert browser.read(5) == b"still"
    browser.close()
    said = [f"VM {vm.vmid} vnc"]
    wait_for(
        "the audit",
        lambda: AuditEntry.objects.filter(action="console-close", target__contains=said[0]).exists(),
    )
    assert AuditEntry.objects.get(action="console-open", target=said[0]).username == person.user.username


def test_the_socket_is_ours_alone(desk: Any) -> None:
    assert stat.S_IMODE(desk.address.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "origin",
    [
        None, "", "null", "https://evil.example", "http://127.0.0.1", "http://127.0.0.1:80060", "https://127.0.0.1:8006",
        "http://127.0.0.1:8006.evil.example", "HTTP://127.0.0.1:8006/", [ORIGIN, "https://evil.example"],
    ],
)  # fmt: skip
def test_a_foreign_origin(desk: Any, origin: Any) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    good = desk.headers(person, desk.mint(person, vm))
    given = [] if origin is None else [origin] if isinstance(origin, str) else origin
    headers = [(name, value) for name, value in good.items() if name != "Origin"]
    headers += [("Origin", word) for word in given]
    assert attempt(desk, path_of(vm), headers) == 403
    assert attempt(desk, path_of(vm), good) == 101, "and it burnt nobody's ticket"


def test_another_session_and_another_user(desk: Any) -> None:
    anna, vm = desk.person(superuser=True), desk.vm()
    bert = desk.person(superuser=True)
    token = desk.mint(anna, vm)
    assert attempt(desk, path_of(vm), desk.headers(bert, token)) == 403
    elsewhere = anna.client.__class__()
    elsewhere.force_login(anna.user, backend="django.contrib.auth.backends.ModelBackend")
    other = type(anna)(anna.user, elsewhere)
    assert attempt(desk, path_of(vm), desk.headers(other, token)) == 403
    for cookie in (
        "",
        "sessionid=",
        "sessionid=short",
        f"sessionid={'x' * 32}",
        f"sessionid={'a' * 4000}",
        "a=b; ;;=",
    ):
        assert attempt(desk, path_of(vm), {**desk.headers(anna, token), "Cookie": cookie}) == 403
    assert attempt(desk, path_of(vm), desk.headers(anna, token)) == 101


def test_after_signing_out(desk: Any) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    headers = desk.headers(person, desk.mint(person, vm))
    person.client.session.flush()
    assert attempt(desk, path_of(vm), headers) == 403


def test_after_a_new_password(desk: Any) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    headers = desk.headers(person, desk.mint(person, vm))
    person.user.set_password("another")
    person.user.save()
    assert attempt(desk, path_of(vm), headers) == 403


def test_expired(desk: Any) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    assert tickets.LIFE.total_seconds() <= 30
    token = desk.mint(person, vm)
    ConsoleTicket.objects.filter(vm=vm).update(expires=timezone.now() - timedelta(milliseconds=1))
    assert attempt(desk, path_of(vm), desk.headers(person, token)) == 403
    tickets.sweep()
    assert not ConsoleTicket.objects.filter(vm=vm).exists()


def test_another_vms_address(desk: Any) -> None:
    person, vm, other = desk.person(superuser=True), desk.vm(), desk.vm()
    headers = desk.headers(person, desk.mint(person, vm))
    assert attempt(desk, path_of(other), headers) == 403
    assert attempt(desk, path_of(vm), headers) == 101


@pytest.mark.parametrize(
    "change",
    [
        {"run_id": uuid.uuid4().hex}, {"status": VM.Status.STOPPED}, {"status": VM.Status.UNKNOWN},
    ],
)  # fmt: skip
def test_after_the_run(desk: Any, change: dict[str, str]) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    headers = desk.headers(person, desk.mint(person, vm))
    VM.objects.filter(pk=vm.pk).update(**change)
    assert attempt(desk, path_of(vm), headers) == 403


def test_the_privilege_is_asked_twice(desk: Any) -> None:
    person, vm = desk.person(), desk.vm()
    with pytest.raises(AccessError, match=r"VM\.Console"):
        desk.mint(person, vm)
    entry = AclEntry.objects.create(path=vm.path, user=person.user, role="PVEVMUser")
    del person.user._pvelite_acl
    headers = desk.headers(person, desk.mint(person, vm))
    entry.delete()
    assert attempt(desk, path_of(vm), headers) == 403


def test_an_inactive_user(desk: Any) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    headers = desk.headers(person, desk.mint(person, vm))
    person.user.is_active = False
    person.user.save()
    assert attempt(desk, path_of(vm), headers) == 403


def test_no_ticket_for_what_shows_nothing(desk: Any) -> None:
    person = desk.person(superuser=True)
    stopped = desk.vm(screen=False, status=VM.Status.STOPPED)
    with pytest.raises(StateError, match="not running"):
        desk.mint(person, stopped)
    with pytest.raises(StateError, match="serial"):
        desk.mint(person, desk.vm(screen=False), kind="serial")
    for display in ("none", "serial0", "type=none,clipboard=vnc"):
        with pytest.raises(StateError, match="no screen"):
            desk.mint(person, desk.vm(screen=False, options={"vga": display}))
    with pytest.raises(AccessError, match="session"):
        tickets.mint(person.user, "", desk.vm(screen=False), kind="vnc", view_only=False)


@pytest.mark.parametrize(
    "bad",
    [
        "", "x", "../../../etc/passwd", "..%2f..%2fetc", "%00", "a" * 42, "a" * 44, "a" * 43, "a" * 60_000,
        "é" * 43, "a" * 42 + "\t", "'; DROP TABLE console_consoleticket; --", "/run/redis.sock",
        "unix_socket", "\x00" * 43,
    ],
)  # fmt: skip
def test_tokens_nobody_minted(desk: Any, bad: str) -> None:
    person, vm = desk.person(superuser=True), desk.vm(screen=False)
    status = attempt(desk, path_of(vm), desk.headers(person, bad))
    assert status in (400, 403, 414, 431)


def test_an_encoded_token_is_another_token(desk: Any) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    token = desk.mint(person, vm)
    encoded = "".join(f"%{ord(letter):02x}" for letter in token)
    for word in (encoded, quote(token + "\n"), token + "\x00", token + "=", token.swapcase()):
        assert attempt(desk, path_of(vm), desk.headers(person, word)) in (400, 403)
    assert attempt(desk, path_of(vm), desk.headers(person, token)) == 101


@pytest.mark.parametrize(
    "path",
    [
        "/vms/{}/../{}/vncwebsocket", "/vms/0{}/vncwebsocket", "/vms/{}/vncwebsocket/",
        "/vms/{}%00/vncwebsocket", "/vms/{}/vncwebsocket?token=x", "/vncwebsocket", "/vms//vncwebsocket",
        "/vms/99/vncwebsocket",
        "/vms/٣٣٣/vncwebsocket", "/vms/{}/console/vnc.sock", "http://127.0.0.1:8006/vms/{}/vncwebsocket",
    ],
)  # fmt: skip
def test_addresses(desk: Any, path: str) -> None:
    person, vm = desk.person(superuser=True), desk.vm(screen=False)
    headers = desk.headers(person, desk.mint(person, vm))
    whole = path.replace("{}", str(vm.vmid)).encode().decode("latin-1")
    assert attempt(desk, whole, headers) in (400, 403)


@pytest.mark.parametrize(
    "protocols", ["binary", "pvelite.ticket.{0}", "binary, pvelite.ticket.{0}, pvelite.ticket.{0}", ""]
)
def test_the_ticket_comes_as_subprotocol_once(desk: Any, protocols: str) -> None:
    person, vm = desk.person(superuser=True), desk.vm(screen=False)
    token = desk.mint(person, vm)
    headers = {**desk.headers(person, token), "Sec-WebSocket-Protocol": protocols.format(token)}
    assert attempt(desk, path_of(vm), headers) == 403
    assert (
        attempt(desk, f"{path_of(vm)}?token={token}", {**headers, "Sec-WebSocket-Protocol": "binary"}) == 403
    )


def test_plain_requests_get_a_plain_answer(desk: Any) -> None:
    for method, status in (("GET", 405), ("HEAD", 405), ("POST", 501), ("BREW", 501)):
        browser = dial(desk.address)
        browser.link.sendall(
            f"{method} /etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        assert browser.answer().status == status
        assert b"passwd" not in browser.body
        browser.close()
    browser = dial(desk.address)
    browser.link.sendall(b"\x00\xff nonsense\r\n\r\n")
    assert browser.answer().status in (0, 400)
    browser.close()


def test_a_screen_that_cannot_be_reached_says_so(desk: Any) -> None:
    person, vm = desk.person(superuser=True), desk.vm(screen=False)
    browser = desk.open(person, vm)
    assert (browser.status, browser.until_closed()) == (101, (1011, "the screen cannot be reached"))


def test_a_planted_link_is_not_followed(desk: Any) -> None:
    """A guest that broke out of QEMU owns its folder; it may not aim our privileged process elsewhere."""
    person, victim, evil = desk.person(superuser=True), desk.vm(), desk.vm(screen=False)
    folder = desk.home / "run" / "vm" / str(evil.vmid)
    (folder / "console").mkdir(parents=True)
    (folder / "console" / "vnc.sock").symlink_to(
        desk.home / "run" / "vm" / str(victim.vmid) / "console" / "vnc.sock"
    )
    assert desk.open(person, evil).until_closed()[0] == 1011
    (folder / "console" / "vnc.sock").unlink()
    (folder / "console").rmdir()
    (folder / "console").symlink_to(desk.home / "run" / "vm" / str(victim.vmid) / "console")
    assert desk.open(person, evil).until_closed()[0] == 1011
