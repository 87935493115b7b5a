"""One port for pages, websockets and consoles: uvicorn with ``ws=ConsoleMux``."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvicorn
from consolekit import Browser, dial, wait_for

from console.mux import ConsoleMux

MIB = 1 << 20


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers pages with a word; echoes on every websocket that is no console."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"page"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": event["bytes"]})


class Web:
    """uvicorn in a thread, on a free port, in front of one console socket."""

    def __init__(self, console_socket: Path, http: str = "httptools", loop: str = "uvloop") -> None:
        mux = type("Mux", (ConsoleMux,), {"console_socket": str(console_socket)})
        config = uvicorn.Config(
            application, host="127.0.0.1", port=0, ws=mux, http=http, loop=loop, lifespan="off",
            log_config=None, ws_per_message_deflate=False, timeout_graceful_shutdown=2,
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_for("uvicorn", lambda: self.server.started)

    @property
    def address(self) -> tuple[str, int]:
        found: tuple[str, int] = self.server.servers[0].sockets[0].getsockname()
        return found

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture(scope="module", params=[("httptools", "uvloop"), ("h11", "asyncio")], ids="-".join)
def web(desk: Any, request: pytest.FixtureRequest) -> Iterator[Web]:
    found = Web(desk.address, *request.param)
    yield found
    found.stop()


@pytest.fixture(params=[False, True], ids=["handed-over", "piped"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to the proxy. Piped: as where TLS ends in the web server and a descriptor alone is no use."""
    if request.param:
        monkeypatch.setattr(ConsoleMux, "_hand_over", lambda self, head: False)


@pytest.mark.usefixtures("way")
def test_a_console_goes_through(desk: Any, web: Web) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    browser = desk.open(person, vm, address=web.address)
    greeting = f"VM{vm.vmid};".encode()
    assert (browser.status, browser.read(len(greeting))) == (101, greeting)
    for size in (1, 125, 126, 65_535, 65_536, 1_000_000):
        data = os.urandom(size)
        browser.send(data)
        assert browser.read(size) == data
    browser.close()
    wait_for("the proxy to notice", lambda: not any(c.vmid == vm.vmid for c in desk.server.registry.all()))
    wait_for("the mux to forget", lambda: not web.server.server_state.connections)


@pytest.mark.usefixtures("way")
def test_refusals_come_through_as_http(desk: Any, web: Web) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    headers = desk.headers(person, desk.mint(person, vm))
    browser = dial(web.address).upgrade(
        f"/vms/{vm.vmid}/vncwebsocket", {**headers, "Origin": "https://evil.example"}
    )
    assert (browser.status, browser.body) == (403, b"403 Forbidden\n")
    assert dial(web.address).upgrade("/vms/../vncwebsocket?x=1", headers).status == 403


def test_other_websockets_and_pages_are_uvicorns(desk: Any, web: Web) -> None:
    browser = dial(web.address).upgrade("/hints", {"Origin": "http://127.0.0.1:8006"})
    assert browser.status == 101
    browser.send(b"one")
    browser.send(b"two")
    assert browser.read(6) == b"onetwo"
    browser.send(b"\x03\xe8", opcode=8)
    assert browser.until_closed()[0] == 1000
    for path in ("/vncwebsocketx", "/x?y=/vncwebsocket"):
        assert dial(web.address).upgrade(path, {"Origin": "x"}).headers.get("server") is not None
    browser = dial(web.address)
    browser.link.sendall(b"GET /vms/101/vncwebsocket HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert browser.answer().body == b"page", "without an upgrade it is a page like any other"


@pytest.mark.usefixtures("way")
def test_the_other_sides_end_is_passed_on(desk: Any, web: Web) -> None:
    person, vm = desk.person(superuser=True), desk.vm()
    browser = desk.open(person, vm, address=web.address)
    assert browser.read(2) == b"VM"
    person.client.session.flush()
    assert browser.until_closed() == (4001, "signed out")


@pytest.mark.usefixtures("way")
def test_a_stalled_browser_costs_the_web_server_nothing(desk: Any, web: Web) -> None:
    person, vm = desk.person(superuser=True), desk.vm(flood=256 * MIB)
    screen = desk.screens[-1]
    before = psutil.Process().memory_info().rss
    browser = desk.open(person, vm, address=web.address)
    seen, pause = -1, threading.Event()
    while screen.sent != seen:
        seen = screen.sent
        pause.wait(0.5)
    assert 0 < screen.sent < 32 * MIB, "socket buffers, no more"
    assert psutil.Process().memory_info().rss - before < 24 * MIB
    assert len(browser.read(16 * MIB)) == 16 * MIB, "and it goes on when the browser does"
    person.client.session.flush()
    wait_for("its end", lambda: not any(c.vmid == vm.vmid for c in desk.server.registry.all()), 5)
    browser.close()
    screen.flood = 0


def test_consoles_through_the_mux_are_never_crossed(desk: Any, web: Web) -> None:
    person, vms = desk.person(superuser=True), [desk.vm() for _ in range(3)]

    def look(vm: Any) -> bool:
        browser: Browser = desk_open(vm)
        greeting, word = f"VM{vm.vmid};".encode(), os.urandom(8)
        browser.send(word)
        found = browser.read(len(greeting) + 8) == greeting + word
        browser.close()
        return found

    made = {(vm.pk, n): desk.headers(person, desk.mint(person, vm)) for vm in vms for n in range(30)}
    lock = threading.Lock()

    def desk_open(vm: Any) -> Browser:
        with lock:
            key = next(key for key in made if key[0] == vm.pk)
            headers = made.pop(key)
        return dial(web.address).upgrade(f"/vms/{vm.vmid}/vncwebsocket", headers)

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(look, vms * 30))


def test_without_a_proxy_it_says_503(home: Path) -> None:
    web = Web(home / "run" / "nobody.sock")
    browser = dial(web.address).upgrade("/vms/101/vncwebsocket", {"Origin": "http://127.0.0.1:8006"})
    assert browser.status == 503
    assert browser.body == b"The console proxy is not running.\n"
    web.stop()


def test_uvicorn_stops_and_its_consoles_go_on(desk: Any) -> None:
    web = Web(desk.address)
    person, vm = desk.person(superuser=True), desk.vm()
    browser = desk.open(person, vm, address=web.address)
    greeting = f"VM{vm.vmid};".encode()
    assert browser.read(len(greeting)) == greeting
    web.stop()
    browser.send(b"still here")
    assert browser.read(10) == b"still here"
    person.client.session.flush()
    assert browser.until_closed() == (4001, "signed out")
    browser.close()


@pytest.mark.parametrize("stalled", [False, True])
def test_uvicorn_stops_with_piped_consoles_open(
    desk: Any, stalled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ConsoleMux, "_hand_over", lambda self, head: False)
    web = Web(desk.address)
    person, vm = desk.person(superuser=True), desk.vm(flood=64 * MIB if stalled else 0)
    browser = desk.open(person, vm, address=web.address)
    assert browser.read(2)
    web.stop()
    desk.screens[-1].flood = 0
    assert browser.until_closed()[0] in (1006, 1000)
    wait_for("the proxy to notice", lambda: not any(c.vmid == vm.vmid for c in desk.server.registry.all()))


async def test_the_protocol_is_what_uvicorn_knows() -> None:
    config = uvicorn.Config(application, ws=ConsoleMux, lifespan="off")
    config.load()
    assert config.ws_protocol_class is ConsoleMux
    assert issubclass(ConsoleMux, asyncio.Protocol)
