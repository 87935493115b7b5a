"""Who may open a WebSocket, asked of the running server."""

from __future__ import annotations

import pytest
from supervised import House
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


def refused(house: House, path: str, origin: str | None) -> int:
    """The HTTP status that answers the handshake."""
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws://127.0.0.1:{house.port}{path}", origin=origin, open_timeout=10)  # type: ignore[arg-type]
    return caught.value.response.status_code


def test_origins_addresses_and_sessions(house: House) -> None:
    house.start()
    ours = f"http://127.0.0.1:{house.port}"
    foreign = ["http://evil.example", "null", f"https://127.0.0.1:{house.port}", "http://127.0.0.1:1", None]
    for origin in foreign:
        assert refused(house, "/ws/hints", origin) == 403, origin
    assert refused(house, "/ws/no-such-place", ours) == 403
    with connect(f"ws://127.0.0.1:{house.port}/ws/hints", origin=ours, open_timeout=10) as link:  # type: ignore[arg-type]
        with pytest.raises(ConnectionClosed) as caught:
            link.recv(timeout=10)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code >= 4000, "nobody is signed in: closed by us, with a reason of our own"
    log = (house.home / "log" / "web.log").read_text()
    assert "Traceback" not in log
    house.stop()
