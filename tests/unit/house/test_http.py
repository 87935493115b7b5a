"""The bridge from ASGI to WSGI: streaming both ways, torn bodies, forged headers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from pvelite.http import Bridge

PART = b"x" * 65536


def scope(headers: Iterable[tuple[bytes, bytes]] = (), query: bytes = b"") -> dict[str, Any]:
    return {
        "type": "http", "method": "PUT", "path": "/upload", "query_string": query, "headers": list(headers),
        "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 8006), "client": ("127.0.0.1", 5),
    }  # fmt: skip


class Client:
    """What uvicorn is to the bridge: a body to receive and a place to send to."""

    def __init__(self, parts: int = 0, torn: bool = False) -> None:
        self.parts, self.torn, self.asked = parts, torn, 0
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        if self.asked > self.parts and self.torn:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": PART, "more_body": self.asked < self.parts or self.torn}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def answer(start: Callable[..., Any], text: str) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]


async def test_a_body_comes_in_parts() -> None:
    sizes = []

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        while part := environ["wsgi.input"].read(len(PART)):
            sizes.append(len(part))
        return answer(start, str(sum(sizes)))

    client = Client(parts=40)
    await Bridge(app)(scope(), client.receive, client.send)
    assert client.body == str(40 * len(PART)).encode()
    assert max(sizes) == len(PART)


async def test_a_view_that_stops_reading_stops_the_server_from_receiving() -> None:
    go = threading.Event()

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        environ["wsgi.input"].read(len(PART))
        assert go.wait(10)
        return answer(start, "done")

    client = Client(parts=1000)
    request = asyncio.create_task(Bridge(app)(scope(), client.receive, client.send))
    async with asyncio.timeout(10):
        while client.asked == 0:
            await asyncio.sleep(0)
        for _ in range(200):  # every chance to run ahead
            await asyncio.sleep(0)
        assert client.asked <= 2
        go.set()
        await request


async def test_a_torn_body_is_an_error_not_an_end() -> None:
    seen: list[BaseException] = []

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        try:
            while environ["wsgi.input"].read(len(PART)):
                pass
        except OSError as error:
            seen.append(error)
        return answer(start, "")

    client = Client(parts=3, torn=True)
    await Bridge(app)(scope(), client.receive, client.send)
    assert isinstance(seen[0], ConnectionResetError)


async def test_a_slow_reader_stops_the_view() -> None:
    made = 0

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        nonlocal made
        start("200 OK", [])
        for _ in range(1000):
            made += 1
            yield PART

    client = Client(parts=1)
    reading = asyncio.Event()

    async def send(message: Any) -> None:
        await reading.wait()
        client.sent.append(message)

    request = asyncio.create_task(Bridge(app)(scope(), client.receive, send))
    async with asyncio.timeout(20):
        while made < 5:
            await asyncio.sleep(0)
        for _ in range(500):
            await asyncio.sleep(0)
        assert made < 20
        reading.set()
        await request
    assert len(client.body) == 1000 * len(PART)


@pytest.mark.parametrize("name", [b"x_forwarded_for", b"x_csrftoken", b"remote_user"])
async def test_a_header_with_an_underscore_never_arrives(name: bytes) -> None:
    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        return answer(start, repr(sorted(key for key in environ if key.startswith("HTTP_"))))

    client = Client(parts=1)
    await Bridge(app)(scope([(name, b"evil"), (b"x-good", b"1")]), client.receive, client.send)
    assert client.body == b"['HTTP_X_GOOD']"


async def test_raw_bytes_in_the_query_do_no_harm() -> None:
    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        return answer(start, environ["QUERY_STRING"])

    client = Client(parts=1)
    await Bridge(app)(scope(query=b"a=1&b=%20c+d&e=\xff"), client.receive, client.send)
    assert client.body == b"a=1&b=%20c+d&e=%FF"
